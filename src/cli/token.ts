import { randomBytes } from 'node:crypto'
import { kinds } from '../config/kinds.ts'
import { roles } from '../config/validated.ts'
import { LifeboatError } from '../domain/errors.ts'
import { makeToken } from '../http/tokens.ts'
import { type Command, jsonHelp, jsonOption, oneOf, parse } from './command.ts'

export const tokenCommand: Command = {
  name: 'token',
  summary: 'make a bearer token and the line for the configuration',
  usage: 'token NAME [--role ROLE] [--json]',
  options: [
    ['NAME', 'who it is for; stands in the history'],
    ['--role ROLE', `${roles.join(', ')} (default: operator)`],
    jsonHelp,
  ],
  async run(argv, { out }) {
    const { values, positionals } = parse('token', argv, { ...jsonOption, role: { type: 'string' } }, 1)
    const [name] = positionals
    if (name === undefined)
      throw new LifeboatError('usage-invalid', 'who is the token for? give a name', {
        hint: 'for example: lifeboat token ops',
      })
    kinds.label.check(name) // what the configuration would refuse is refused here
    const role = oneOf('--role', values.role, roles) ?? 'operator'
    const { token, sha256 } = makeToken(randomBytes)
    if (values.json) out.write(`${JSON.stringify({ name, role, token, sha256 }, null, 2)}\n`)
    else {
      out.write(`token (shown once, keep it safe): ${token}\n\nauth:\n  tokens:\n`)
      out.write(`    - { name: ${JSON.stringify(name)}, role: ${role}, sha256: ${sha256} }\n`)
    }
    return 0
  },
}
