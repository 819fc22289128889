import type { WalPosition } from '../domain/coverage.ts'
import { segmentAt, segmentBefore } from '../domain/wal.ts'
import type { StoredSystem } from './wal-state.ts'

/** What the WAL on the way to a timeline takes as stored, from one place to another, bytes; null where it is not known. */
export function storedWalBytes(
  { coverage, storedBytes }: Pick<StoredSystem, 'coverage' | 'storedBytes'>,
  timeline: number,
  { from, to }: { readonly from: WalPosition; readonly to: WalPosition },
): number | null {
  if (storedBytes === undefined) return null
  const { segmentSize, timelines } = coverage
  const stretches = timelines.lineage(timeline)
  const [first, last] = [segmentAt(from.lsn, segmentSize), segmentBefore(to.lsn, segmentSize)]
  let sum = 0
  for (const [index, { timeline, begin }] of stretches.entries()) {
    // The segment in which a timeline begins is the new one's.
    const next = stretches[index + 1]
    const own = next === undefined ? last : segmentAt(next.begin, segmentSize) - 1
    sum += storedBytes(timeline, Math.max(first, segmentAt(begin, segmentSize)), Math.min(last, own))
  }
  return sum
}
