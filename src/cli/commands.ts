import { LifeboatError } from '../domain/errors.ts'
import { adoptCommand } from './adopt.ts'
import { backupCommand } from './backup.ts'
import { checkCommand } from './check.ts'
import type { CliContext, Command } from './command.ts'
import { demoCommand } from './demo.ts'
import { drillCommand } from './drill.ts'
import { expireCommand } from './expire.ts'
import { holdCommand } from './hold.ts'
import { initCommand } from './init.ts'
import { listCommand } from './list.ts'
import { planCommand } from './plan.ts'
import { report } from './report.ts'
import { reportCommand } from './report-command.ts'
import { restoreCommand } from './restore.ts'
import { serveCommand } from './serve.ts'
import { tokenCommand } from './token.ts'
import { verifyCommand } from './verify.ts'
import { walCommand } from './wal.ts'

export const commands: readonly Command[] = [
  serveCommand,
  backupCommand,
  listCommand,
  planCommand,
  verifyCommand,
  restoreCommand,
  drillCommand,
  expireCommand,
  holdCommand,
  checkCommand,
  reportCommand,
  initCommand,
  walCommand,
  adoptCommand,
  tokenCommand,
  demoCommand,
]

/** Runs what the arguments name. Gives the exit code; every failure has been told on stderr. */
export async function runCli(argv: readonly string[], context: CliContext): Promise<number> {
  const [name, ...rest] = argv
  try {
    if (name === '--version' || name === 'version') {
      context.out.write(`lifeboat ${context.version.version} (${context.version.revision})\n`)
      return 0
    }
    if (name === undefined || name === 'help' || name === '--help' || name === '-h') {
      context.out.write(helpText(rest[0]))
      return 0
    }
    if (rest.includes('--help') || rest.includes('-h')) {
      context.out.write(helpText(name))
      return 0
    }
    return await commandOf(name).run(rest, context)
  } catch (error) {
    return report(error, argv, context)
  }
}

function commandOf(name: string): Command {
  const found = commands.find((command) => command.name === name)
  if (found !== undefined) return found
  throw new LifeboatError('usage-invalid', `there is no command ${JSON.stringify(name)}`, {
    hint: `one of ${commands.map((one) => one.name).join(', ')}`,
  })
}

function helpText(name: string | undefined): string {
  if (name === undefined) {
    const lines = commands.map((command) => `  ${command.name.padEnd(9)} ${command.summary}\n`)
    return `lifeboat keeps a PostgreSQL cluster recoverable, and proves it.\n\nUsage: lifeboat COMMAND [OPTION]…\n\n${lines.join('')}\nlifeboat help COMMAND tells more; lifeboat --version the version.\n`
  }
  const { summary, usage, options } = commandOf(name)
  const lines = options.map(([flag, meaning]) => `  ${flag}\n        ${meaning}\n`)
  return `${summary}\n\nUsage: lifeboat ${usage}\n\n${lines.join('')}`
}
