import type { WalPosition } from './coverage.ts'
import { type Failure, LifeboatError } from './errors.ts'
import { formatLsn } from './lsn.ts'
import { type Candidate, type CandidateOptions, findCandidates, type PlanBackup } from './recovery-candidates.ts'
import { nearWords, obstacleAt, type RecoveryObstacle } from './recovery-windows.ts'
import { segmentAt, segmentBefore } from './wal.ts'

export type { PlanBackup } from './recovery-candidates.ts'
export { type RecoveryWindow, recoveryWindows } from './recovery-windows.ts'

/*
 * How a moment is restored: which backups, which WAL, and what is in the way. One answer for whoever asks what could be
 * restored, for the dry run, and for the restore itself.
 */

/** The moment that is wanted. */
export type RecoveryTarget =
  /** All that there is. */
  | { readonly kind: 'latest' }
  /** As soon as the backup is consistent. */
  | { readonly kind: 'immediate' }
  /** `micros`: so many microseconds after `at`, 0 to 999. */
  | { readonly kind: 'time'; readonly at: Date; readonly micros?: number }
  | { readonly kind: 'lsn'; readonly lsn: bigint }
  /** A point that `pg_create_restore_point` made. */
  | { readonly kind: 'name'; readonly name: string }

export interface PlanOptions extends CandidateOptions {
  readonly target: RecoveryTarget
  /** The moment before which everything is in the WAL up to a place; null: nobody knows. */
  readonly coveredUntil: (end: WalPosition) => Date | null
  readonly now: Date
}

/** What the server is told to stop at. */
export type RecoveryStop =
  /**
   * `text`: the moment to the microsecond, for `recovery_target_time`. `mayEnd`: nothing was committed after it, as far as the
   * WAL goes, so its end is as good.
   */
  | { readonly kind: 'time'; readonly at: Date; readonly text: string; readonly mayEnd: boolean }
  | { readonly kind: 'lsn'; readonly lsn: bigint }
  | { readonly kind: 'name'; readonly name: string }
  | { readonly kind: 'immediate' }
  | { readonly kind: 'end' }

export interface RecoveryPlan {
  /** The full backup first, then the incrementals on it. */
  readonly chain: readonly PlanBackup[]
  readonly timeline: number
  readonly stop: RecoveryStop
  /** The WAL that is replayed; to its end where nothing tells that less will do. */
  readonly from: WalPosition
  readonly to: WalPosition
  readonly segments: number
  /** As stored. */
  readonly backupBytes: number
}

/** Clocks differ, and people round. */
const futureToleranceMs = 60_000

/**
 * Plans a recovery, or says why there is none.
 *
 * @throws LifeboatError `not-recoverable` with what is in the way; `not-found` for a backup that is not there
 */
export function planRecovery(options: PlanOptions): RecoveryPlan {
  const { target, timeline, now } = options
  if (target.kind === 'time' && target.at.getTime() > now.getTime() + futureToleranceMs)
    throw refuse(
      `${targetTime(target)} is in the future: it is ${iso(now)} now`,
      'times without a zone are taken for UTC: name the zone',
    )
  const candidates = usable(options)
  const chosen = candidates.filter(({ backup }) => isBefore(backup, target))
  if (chosen.length === 0) {
    const oldest = candidates.at(-1)?.backup
    throw refuse(
      `no backup is as old as that: the oldest one on timeline ${timeline} is consistent from ${describeStop(oldest)} on`,
      'ask for a later moment, or look in another repository: lifeboat list',
    )
  }
  const candidate = chosen.find(({ isConsistent }) => isConsistent)
  if (candidate === undefined) throw incomplete(chosen[0] as Candidate, options)
  const { chain, end, backup } = candidate
  const stop = stopAt(candidate, options)
  const to = stop.kind === 'immediate' ? backup.stop : stop.kind === 'lsn' ? { ...end, lsn: stop.lsn } : end
  const size = options.coverage.segmentSize
  return {
    chain,
    timeline,
    stop,
    from: backup.start,
    to,
    segments: Math.max(0, segmentBefore(to.lsn, size) - segmentAt(backup.start.lsn, size) + 1),
    backupBytes: chain.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
  }
}

function usable(options: PlanOptions): readonly Candidate[] {
  const { found, broken } = findCandidates(options)
  if (found.length > 0) return found
  const [first = 'no physical backup is there'] = broken
  const more = broken.length > 1 ? `, and ${broken.length - 1} more cannot be used` : ''
  throw refuse(`nothing to begin from: ${first}${more}`, 'WAL alone restores nothing: take a full backup')
}

