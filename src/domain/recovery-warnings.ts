import type { WalCoverage, WalGap } from './coverage.ts'
import { formatLsn } from './lsn.ts'
import { majorOf } from './recovery-candidates.ts'
import type { RecoveryCosts } from './recovery-costs.ts'
import type { RecoveryPlan, RecoveryTarget } from './recovery-plan.ts'
import { segmentBefore } from './wal.ts'

/** Something about a plan that somebody must know before it is followed. Codes are stable. */
export interface RecoveryWarning {
  readonly code:
    | 'never-proven'
    | 'time-unknown'
    | 'equal-times'
    | 'name-unchecked'
    | 'ends-at-hole'
    | 'long-replay'
    | 'other-timelines'
    | 'other-major'
    | 'other-cluster'
  readonly message: string
}

export interface WarningOptions {
  readonly plan: RecoveryPlan
  readonly costs: RecoveryCosts
  readonly target: RecoveryTarget
  readonly coverage: WalCoverage
  /** Nobody has named the timeline. */
  readonly isTimelineChosen: boolean
  /** Of the server that runs; null: not known. */
  readonly serverVersion: string | null
  /** The cluster that runs, if it is another one than that of the plan. */
  readonly runningCluster: string | null
}

/** Segments: 16 GiB of the usual ones are replayed in some minutes to an hour. */
export const longReplaySegments = 1024

const mostGaps = 100

/** The segments that end a recovery which was to go to the end of all; empty for other targets: what comes after them is not needed. */
export function missingAfter({
  plan,
  target,
  coverage,
}: Pick<WarningOptions, 'plan' | 'target' | 'coverage'>): WalGap[] {
  if (target.kind !== 'latest') return []
  const missing: WalGap[] = []
  for (const gap of coverage.gaps({ from: plan.from, target: plan.timeline })) {
    missing.push(gap)
    if (missing.length === mostGaps) break
  }
  return missing
}

export function recoveryWarnings(options: WarningOptions): readonly RecoveryWarning[] {
  const { plan, costs, target, coverage, isTimelineChosen, serverVersion, runningCluster } = options
  const { chain, timeline, stop } = plan
  const warnings: RecoveryWarning[] = []
  const warn = (code: RecoveryWarning['code'], message: string) => warnings.push({ code, message })
  const last = chain.at(-1)
  if (last?.isProven === false) warn('never-proven', `no restore has proven ${last.id} yet: lifeboat verify ${last.id}`)
  if (runningCluster !== null)
    warn(
      'other-cluster',
      `this is the cluster that was there before ${runningCluster}, which runs now: pg_upgrade and initdb make a new one`,
    )
  if (last !== undefined && serverVersion !== null && majorOf(last) !== majorOf({ serverVersion }))
    warn('other-major', `PostgreSQL ${majorOf(last)} is needed, and the server runs ${majorOf({ serverVersion })}`)
  if (stop.kind === 'time' && !stop.mayEnd)
    warn(
      'time-unknown',
      `nobody noted when the WAL was written: if it ends before ${stop.text}, so does the recovery, with an error`,
    )
  if (stop.kind === 'time')
    warn(
      'equal-times',
      'everything that was committed at that very microsecond is in it as well: give an LSN where that matters',
    )
  if (stop.kind === 'name' && last !== undefined)
    warn(
      'name-unchecked',
      `restore points are not listed: if none of that name was made after ${last.finishedAt.toISOString()}, the recovery ends with an error at the end of the WAL. One that was made before needs an older backup; of several the first counts`,
    )
  const [hole] = missingAfter(options)
  if (hole !== undefined)
    warn(
      'ends-at-hole',
      `WAL is missing at ${formatLsn(plan.to.lsn)}, and there is more after that: the recovery ends before it`,
    )
  if (costs.segments > longReplaySegments)
    warn(
      'long-replay',
      `${costs.segments} segments of WAL are replayed: full or incremental backups more often make that less`,
    )
  const others = isTimelineChosen && target.kind !== 'immediate' ? leftTimelines(coverage, timeline) : []
  if (others.length > 0)
    warn(
      'other-timelines',
      `this goes to timeline ${timeline}; what was written on ${others.join(', ')} is not in it: name the timeline if that is meant`,
    )
  return warnings
}

/** Timelines of which there is WAL that is not on the way to another one, in words, at most ten. */
function leftTimelines(coverage: WalCoverage, timeline: number): readonly string[] {
  const { timelines, segmentSize } = coverage
  const stretches = timelines.lineage(timeline)
  const left = coverage.present().flatMap((one) => {
    const stretch = stretches.find((found) => found.timeline === one)
    if (stretch === undefined) return [`timeline ${one}`]
    const last = coverage.segments(one).last
    // The segment in which it was left is there whole as a rule.
    const isLeft = stretch.end !== null && last !== null && last > segmentBefore(stretch.end, segmentSize)
    return isLeft ? [`timeline ${one} after ${formatLsn(stretch.end)}`] : []
  })
  return left.slice(-10)
}
