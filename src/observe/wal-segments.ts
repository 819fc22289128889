import type { WalCoverage } from '../domain/coverage.ts'
import { SegmentSet } from '../domain/segment-set.ts'
import { segmentsPerLog } from '../domain/wal.ts'
import { type PlaceRuns, placesPerLog, type SegmentTriples } from './wal-scan.ts'

/** The segments of a listing, once the segment size is known. */
export interface ListedSegments {
  readonly segmentSize: number
  readonly sets: ReadonlyMap<number, SegmentSet>
  /** How many names a log of such segments does not have. */
  readonly outside: number
}

/** Of each timeline so many of the last segments are looked at first of all: a copy may be under way. */
const recent = 64

export function listedSegments(segments: ReadonlyMap<number, PlaceRuns>, segmentSize: number): ListedSegments {
  const perLog = segmentsPerLog(segmentSize)
  const sets = new Map<number, SegmentSet>()
  let outside = 0
  for (const [timeline, runs] of segments) {
    const set = new SegmentSet()
    for (let at = 0; at < runs.length; at += 2) {
      const [first, last] = [runs[at] ?? 0, runs[at + 1] ?? 0]
      const log = Math.floor(first / placesPerLog)
      const [from, to] = [first - log * placesPerLog, last - log * placesPerLog]
      const end = Math.min(to, perLog - 1)
      if (from <= end) set.addRange(log * perLog + from, log * perLog + end)
      outside += to - Math.max(from - 1, end)
    }
    if (set.size > 0) sets.set(timeline, set)
  }
  return { segmentSize, sets, outside }
}

/**
 * The segments whose length must be looked at: those that have come since the listing before. Of a first one these are the
 * last of each timeline: to look at a million takes longer than to list them, and whoever reads one sees what it is. But
 * where segments of two sizes are `mixed`, names do not tell them apart.
 */
export function uncertain(
  { segmentSize, sets }: ListedSegments,
  { coverage, mixed }: { readonly coverage: WalCoverage | null; readonly mixed: boolean },
): SegmentTriples {
  const triples: number[] = []
  for (const [timeline, set] of sets) {
    if (coverage?.segmentSize !== segmentSize && !mixed) {
      const last = set.last ?? 0
      triples.push(timeline, Math.max(set.rangeAt(last)?.first ?? last, last - recent + 1), last)
      continue
    }
    const known = coverage?.segmentSize === segmentSize ? coverage.segments(timeline) : new SegmentSet()
    for (const range of set.ranges())
      for (const { first, last } of known.gaps(range.first, range.last)) triples.push(timeline, first, last)
  }
  return Float64Array.from(triples)
}

export function* triplesOf(
  triples: SegmentTriples,
): Generator<readonly [timeline: number, first: number, last: number]> {
  for (let at = 0; at < triples.length; at += 3) {
    const [timeline = 0, first = 0, last = 0] = triples.subarray(at, at + 3)
    yield [timeline, first, last]
  }
}
