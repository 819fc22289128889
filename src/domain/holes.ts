import type { WalGap } from './coverage.ts'
import { parseWalName } from './wal.ts'

/** A gap that somebody knows of and does not want to be told of again until a date. It stays a gap: nothing is replayed over it. */
export interface AcknowledgedHole extends WalGap {
  readonly reason: string
  readonly until: Date
}

/** A gap, or a part of one, and who knows of it; null: nobody. */
export interface JudgedGap extends WalGap {
  readonly acknowledged: AcknowledgedHole | null
}

/** Splits gaps where acknowledged holes begin and end. Of holes that overlap the one that reaches furthest is named. */
export function* judgeGaps(
  gaps: Iterable<WalGap>,
  holes: readonly AcknowledgedHole[],
  now: Date,
): Generator<JudgedGap, void> {
  const valid = holes.filter(({ until }) => until > now)
  for (const { timeline, first, last } of gaps) {
    const near = valid.filter((hole) => hole.timeline === timeline && hole.first <= last && hole.last >= first)
    for (let at = first; at <= last; ) {
      const here = near.filter((hole) => hole.first <= at && at <= hole.last)
      const acknowledged = here.reduce<AcknowledgedHole | null>((a, b) => (a && a.last >= b.last ? a : b), null)
      const later = near.filter((hole) => hole.first > at).map((hole) => hole.first - 1)
      const end = acknowledged === null ? Math.min(last, ...later) : Math.min(last, acknowledged.last)
      yield { timeline, first: at, last: end, acknowledged }
      at = end + 1
    }
  }
}

/** An acknowledged hole as people name it: by its first and its last segment, of one timeline. */
export interface NamedHole {
  readonly first: string
  readonly last: string
  readonly reason: string
  readonly until: Date
}

/** The holes by number. A name that segments of this size do not have names none, and acknowledges nothing. */
export function numberHoles(holes: readonly NamedHole[], segmentSize: number): readonly AcknowledgedHole[] {
  return holes.flatMap(({ first, last, reason, until }) => {
    const [from, to] = [parseWalName(first, segmentSize), parseWalName(last, segmentSize)]
    if (from?.kind !== 'segment' || to?.kind !== 'segment' || from.timeline !== to.timeline) return []
    return [{ timeline: from.timeline, first: from.segment, last: to.segment, reason, until }]
  })
}
