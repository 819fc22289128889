import { segmentName } from '../domain/wal.ts'
import type { WalStore } from '../repository/wal.ts'
import { firstStored, type ListedTimeline, listShelves } from './stored-listing.ts'
import { shelfOf } from './stored-shelves.ts'

/** Segments before the newest one that are always looked at: several are stored at once, and partials come late. */
const lookBack = 64

interface KnownTimeline extends ListedTimeline {
  readonly wal: Pick<WalStore, 'list' | 'ofSegment'>
}

/**
 * Looks for what is new on a timeline of which something is known: at its end, at its beginning, where expiry removes, and in
 * one gap, which somebody else may have filled; what comes before the beginning is one. `afterGap`: where to look for the
 * gap; gives the place for the next time.
 */
export async function lookAtTimeline(place: KnownTimeline, afterGap: number, signal: AbortSignal): Promise<number> {
  await lookAtBeginning(place, signal)
  await lookAtEnd(place, signal)
  return lookAtGap(place, afterGap, signal)
}

/** Where expiry removes. */
export async function lookAtBeginning(place: KnownTimeline, signal: AbortSignal): Promise<void> {
  const { system, timeline, wal } = place
  const begin = system.coverage.segments(timeline).first
  if (begin === null) return
  const name = segmentName(timeline, begin, system.coverage.segmentSize)
  const found = await wal.ofSegment(system.systemIdentifier, name, { signal })
  if (found.some(({ kind }) => kind === 'segment')) return
  const first = await firstStored(place, begin, signal)
  await listShelves(place, { from: shelfOf(begin), signal, ...(first === null ? {} : { to: shelfOf(first) }) })
}

/** Where shipping adds. */
export async function lookAtEnd(place: KnownTimeline, signal: AbortSignal): Promise<void> {
  const end = place.system.coverage.segments(place.timeline).last
  await listShelves(place, { from: end === null ? 0 : shelfOf(Math.max(0, end - lookBack)), signal })
}

/** See `lookAtTimeline`. */
export async function lookAtGap(place: KnownTimeline, afterGap: number, signal: AbortSignal): Promise<number> {
  const set = place.system.coverage.segments(place.timeline)
  const gap = set.gaps(afterGap, set.last ?? -1).next().value
  if (!gap) return 0
  const filled = await firstStored(place, gap.first, signal)
  if (filled !== null && filled <= gap.last)
    await listShelves(place, { from: shelfOf(filled), to: shelfOf(gap.last), signal })
  return gap.last + 1
}
