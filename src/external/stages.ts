import { type ProgramExit, type ProgramOptions, startChain } from '../postgres/programs.ts'

/** What a chain of programs left: the last bytes that the last one printed, and how each of them ended. */
export interface ChainEnd {
  readonly output: Buffer
  readonly exits: readonly ProgramExit[]
}

/** More than any of our chains prints. */
const maxOutput = 256 * 1024

/**
 * Runs programs each of which reads what the one before prints. The bytes between them do not pass through this process:
 * a dump of gigabytes costs it nothing. Never fails because of how a program ended: every end is handed out.
 *
 * @throws LifeboatError `program-missing`, `program-failed` when one cannot be started; the signal's reason
 */
export async function runChain(stages: readonly ProgramOptions[], signal: AbortSignal): Promise<ChainEnd> {
  const running = await startChain(stages.map((stage) => ({ ...stage, signal })))
  const chunks: Buffer[] = []
  let size = 0
  running.at(-1)?.stdout.on('data', (chunk: Buffer) => {
    size += chunk.length
    if (size <= maxOutput) chunks.push(chunk)
  })
  const exits = await Promise.all(running.map(({ exited }) => exited))
  signal.throwIfAborted()
  return { output: Buffer.concat(chunks), exits }
}

/** The next program had read all that it wanted and closed its end; that is no fault of this one. */
export function wasCutByReader({ signal, stderr }: ProgramExit): boolean {
  return signal === 'SIGPIPE' || /Broken pipe|Connection reset by peer/.test(stderr)
}
