import { createCore } from '../core.ts'
import { LifeboatError } from '../domain/errors.ts'
import { chooseRepositories } from '../repository/choose.ts'
import { type Command, configHelp, configOf, configOption, parse } from './command.ts'

export const adoptCommand: Command = {
  name: 'adopt',
  summary: 'accept that a repository was replaced by another one',
  usage: 'adopt REPOSITORY',
  options: [['REPOSITORY', 'its name in the configuration; what is stored there now counts from now on'], configHelp],
  async run(argv, context) {
    const { values, positionals } = parse('adopt', argv, configOption, 1)
    const [name] = positionals
    if (name === undefined) throw new LifeboatError('usage-invalid', 'which repository? give its name')
    const config = await configOf(values, context)
    chooseRepositories(config.repositories, name)
    const { clock, version, signal } = context
    const log = context.makeLog('silent', 'err')
    const core = await createCore(config, { clock, log, version: version.version })
    try {
      const found = core.repositories.find(({ repository }) => repository.name === name)
      await found?.repository.adopt({ signal })
      context.out.write(`${name}: what is in ${found?.path ?? 'the bucket'} is this repository from now on\n`)
    } finally {
      await core.close()
    }
    return 0
  },
}