/** Whether the moment comes after the backup is consistent: an earlier target would be passed by without a word. */
function isBefore({ stop, finishedAt }: PlanBackup, target: RecoveryTarget): boolean {
  if (target.kind === 'time') return finishedAt <= target.at
  return target.kind !== 'lsn' || stop.lsn <= target.lsn
}

function stopAt({ end, backup }: Candidate, { target, coveredUntil, coverage, timeline }: PlanOptions): RecoveryStop {
  switch (target.kind) {
    case 'latest':
      return { kind: 'end' }
    case 'immediate':
      return { kind: 'immediate' }
    case 'name':
      return target
    case 'lsn':
      if (target.lsn <= end.lsn) return target
      throw refuse(`the WAL that is stored ends at ${place(end)}${why({ coverage, timeline, backup })}`, newestHint)
    case 'time': {
      const until = coveredUntil(end)
      // Nobody noted when what was written: the server ends with an error if it does not get there.
      const { at } = target
      if (until === null) return { kind: 'time', at, text: targetTime(target), mayEnd: false }
      // Rounded up: all of it must be there.
      const isCovered = at.getTime() + ((target.micros ?? 0) > 0 ? 1 : 0) <= until.getTime()
      if (isCovered) return { kind: 'time', at, text: targetTime(target), mayEnd: true }
      const known = `everything up to ${iso(until)} is there${why({ coverage, timeline, backup })}`
      throw refuse(`${targetTime(target)} is after what is known to be stored: ${known}`, newestHint)
    }
  }
}

const newestHint = 'ask for an earlier moment, or for the latest one'

function incomplete({ backup, end }: Candidate, { coverage, timeline }: PlanOptions): LifeboatError {
  const missing = why({ coverage, timeline, backup })
  return refuse(
    `the WAL that makes ${backup.id} consistent is not stored: it ends at ${place(end)}, and ${formatLsn(backup.stop.lsn)} is needed${missing}`,
    'see lifeboat wal gaps, and whether another repository has it',
  )
}

/** The hole that is in the way, in words; empty where there is none. */
function why(of: Pick<PlanOptions, 'coverage' | 'timeline'> & { readonly backup: PlanBackup }): string {
  const [hole] = of.coverage.gaps({ from: of.backup.start, target: of.timeline })
  if (hole === undefined) return ''
  const count = hole.last - hole.first + 1
  return `; ${count === 1 ? 'a segment is' : `${count} segments are`} missing there`
}

function refuse(message: string, hint: string): LifeboatError {
  return new LifeboatError('not-recoverable', message, { hint })
}

/** The moment as PostgreSQL reads it, to the microsecond, e.g. `2026-11-26 02:10:00.123456+00`. */
export function targetTime({ at, micros = 0 }: { readonly at: Date; readonly micros?: number }): string {
  const text = at.toISOString().replace('T', ' ').slice(0, -1)
  return `${text}${micros === 0 ? '' : String(micros).padStart(3, '0')}+00`
}

/** Why there is no plan, and what there could be instead; null: nothing is known of that. */
export interface RefusedPlan {
  readonly refused: Failure
  readonly obstacle: RecoveryObstacle | null
}

/** A plan, or why there is none, as values. */
export function tryPlan(options: PlanOptions): { readonly plan: RecoveryPlan } | RefusedPlan {
  try {
    return { plan: planRecovery(options) }
  } catch (error) {
    if (!(error instanceof LifeboatError)) throw error
    const { code, message, hint } = error
    if (code !== 'not-recoverable')
      return { refused: { code, message, ...(hint === undefined ? {} : { hint }) }, obstacle: null }
    const obstacle = obstacleAt(options.target, options)
    // Of a backup that was named other ones are no help.
    const near = options.backup === null ? nearWords(obstacle) : null
    const all = [near, hint].filter((words) => words != null).join('; ')
    return { refused: { code, message, ...(all === '' ? {} : { hint: all }) }, obstacle }
  }
}

function place({ timeline, lsn }: WalPosition): string {
  return `${formatLsn(lsn)} on timeline ${timeline}`
}

function describeStop(backup: PlanBackup | undefined): string {
  return backup === undefined ? 'nowhere' : `${iso(backup.finishedAt)} (${formatLsn(backup.stop.lsn)})`
}

function iso(at: Date): string {
  return at.toISOString()
}
