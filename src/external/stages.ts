import { type ProgramExit, type ProgramOptions, type RunningProgram, startProgram } from '../postgres/programs.ts'

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
  const failing = new AbortController()
  const both = AbortSignal.any([signal, failing.signal])
  const running: RunningProgram[] = []
  try {
    for (const stage of stages) {
      const after = running.at(-1)
      running.push(await startProgram({ ...stage, signal: both, ...(after === undefined ? {} : { after }) }))
    }
  } catch (error) {
    // What was started would wait for a reader that does not come.
    failing.abort()
    running.at(-1)?.stdout.destroy()
    await Promise.all(running.map(({ exited }) => exited))
    throw error
  }
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
