import { type Command, parse } from './command.ts'

export const demoCommand: Command = {
  name: 'demo',
  summary: 'show it all on a throw-away PostgreSQL: backup, proof, damage noticed, a moment restored',
  usage: 'demo [--once] [--keep]',
  options: [
    ['--once', 'leave when the account is told; exit 0 only if every step held'],
    ['--keep', 'leave its directory behind'],
  ],
  async run(argv, { out, signal, version, env }) {
    const { values } = parse('demo', argv, { once: { type: 'boolean' }, keep: { type: 'boolean' } })
    const noColor = env.NO_COLOR !== undefined && env.NO_COLOR !== ''
    const { runDemo } = await import('../demo/demo.ts') // nobody else needs it
    return runDemo({ once: values.once === true, keep: values.keep === true, out, signal, version, noColor })
  },
}
