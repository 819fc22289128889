import type { Stretch } from './timeline.ts'

/*
 * How the clock of the WAL (moments, and where the server wrote then) tells up to which moment WAL brings everything back.
 *
 * A sample is a moment, then the snapshot of that moment, then the place of the next byte of WAL, in this order. Whatever
 * was committed before the moment has its record before the place. So WAL that ends at or after the place covers the
 * moment. A later sample of the same snapshot is covered with it: nothing was committed between the two. That is how an
 * idle server reaches the present although its place has moved (it notes running transactions by itself).
 */

/** A look at the clock. Moments are in milliseconds since 1970. */
export interface ClockSample {
  readonly systemIdentifier: string
  readonly timeline: number
  /**
   * Equal for two samples that follow one another only if nothing was committed between them: the snapshot, together with
   * the start of the server, since numbers of transactions are used again after a crash. Null on a standby, which has none:
   * there the moment is that of the last commit that it has replayed.
   */
  readonly state: string | null
  readonly lsn: bigint
  readonly at: number
}

/** Samples that follow one another and agree in all but moment and place. Covered or not, it is as one. */
export interface ClockRun {
  readonly systemIdentifier: string
  readonly timeline: number
  readonly state: string | null
  /** The place of its first sample, as `normalLsn` gives it. */
  readonly lsn: bigint
  /** The moment of its newest sample: what it stands for. */
  readonly at: number
  /** The earliest moment in it. */
  readonly leastAt: number
  /** The clock was set back before or within it: `leastAt` is before a moment that was noted earlier. */
  readonly wentBack: boolean
}

/** How far the WAL of a timeline counts. */
export interface ClockBound {
  readonly timeline: number
  /** A run counts whose place is not after this one. */
  readonly lsn: bigint
}

const pageSize = 8192n
const firstPageHeader = 0x28n
const pageHeader = 0x18n

/**
 * Where WAL must end that holds everything before a place at which the server writes next. At the beginning of a segment
 * or page this is behind a header that is written with the next record only: the WAL before it ends at the boundary.
 * Source: XLogBytePosToRecPtr in src/backend/access/transam/xlog.c; pages have 8 KiB in all packages
 */
export function normalLsn(lsn: bigint, segmentSize: number): bigint {
  const within = lsn % BigInt(segmentSize)
  if (within === firstPageHeader) return lsn - firstPageHeader
  return within > pageSize && within % pageSize === pageHeader ? lsn - pageHeader : lsn
}

/**
 * Carries on the newest run, or begins another after it. `sample.lsn` is normal. A run in which nothing is new is given
 * back as it is.
 */
export function noteSample<Run extends ClockRun>(
  newest: Run | null,
  sample: ClockSample,
): { readonly run: Run | ClockRun; readonly isNew: boolean } {
  const { at, lsn, ...rest } = sample
  // Moments of a standby are those of commits elsewhere: they say nothing of the clock here.
  const wentBack = newest !== null && newest.state !== null && sample.state !== null && at < newest.at
  if (newest === null || !agree(newest, sample))
    return { run: { ...rest, lsn, at, leastAt: at, wentBack }, isNew: true }
  if (newest.at === at) return { run: newest, isNew: false }
  const run = { ...newest, at, leastAt: Math.min(newest.leastAt, at), wentBack: newest.wentBack || wentBack }
  return { run, isNew: false }
}

/** True if a sample belongs to a run, the newest one. */
function agree(run: ClockRun, { systemIdentifier, timeline, state, at }: ClockSample): boolean {
  if (run.systemIdentifier !== systemIdentifier || run.timeline !== timeline || run.state !== state) return false
  return state !== null || run.at === at
}

/**
 * True for a run of which nothing is left: a primary that stands before its place on the same timeline has lost that WAL
 * in a crash, as it may what was committed asynchronously, or was put back to an earlier state.
 */
export function isVoid(run: ClockRun, by: ClockRun): boolean {
  return (
    by.state !== null &&
    run.systemIdentifier === by.systemIdentifier &&
    run.timeline === by.timeline &&
    run.lsn > by.lsn
  )
}

/**
 * Up to where runs of each timeline count, when WAL is there up to `end` on the way to the last stretch; the newest first.
 * What a server wrote on a timeline after that was left for the next one is not on the way.
 */
export function clockBounds(stretches: readonly Stretch[], end: bigint): readonly ClockBound[] {
  return stretches
    .filter(({ begin }) => begin <= end)
    .map((stretch) => ({
      timeline: stretch.timeline,
      lsn: stretch.end !== null && stretch.end < end ? stretch.end : end,
    }))
    .toReversed()
}

/**
 * The moment before which everything is covered. Not the largest one: a server's clock may have been ahead for a while, and
 * what was committed after it was set right has earlier moments.
 *
 * @param at that of the newest run that is covered
 * @param leastLater the earliest moment of the runs after it before which the clock was set back; null: there is none
 */
export function coveredMoment(at: number, leastLater: number | null, now: number): number {
  return Math.min(at, leastLater ?? at, now)
}
