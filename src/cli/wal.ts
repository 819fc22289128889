import { LifeboatError } from '../domain/errors.ts'
import { type Command, configHelp, configOption, jsonHelp, jsonOption, parse } from './command.ts'
import { setUpArchiving } from './wal-setup.ts'

export const walCommand: Command = {
  name: 'wal',
  summary: 'set the server up to archive its WAL',
  usage: 'wal setup [--apply [--replace]] [--programs DIRECTORY] [--json]',
  options: [
    ['setup', 'show what to set for wal.archive, and what needs a restart; the server is never restarted'],
    ['--apply', 'set it, with ALTER SYSTEM'],
    ['--replace', 'also in place of another archive_command or archive_library'],
    [
      '--programs DIRECTORY',
      'where the server finds lifeboat-archive and lifeboat-restore-wal (default: in this installation)',
    ],
    configHelp,
    jsonHelp,
  ],
  async run(argv, context) {
    const { values, positionals } = parse(
      'wal',
      argv,
      {
        ...configOption,
        ...jsonOption,
        apply: { type: 'boolean' },
        replace: { type: 'boolean' },
        programs: { type: 'string' },
      },
      1,
    )
    const [what] = positionals
    if (what !== 'setup') {
      const message = what === undefined ? 'what about the WAL?' : `there is no command wal ${JSON.stringify(what)}`
      throw new LifeboatError('usage-invalid', message, { hint: 'lifeboat wal setup' })
    }
    if (values.replace && !values.apply) throw new LifeboatError('usage-invalid', '--replace goes with --apply only')
    return setUpArchiving(values, context)
  },
}
