import type { Failure } from './errors.ts'
import { type Stretch, stretchAt } from './timeline.ts'
import { firstLsn, type SegmentId, segmentAt } from './wal.ts'

/** How the receiver of WAL fares. */
export interface StreamState {
  /** `standby`: another Lifeboat has the lease; `waiting`: it failed, and is tried again. */
  readonly phase: 'stopped' | 'standby' | 'starting' | 'streaming' | 'waiting'
  readonly slot: string
  /** It has what the server has, or got more of it during the last minute; null: nobody knows, or it is not ours to do. */
  readonly isUp: boolean | null
  /** Up to here the server knows that it is stored in the archive's directory; null: not known. */
  readonly position: bigint | null
  /** Where the newest partial that was handed on ends. */
  readonly shippedTo: bigint | null
  /** Why it does not stream; null while it does. */
  readonly failure: Failure | null
  /** Why the newest partial could not be handed on; null: it could. */
  readonly shipFailure: Failure | null
  /** Since Lifeboat started: ends of the receiver that nobody had asked for. */
  readonly failures: number
  /** Since Lifeboat started: times at which it had to begin anew behind WAL that the server had no longer. */
  readonly holes: number
}

/** What decides where to begin. */
export interface StreamFacts {
  readonly segmentSize: number
  /** The WAL that leads to the server's timeline. */
  readonly stretches: readonly Stretch[]
  /** Where the server's WAL ends. */
  readonly end: bigint
  /** The first segment that is not stored whole; null: nothing tells. */
  readonly next: SegmentId | null
  /** From here on the server keeps its WAL for the slot. */
  readonly kept: bigint
  /** Whether the server still has a segment; true where that is not for us to see. */
  readonly has: (segment: number) => boolean
}

export interface StreamStart extends SegmentId {
  /** WAL that is neither stored nor to be had from this server. */
  readonly hole: { readonly from: bigint; readonly to: bigint } | null
}

/**
 * Where the receiver begins: after what is stored, on the server's line of timelines; from where the two part when the
 * server has left the line that was received (a standby was promoted that had less); and from where the slot keeps WAL
 * when what would come next is not there any more.
 *
 * Null: the server has less than what is stored, on the same timeline: it is a standby that lags behind, or has lost WAL.
 */
export function planStart(facts: StreamFacts): StreamStart | null {
  const { segmentSize, stretches, end, next, kept } = facts
  const from = (segment: number): SegmentId => ({
    segment,
    timeline: stretchAt(stretches, firstLsn(segment, segmentSize)).timeline,
  })
  const oldest = from(segmentAt(kept, segmentSize))
  if (next === null) return { ...oldest, hole: null }
  const first = firstLsn(next.segment, segmentSize)
  const own = stretches.find(({ timeline }) => timeline === next.timeline)
  // Of an unrelated timeline nothing says where it began.
  if (own === undefined) return { ...oldest, hole: null }
  const isOnLine = own.end === null || first <= own.end
  if (own.end === null && first > end) return null
  const wanted = isOnLine ? next : from(segmentAt(own.end, segmentSize))
  if (facts.has(wanted.segment) || firstLsn(wanted.segment, segmentSize) >= end) return { ...wanted, hole: null }
  if (oldest.segment <= wanted.segment) return { ...oldest, hole: null }
  const hole = { from: firstLsn(wanted.segment, segmentSize), to: firstLsn(oldest.segment, segmentSize) }
  return { ...oldest, hole }
}

/** So long without any progress, and a receiver hangs. */
export const stallMs = 60_000

/** Judges by several looks whether a receiver gets on. Times are of a clock that never goes back, milliseconds. */
export class StreamProgress {
  #provenAt: number
  #position: bigint | null = null
  /** Where the server was at the look before: a receiver that is there has nothing left to do. */
  #goal: bigint | null = null
  #isProven = false

  constructor(startedAt: number) {
    this.#provenAt = startedAt
  }

  note(now: number, { position, end }: { readonly position: bigint | null; readonly end: bigint }): void {
    if (position !== null) {
      const isThere = position >= (this.#goal ?? end)
      const moved = this.#position !== null && position > this.#position
      if (isThere || moved) {
        this.#provenAt = now
        this.#isProven = true
      }
      this.#position = position
    }
    this.#goal = end
  }

  /** Null: too early to say. */
  isUp(now: number): boolean | null {
    if (now - this.#provenAt > stallMs) return false
    return this.#isProven ? true : null
  }
}
