import { Writable } from 'node:stream'
import { pino } from 'pino'
import { runCli } from '../../src/cli/commands.ts'
import { type Clock, systemClock } from '../../src/clock.ts'

export interface CliResult {
  readonly code: number
  readonly out: string
  readonly err: string
}

export interface CliOptions {
  readonly env?: Readonly<Record<string, string>>
  readonly clock?: Clock
  readonly signal?: AbortSignal
  /** Makes stderr a terminal. */
  readonly terminal?: boolean
  /** Called with what is written to stderr, as it is. */
  readonly onErr?: (text: string) => void
}

/** Runs a command as `lifeboat` does, in this process. */
export async function cli(argv: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  const out = new Kept()
  const err = Object.assign(new Kept(options.onErr), options.terminal ? { isTTY: true, columns: 80 } : {})
  const code = await runCli(argv, {
    out,
    err,
    env: options.env ?? {},
    user: 'tester',
    signal: options.signal ?? new AbortController().signal,
    clock: options.clock ?? systemClock,
    version: { version: '1.2.3', revision: 'abc' },
    makeLog: (level) => pino({ level }, err),
  })
  return { code, out: out.text, err: err.text }
}

class Kept extends Writable {
  text = ''
  readonly #onText: ((text: string) => void) | undefined

  constructor(onText?: (text: string) => void) {
    super()
    this.#onText = onText
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.text += chunk.toString()
    this.#onText?.(chunk.toString())
    done()
  }
}
