import type { WalGap, WalPosition } from './coverage.ts'
import { formatLsn } from './lsn.ts'
import { type CandidateOptions, findCandidates } from './recovery-candidates.ts'
import type { RecoveryTarget } from './recovery-plan.ts'

/** An interval of moments that can be restored. */
export interface RecoveryWindow {
  readonly from: Date
  /** The place that belongs to that moment. */
  readonly start: WalPosition
  /** The end of the WAL that leads from there. */
  readonly end: WalPosition
  /** The backup where it begins. */
  readonly backup: string
  /** What ends it: the first segment that is missing; null: nothing does, it goes on to the newest WAL. */
  readonly hole: WalGap | null
}

/**
 * What can be restored, oldest first: from when a backup is consistent on, as far as the WAL leads from it. Backups that
 * the WAL leads past are in the window of those before them.
 */
export function recoveryWindows(options: Omit<CandidateOptions, 'backup'>): readonly RecoveryWindow[] {
  const { coverage, timeline } = options
  const windows: RecoveryWindow[] = []
  let reached = -1n
  for (const { backup, end, isConsistent } of findCandidates({ ...options, backup: null }).found.toReversed()) {
    if (!isConsistent || end.lsn <= reached) continue
    reached = end.lsn
    const [hole = null] = coverage.gaps({ from: backup.start, target: timeline })
    windows.push({ from: backup.finishedAt, start: backup.stop, end, backup: backup.id, hole })
  }
  return windows
}

/** A moment that can be restored; null: at that place, and nobody knows when that was. */
export interface NearMoment {
  readonly at: Date | null
  readonly place: WalPosition
  /** The backup where its window begins. */
  readonly backup: string
}

/** What is in the way of a recovery, and what can be had instead. */
export interface RecoveryObstacle {
  /** The last one before what was asked for that can be restored; null: there is none. */
  readonly before: NearMoment | null
  /** The first one after it. */
  readonly after: NearMoment | null
  /** Segments that are missing between the two; without the one before, from the oldest backup on; at most 100 gaps. */
  readonly missing: readonly WalGap[]
}

const mostGaps = 100

/**
 * What surrounds a moment, or a place, that cannot be restored.
 *
 * @param coveredUntil the moment before which everything is in the WAL up to a place; null: nobody knows
 */
export function obstacleAt(
  wanted: RecoveryTarget,
  options: Omit<CandidateOptions, 'backup'> & { readonly coveredUntil: (end: WalPosition) => Date | null },
): RecoveryObstacle {
  const windows = recoveryWindows(options)
  // What names neither a moment nor a place is after all that there is.
  const isAfter = ({ from, start }: RecoveryWindow) =>
    wanted.kind === 'time' ? from > wanted.at : wanted.kind === 'lsn' && start.lsn > wanted.lsn
  const last = windows.findLast((window) => !isAfter(window))
  const next = windows.find(isAfter)
  const { coverage, timeline, backups } = options
  const from = last?.start ?? oldest(backups)
  const missing: WalGap[] = []
  for (const gap of from === null ? [] : coverage.gaps({ from, target: timeline })) {
    if (
      missing.length === mostGaps ||
      (next !== undefined && BigInt(gap.first) * BigInt(coverage.segmentSize) >= next.start.lsn)
    )
      break
    missing.push(gap)
  }
  return {
    before: last === undefined ? null : { at: options.coveredUntil(last.end), place: last.end, backup: last.backup },
    after: next === undefined ? null : { at: next.from, place: next.start, backup: next.backup },
    missing,
  }
}

/** What can be restored instead, in words; null: nothing. */
export function nearWords({ before, after }: Pick<RecoveryObstacle, 'before' | 'after'>): string | null {
  const words = ({ at, place }: NearMoment) =>
    at === null
      ? `${formatLsn(place.lsn)} on timeline ${place.timeline} (nobody noted when that was)`
      : at.toISOString()
  if (before === null) return after === null ? null : `it can be recovered from ${words(after)} on`
  return `it can be recovered up to ${words(before)}${after === null ? '' : `, and again from ${words(after)} on`}`
}

function oldest(backups: CandidateOptions['backups']): WalPosition | null {
  return backups.reduce<WalPosition | null>(
    (least, { start, otherCluster }) =>
      otherCluster === null && (least === null || start.lsn < least.lsn) ? start : least,
    null,
  )
}
