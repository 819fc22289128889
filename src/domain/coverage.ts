import { type SegmentRange, SegmentSet } from './segment-set.ts'
import { type Stretch, stretchAt, Timelines } from './timeline.ts'
import { firstLsn, segmentAt, segmentBefore, type WalFile } from './wal.ts'

/** A place on a timeline. */
export interface WalPosition {
  readonly timeline: number
  readonly lsn: bigint
}

/** Where a recovery begins, and to which timeline it goes; by default to the newest that can be reached. */
export interface WalRoute {
  readonly from: WalPosition
  readonly target?: number
}

/** How far the WAL goes without a gap. */
export interface WalReach {
  /** The timeline that was aimed at. */
  readonly target: number
  /** Where it ends: everything before this place can be replayed. The place of the start when nothing of it is there. */
  readonly end: WalPosition
  /** The file that would carry on. */
  readonly next: { readonly timeline: number; readonly segment: number }
}

/** WAL without a gap, from its first byte to the one after its last, along the way to one timeline. */
export interface WalRange {
  readonly from: WalPosition
  readonly to: WalPosition
}

/** Segments of a timeline that are missing although later WAL is there. */
export interface WalGap extends SegmentRange {
  readonly timeline: number
}

/** The part of a lineage for which a timeline's own files are needed: a segment within which it begins, and all later ones. */
interface Owned extends SegmentRange {
  readonly stretch: Stretch
}

/**
 * Which WAL of one cluster (system identifier) one place holds, and what can be replayed from it. To add a file is cheap
 * and memory grows with the gaps, so that a million segments are no matter.
 *
 * A timeline that begins within a segment has that segment whole, the WAL before the fork included: PostgreSQL copies it.
 * So that one file is what a recovery needs there; the parent's file of the same number helps up to the fork at most.
 */
export class WalCoverage {
  readonly segmentSize: number
  readonly timelines: Timelines
  readonly #segments = new Map<number, SegmentSet>()
  /** Timeline, segment, where its partials end. */
  readonly #partials = new Map<number, Map<number, Set<bigint>>>()

  constructor(segmentSize: number, timelines: Timelines) {
    this.segmentSize = segmentSize
    this.timelines = timelines
  }

  /** What two places hold together, which must be of one cluster. */
  static of(one: WalCoverage, other: WalCoverage): WalCoverage {
    const all = new WalCoverage(one.segmentSize, Timelines.of(one.timelines, other.timelines))
    for (const { segments, partials } of [one, other].map((of) => ({
      segments: of.#segments,
      partials: of.#partials,
    }))) {
      for (const [timeline, set] of segments)
        for (const range of set.ranges()) all.segments(timeline).addRange(range.first, range.last)
      for (const [timeline, some] of partials)
        for (const [segment, ends] of some) for (const end of ends) all.add({ kind: 'partial', timeline, segment, end })
    }
    return all
  }

  /** Takes a file in; histories go to `timelines`, and labels hold no WAL. Twice is once. */
  add(file: WalFile): void {
    if (file.kind === 'segment') this.segments(file.timeline).add(file.segment)
    if (file.kind !== 'partial' || file.end === null) return
    const partials = this.#partials.get(file.timeline) ?? new Map<number, Set<bigint>>()
    this.#partials.set(file.timeline, partials)
    partials.set(file.segment, (partials.get(file.segment) ?? new Set()).add(file.end))
  }

  /** Takes a file out: one that was pruned or has vanished. */
  remove(file: WalFile): void {
    if (file.kind === 'segment') this.#segments.get(file.timeline)?.remove(file.segment)
    if (file.kind !== 'partial' || file.end === null) return
    const partials = this.#partials.get(file.timeline)
    const ends = partials?.get(file.segment)
    if (ends?.delete(file.end) && ends.size === 0) partials?.delete(file.segment)
  }

  /** The whole segments of a timeline; to load many at once, add ranges to it. */
  segments(timeline: number): SegmentSet {
    const found = this.#segments.get(timeline)
    if (found !== undefined) return found
    const made = new SegmentSet()
    this.#segments.set(timeline, made)
    return made
  }

