import type { Clock } from '../clock.ts'
import { VerdictError } from './level-recorder.ts'
import { freeBytes } from './work-folder.ts'

/** Left free on the disk of a work folder: it may be that of the server whose backups these are. */
export const reserveBytes = 128 * 1024 * 1024

/** Half a second of a fast disk is what can be written in between. */
const lookEveryMs = 250

export interface RoomOptions {
  readonly clock: Clock
  readonly folder: string
  /** Name of the check that the verdict is noted for. */
  readonly check: string
  readonly signal: AbortSignal
  /** Free bytes of the folder's disk; default: what the system says. */
  readonly free?: (folder: string) => Promise<number>
}

/**
 * Does work that writes into a folder as long as its disk has room. How much comes out of a dump of another tool nobody
 * knows before, and a dump that means harm may never end.
 *
 * @throws VerdictError `disk-full` when the reserve was touched, as soon as the work has ended; else what the work throws
 */
export async function whileRoom<T>(options: RoomOptions, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const { clock, folder, check, free = freeBytes } = options
  const [full, over] = [new AbortController(), new AbortController()]
  const watching = (async () => {
    for (;;) {
      await clock.sleep(lookEveryMs, over.signal)
      const left = await free(folder)
      if (left >= reserveBytes || over.signal.aborted) continue
      const words = `stopped when ${folder} had ${left} bytes free, of which ${reserveBytes} are left alone`
      full.abort(new VerdictError('inconclusive', 'disk-full', check, words))
      return
    }
  })().catch(() => undefined) // over; and a folder that cannot be asked will tell the work itself
  try {
    return await work(AbortSignal.any([options.signal, full.signal]))
  } catch (error) {
    throw full.signal.aborted && !options.signal.aborted ? full.signal.reason : error
  } finally {
    over.abort()
    await watching
  }
}
