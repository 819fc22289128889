import { resolve } from 'node:path'
import { createInterface } from 'node:readline/promises'
import { type Finding, lookAround } from '../init/look-around.ts'
import { exists, refuseExisting, writeNew } from '../init/write-new.ts'
import { type CliContext, type Command, jsonHelp, jsonOption, parse } from './command.ts'
import { oneLine, printable } from './format.ts'

const defaultFile = '/etc/lifeboat/lifeboat.yaml'

const options = {
  ...jsonOption,
  dsn: { type: 'string' },
  'look-in': { type: 'string', multiple: true },
  'watch-only': { type: 'boolean' },
  write: { type: 'boolean' },
  output: { type: 'string', short: 'o' },
} as const

export const initCommand: Command = {
  name: 'init',
  summary: 'look around, and write a configuration of what is there',
  usage: 'init [--watch-only] [--dsn DSN] [--look-in DIRECTORY]… [--output FILE] [--write] [--json]',
  options: [
    ['--watch-only', 'nothing but directories in which other tools put dumps: no server is asked'],
    [
      '--dsn DSN',
      'the server, as libpq writes it (default: PGHOST and its like, else the usual sockets and localhost)',
    ],
    ['--look-in DIRECTORY', 'look for dumps there too; may be given several times'],
    ['-o, --output FILE', `where it goes (default: $LIFEBOAT_CONFIG, else ${defaultFile}); never overwritten`],
    ['--write', 'write it without asking; otherwise it is shown, and on a terminal asked for'],
    jsonHelp,
  ],
  run: (argv, context) => runInit(argv, context),
}

/** @param places where to look, for tests */
export async function runInit(
  argv: readonly string[],
  context: CliContext,
  places: { readonly root?: string; readonly localPort?: number } = {},
): Promise<number> {
  const { values } = parse('init', argv, options)
  const { out, env, user, clock, signal } = context
  const file = resolve(values.output ?? (env.LIFEBOAT_CONFIG || defaultFile))
  if (values.write) await refuseExisting(file)
  const { findings, config, namesSecret } = await lookAround({
    ...places,
    dsn: values.dsn ?? null,
    lookIn: (values['look-in'] ?? []).map((directory) => resolve(directory)),
    watchOnly: values['watch-only'] === true,
    env,
    osUser: user,
    clock,
    signal,
  })
  const write = () => writeNew(file, config, namesSecret ? 0o600 : 0o644)
  if (values.json) {
    if (values.write) await write()
    out.write(`${JSON.stringify({ findings, config, file, written: values.write === true }, null, 2)}\n`)
    return 0
  }
  for (const finding of findings) out.write(lineOf(finding))
  out.write(`\n${config}\n`)
  if (!values.write && (await exists(file))) {
    out.write(`${oneLine(file)} is there already, and is not overwritten: --output names another\n`)
  } else if (values.write || (await agrees(context, `write this to ${oneLine(file)}? [y/N] `))) {
    await write()
    if (namesSecret)
      out.write(
        `only ${printable(user)} can read it: if lifeboat runs as another OS user, give it to that one (chown)\n`,
      )
    out.write(`written to ${oneLine(file)}; next: lifeboat check --config ${oneLine(file)}\n`)
  } else {
    out.write(`nothing was written; --write writes it to ${oneLine(file)}\n`)
  }
  return 0
}

function lineOf({ area, status, what }: Finding): string {
  return `${status.padEnd(6)} ${area.padEnd(11)} ${oneLine(what)}\n`
}

/** Only somebody at a terminal can be asked. */
async function agrees({ input, out, signal }: CliContext, question: string): Promise<boolean> {
  if (input?.isTTY !== true || !('isTTY' in out && out.isTTY === true)) return false
  const lines = createInterface({ input, output: out, terminal: false })
  try {
    // The end of the input is an answer too.
    const closed = new Promise<string>((done) => lines.once('close', () => done('')))
    return /^y(es)?$/i.test((await Promise.race([lines.question(question, { signal }), closed])).trim())
  } catch (error) {
    signal.throwIfAborted()
    throw error
  } finally {
    lines.close()
  }
}
