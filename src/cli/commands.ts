import { LifeboatError } from '../domain/errors.ts'
import { adoptCommand } from './adopt.ts'
import { backupCommand } from './backup.ts'
import { checkCommand } from './check.ts'
import { type CliContext, type Command, forEach } from './command.ts'
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
      context.out.write(helpText(rest[0], rest[1]))
      return 0
    }
    if (rest.includes('--help') || rest.includes('-h')) {
      context.out.write(helpText(name, rest[0]))
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

/** @param word the one after the name, where that stands for several commands: then it is help for that one alone */
function helpText(name: string | undefined, word?: string): string {
  if (name === undefined) {
    const lines = commands.map((command) => `  ${command.name.padEnd(9)} ${command.summary}\n`)
    return `lifeboat keeps a PostgreSQL cluster recoverable, and proves it.\n\nUsage: lifeboat COMMAND [OPTION]…\n\n${lines.join('')}\nlifeboat help COMMAND tells more; lifeboat --version the version.\n`
  }
  const { summary, usage, options } = commandOf(name)
  const usages = usage.split(/\n +lifeboat /)
  const own = usages.filter((one) => `${one} `.startsWith(`${name} ${word} `))
  const isPart = word !== undefined && own.length > 0 && options.some(([flag]) => flag === forEach)
  const asked = isPart ? optionsOf(name, word, options) : options
  const lines = asked.map(([flag, meaning]) => (meaning === '' ? `\n${flag}\n` : `  ${flag}\n        ${meaning}\n`))
  const called = isPart ? own.join('\n       lifeboat ') : usage
  return `${summary}\n\nUsage: lifeboat ${called}\n\n${lines.join('').replace(/^\n/, '')}`
}

/** Those below the heading that has the word (`lifeboat wal fetch, prefetch: …`), and those of all. */
function optionsOf(name: string, word: string, options: Command['options']): Command['options'] {
  const prefix = `lifeboat ${name} `
  let isOwn = false
  return options.filter(([flag, meaning]) => {
    if (meaning !== '') return isOwn
    const words = flag.startsWith(prefix) ? flag.slice(prefix.length).split(':')[0]?.split(', ') : []
    isOwn = flag === forEach || words?.includes(word) === true
    return isOwn && flag !== forEach
  })
}