  /** The timelines of which there are whole segments, ascending. */
  present(): readonly number[] {
    return [...this.#segments].flatMap(([timeline, set]) => (set.size > 0 ? [timeline] : [])).sort((a, b) => a - b)
  }

  /** How many whole segments there are, of all timelines. */
  get size(): number {
    let size = 0
    for (const set of this.#segments.values()) size += set.size
    return size
  }

  /** How far a recovery that begins here gets. Null if the route does not lead to its target. */
  reach(route: WalRoute): WalReach | null {
    const { from } = route
    const target = this.#target(route)
    if (target === null) return null
    const stretches = this.timelines.lineage(target)
    let segment = segmentAt(from.lsn, this.segmentSize)
    for (const { stretch, first, last } of this.#owned(stretches)) {
      if (last < segment) continue
      segment = Math.max(segment, first)
      const range = this.segments(stretch.timeline).rangeAt(segment)
      if (range !== null) segment = range.last + 1
      if (segment > last) {
        segment = last + 1
        continue
      }
      let lsn = this.#coveredTo(stretches, segment)
      if (lsn < from.lsn) lsn = from.lsn // not even the start is there
      return { target, end: this.#end(stretches, lsn, from), next: { timeline: stretch.timeline, segment } }
    }
    throw new RangeError('the last timeline has an end')
  }

  /**
   * The segments that a recovery from here on lacks, in order. Those after the newest file of the lineage are still to
   * come; `until` (the end of what the server has archived, by its own account) says that they should be there. What
   * `pending` holds is on its way, and no gap. Nothing is told of a route that does not lead to its target; and nothing
   * may be added meanwhile.
   */
  *gaps(route: WalRoute & { readonly until?: bigint; readonly pending?: WalCoverage }): Generator<WalGap, void> {
    const target = this.#target(route)
    if (target === null) return
    const stretches = this.timelines.lineage(target)
    const owned = this.#owned(stretches)
    const from = segmentAt(route.from.lsn, this.segmentSize)
    const until = route.until === undefined ? -1 : segmentBefore(route.until, this.segmentSize)
    const newest = Math.max(until, this.#newest(stretches, owned))
    for (const { stretch, first, last } of owned) {
      const { timeline } = stretch
      const [low, high] = [Math.max(first, from), Math.min(last, newest)]
      if (low > high) continue
      const pending = route.pending?.segments(timeline)
      for (const gap of this.segments(timeline).gaps(low, high)) {
        for (const { first, last } of pending?.gaps(gap.first, gap.last) ?? [gap]) yield { timeline, first, last }
      }
    }
  }

  /** All WAL that is there on the way to a timeline, in order. Nothing may be added meanwhile. */
  *ranges(target: number): Generator<WalRange, void> {
    const stretches = this.timelines.lineage(target)
    const owned = this.#owned(stretches)
    let open: { from: bigint; to: bigint } | null = null
    for (const { from, to } of this.#pieces(stretches, owned)) {
      if (open !== null && open.to === from) {
        open.to = to
        continue
      }
      if (open !== null) yield this.#range(stretches, open)
      open = { from, to }
    }
    if (open !== null) yield this.#range(stretches, open)
  }

  /** Whole segments, and what there is of others, in order. */
  *#pieces(stretches: readonly Stretch[], owned: readonly Owned[]): Generator<{ from: bigint; to: bigint }, void> {
    const { segmentSize } = this
    // Only where a timeline begins, or a partial is, can there be a part of a segment.
    const parts = new Set(owned.map(({ first }) => first))
    for (const { timeline } of stretches)
      for (const segment of this.#partials.get(timeline)?.keys() ?? []) parts.add(segment)
    const waiting = [...parts].sort((a, b) => a - b).values()
    let part = waiting.next().value
    for (const { stretch, first, last } of owned) {
      const set = this.segments(stretch.timeline)
      const whole = set.ranges(first, last)
      for (;;) {
        const range = whole.next().value
        const limit = range?.first ?? last + 1
        for (; part !== undefined && part < limit; part = waiting.next().value) {
          const from = firstLsn(part, segmentSize)
          const to = this.#coveredTo(stretches, part)
          if (to > from) yield { from, to }
        }
        if (!range) break
        while (part !== undefined && part <= range.last) part = waiting.next().value
        yield { from: firstLsn(range.first, segmentSize), to: firstLsn(range.last + 1, segmentSize) }
      }
    }
  }

  #range(stretches: readonly Stretch[], { from, to }: { from: bigint; to: bigint }): WalRange {
    const position = (lsn: bigint, byte: bigint) => ({ timeline: stretchAt(stretches, byte).timeline, lsn })
    return { from: position(from, from), to: position(to, to - 1n) }
  }

  #target({ from, target }: WalRoute): number | null {
    const wanted = target ?? this.timelines.newestFrom(from)
    return this.timelines.leadsTo(from, wanted) ? wanted : null
  }

  /** Who needs which segments: every number is with one timeline, the newest of those that are on it. */
  #owned(stretches: readonly Stretch[]): readonly Owned[] {
    return stretches.flatMap((stretch, index) => {
      const next = stretches[index + 1]
      const first = segmentAt(stretch.begin, this.segmentSize)
      const last = next === undefined ? Number.MAX_SAFE_INTEGER : segmentAt(next.begin, this.segmentSize) - 1
      return last < first ? [] : [{ stretch, first, last }]
    })
  }

  /** How far a segment that its owner does not have whole is covered: by partials, and by its ancestors up to the fork. */
  #coveredTo(stretches: readonly Stretch[], segment: number): bigint {
    const first = firstLsn(segment, this.segmentSize)
    const whole = firstLsn(segment + 1, this.segmentSize)
    let covered = first
    for (const { timeline, begin, end } of stretches) {
      // It begins later: a file of that name is not on the way.
      if (begin >= whole) continue
      const files = this.#segments.get(timeline)?.has(segment) ? [whole] : this.#partials.get(timeline)?.get(segment)
      for (const file of files ?? []) {
        const usable = end !== null && end < file ? end : file
        if (usable > covered) covered = usable
      }
    }
    return covered
  }

  #end(stretches: readonly Stretch[], lsn: bigint, from: WalPosition): WalPosition {
    return { timeline: lsn === from.lsn ? from.timeline : stretchAt(stretches, lsn - 1n).timeline, lsn }
  }

  /** The newest segment that must be there, since WAL after it is; -1 if there is none. */
  #newest(stretches: readonly Stretch[], owned: readonly Owned[]): number {
    let newest = -1
    for (const stretch of stretches) {
      const { timeline, begin, end } = stretch
      const first = segmentAt(begin, this.segmentSize)
      const last = end === null ? Number.MAX_SAFE_INTEGER : segmentBefore(end, this.segmentSize)
      const whole = this.#segments.get(timeline)?.upTo(last) ?? -1
      const own = owned.find((one) => one.stretch === stretch)?.last ?? -1
      if (whole >= first) newest = Math.max(newest, whole <= own ? whole : whole - 1)
      for (const segment of this.#partials.get(timeline)?.keys() ?? [])
        if (first <= segment && segment <= last) newest = Math.max(newest, segment - 1)
    }
    return newest
  }
}
