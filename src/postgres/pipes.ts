import type { Socket } from 'node:net'
import type { Readable, Writable } from 'node:stream'
import { finished, pipeline } from 'node:stream/promises'
import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises'
import { isLender, type Lender } from '../domain/lender.ts'

/**
 * Gives the program its input. Resolves with the error of a source that failed: the program is then ended, or it would
 * take the short input for the whole. A program that closes its input first is no error: its exit status tells the story.
 */
export async function feed(
  stdin: Writable,
  input: string | Uint8Array | Readable | undefined,
  end: () => void,
): Promise<Error | null> {
  stdin.on('error', () => {})
  if (input === undefined || typeof input === 'string' || input instanceof Uint8Array) {
    stdin.end(input)
    return null
  }
  let failure: Error | null = null
  const tooShort = () => new Error('the input was closed before its end')
  const fail = (error: Error) => {
    if (stdin.destroyed) return // the program closed it first; the pipeline then gives the source that very error
    failure ??= error
    end()
  }
  input.once('error', fail)
  // Destroyed without an error, it ends as short as one that failed.
  input.once('close', () => {
    if (!input.readableEnded) fail(tooShort())
  })
  if (input.destroyed) fail(input.errored ?? tooShort())
  await (isLender(input) ? lendTo(stdin, input) : pipeline(input, stdin)).catch(() => input.destroy())
  return failure
}

/** As `pipeline`: whichever ends too early takes the other with it. */
async function lendTo(stdin: Writable, input: Readable & Lender): Promise<void> {
  stdin.once('close', () => input.destroy())
  try {
    await input.lend(
      (piece) =>
        new Promise((resolve, reject) => {
          stdin.write(piece, (error) => (error ? reject(error) : resolve()))
        }),
    )
    stdin.end()
    await finished(stdin)
  } catch (error) {
    stdin.destroy()
    throw error
  }
}

/** A grandchild that left the group may hold the pipes open; once they were quiet for so long after the exit, we close them. */
const pipeGraceMs = 500

/** Closes pipes in which nothing has moved for the grace and nothing waits to be read; after an abort, in any case. */
export async function closeQuietPipes(
  pipes: readonly Socket[],
  signal: AbortSignal | undefined,
  gone: AbortSignal,
): Promise<void> {
  const open = new Map(pipes.map((pipe) => [pipe, -1]))
  while (open.size > 0) {
    try {
      await delay(pipeGraceMs, undefined, { signal: gone })
      // A loop that was held up runs its timers first: let it read before we look, or the end of the output is lost.
      await nextTurn(undefined, { signal: gone })
    } catch {
      return
    }
    for (const [pipe, seen] of open) {
      if (signal?.aborted || (pipe.bytesRead === seen && pipe.readableLength === 0)) {
        pipe.destroy()
        open.delete(pipe)
      } else open.set(pipe, pipe.bytesRead)
    }
  }
}
