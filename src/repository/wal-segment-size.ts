import { LifeboatError } from '../domain/errors.ts'
import { firstLsn, parseWalName } from '../domain/wal.ts'
import { longHeaderSize, readWalPageHeader } from '../domain/wal-page.ts'
import type { StoredWalObject, WalStore } from './wal.ts'
import { readWalHead } from './wal-content.ts'

/** Segments that are opened before it is given up: the first ones of so many timelines. */
const mostTried = 8
const perTimeline = 3

/**
 * The size that segments of a system have, as stored ones say in their headers. Names do not tell it: those of large
 * segments are possible for small ones, too, and where only some are stored, a wrong guess would make gaps of what is none.
 * So a header is believed that is of this system, and fits its name; `sawSegments` is false where none is stored.
 *
 * @throws LifeboatError what the storage says, when none could be read
 */
export async function readSegmentSize(
  wal: Pick<WalStore, 'timelines' | 'list' | 'read'>,
  systemIdentifier: string,
  signal: AbortSignal,
): Promise<{ readonly size: number | null; readonly sawSegments: boolean }> {
  let tried = 0
  let failure: LifeboatError | null = null
  for await (const timeline of wal.timelines(systemIdentifier, { signal })) {
    let here = 0
    for await (const object of wal.list(systemIdentifier, timeline, { signal })) {
      if (object.kind !== 'segment') continue
      try {
        const size = await sizeIn(wal, object, signal)
        if (size !== null) return { size, sawSegments: true }
      } catch (error) {
        // One that is gone, or on a bad spot of the disk.
        if (!(error instanceof LifeboatError) || error.code === 'cancelled') throw error
        if (error.code !== 'object-missing') failure = error
      }
      here += 1
      tried += 1
      if (here >= perTimeline || tried >= mostTried) break
    }
    if (tried >= mostTried) break
  }
  if (failure !== null) throw failure
  return { size: null, sawSegments: tried > 0 }
}

async function sizeIn(
  wal: Pick<WalStore, 'read'>,
  object: StoredWalObject,
  signal: AbortSignal,
): Promise<number | null> {
  const header = readWalPageHeader(await readWalHead(wal, object, longHeaderSize, { signal }))
  if (header === null || header.systemIdentifier !== object.systemIdentifier) return null
  const file = parseWalName(object.name, header.segmentSize)
  return file?.kind === 'segment' && firstLsn(file.segment, header.segmentSize) === header.address
    ? header.segmentSize
    : null
}
