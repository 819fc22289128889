import { segmentName } from '../domain/wal.ts'
import type { WalStore } from '../repository/wal.ts'
import { ShelfBuilder, type StoredShelves, shelfOf, shelfSegments } from './stored-shelves.ts'

export interface ListedTimeline {
  readonly wal: Pick<WalStore, 'list'>
  readonly system: StoredShelves
  readonly timeline: number
  /** Fails when the repository is not there: then nothing of it has vanished either. */
  readonly confirm: () => Promise<void>
}

/**
 * Lists one timeline from a shelf on, and puts what it finds in the place of what was known. Ends behind the shelf `to`, or
 * when `most` shelves were found. Gives the next shelf to list, null at the end of the timeline.
 */
export async function listShelves(
  { wal, system, timeline, confirm }: ListedTimeline,
  options: { readonly from: number; readonly to?: number; readonly most?: number; readonly signal: AbortSignal },
): Promise<number | null> {
  const { from, to = Number.POSITIVE_INFINITY, most = Number.POSITIVE_INFINITY, signal } = options
  const listing = system.begin(timeline)
  const known = system.shelves(timeline, from, to).values()
  let nextKnown = known.next().value
  let [open, builder, found]: [number, ShelfBuilder, number] = [-1, new ShelfBuilder(), 0]
  const settle = async (shelf: number, content: ShelfBuilder) => {
    if (system.loses(timeline, shelf, content)) await confirm()
    signal.throwIfAborted()
    system.put(listing, shelf, content)
  }
  /** Settles the open shelf, and those before the limit of which nothing was found. */
  const settleBefore = async (limit: number) => {
    for (; nextKnown !== undefined && nextKnown < limit; nextKnown = known.next().value) {
      if (nextKnown !== open) await settle(nextKnown, new ShelfBuilder())
    }
    if (open >= 0) await settle(open, builder)
  }
  try {
    for await (const object of wal.list(system.systemIdentifier, timeline, {
      signal,
      ...(from === 0 ? {} : { from: segmentName(timeline, from * shelfSegments, system.coverage.segmentSize) }),
    })) {
      const file = system.parse(object.name)
      if (file === null) continue
      const shelf = shelfOf(file.segment)
      if (shelf !== open) {
        await settleBefore(Math.min(shelf, to + 1))
        ;[open, builder] = [-1, new ShelfBuilder()]
        if (shelf > to || found >= most) return shelf
        open = shelf
        found += 1
      }
      builder.add(file, { ...object, bytes: object.info.bytes })
    }
    await settleBefore(Number.POSITIVE_INFINITY)
    return null
  } finally {
    system.end(listing)
  }
}

/** The first whole segment that is stored at or after a place; null if there is none. Costs the same however many there are. */
export async function firstStored(
  { wal, system, timeline }: Pick<ListedTimeline, 'wal' | 'system' | 'timeline'>,
  from: number,
  signal: AbortSignal,
): Promise<number | null> {
  const at = from === 0 ? {} : { from: segmentName(timeline, from, system.coverage.segmentSize) }
  for await (const { name } of wal.list(system.systemIdentifier, timeline, { signal, ...at })) {
    const file = system.parse(name)
    if (file?.kind === 'segment') return file.segment
  }
  return null
}
