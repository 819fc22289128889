import type { WalGap } from '../domain/coverage.ts'
import type { Failure } from '../domain/errors.ts'
import { formatLsn } from '../domain/lsn.ts'
import { majorOf } from '../domain/recovery-candidates.ts'
import type { RecoveryCosts } from '../domain/recovery-costs.ts'
import { type RecoveryTarget, targetTime } from '../domain/recovery-plan.ts'
import type { RecoveryWarning } from '../domain/recovery-warnings.ts'
import type { NearMoment } from '../domain/recovery-windows.ts'
import { segmentName } from '../domain/wal.ts'
import type { RecoveryAnswer } from './recovery.ts'
import { reportWindows, type WindowReport } from './wal-report.ts'

/* What is told of plans, by the API and by commands: as JSON has it. Bytes are numbers, places are text. */

/** What was asked for, as it was understood. */
export interface TargetReport {
  readonly kind: RecoveryTarget['kind']
  /** To the microsecond, UTC. */
  readonly time: string | null
  readonly lsn: string | null
  readonly name: string | null
  /** How the time was taken where it said less than it must; null: it said all. */
  readonly note: string | null
}

export interface PlanReport {
  readonly chain: readonly string[]
  /** The repositories that have each of these, nearest first. */
  readonly copies: readonly (readonly string[])[]
  readonly timeline: number
  /** The major version of PostgreSQL that it needs. */
  readonly postgres: string
  readonly from: string
  readonly to: string
  readonly stopsAt: string
  /** For `recovery_target_time`; null for other targets. */
  readonly stopTime: string | null
  readonly segments: number
  readonly backupBytes: number
  readonly walBytes: number
  readonly walBytesAreUpperBound: boolean
  readonly fetchBytes: number
  readonly disk: RecoveryCosts['disk']
  readonly time: RecoveryCosts['time']
}

export interface NearReport {
  readonly at: string | null
  readonly lsn: string
  readonly timeline: number
  readonly backup: string
}

export interface MissingReport {
  readonly timeline: number
  readonly first: string
  readonly last: string
  readonly segments: number
}

export interface RecoveryReport {
  readonly repository: string
  readonly systemIdentifier: string | null
  readonly windows: readonly WindowReport[]
  readonly recoverable: boolean
  readonly plan: PlanReport | null
  readonly warnings: readonly RecoveryWarning[]
  readonly refused: Failure | null
  readonly nearest: { readonly before: NearReport | null; readonly after: NearReport | null } | null
  readonly missing: readonly MissingReport[]
}

export function reportTarget(target: RecoveryTarget, note: string | null): TargetReport {
  return {
    kind: target.kind,
    time: target.kind === 'time' ? targetTime(target) : null,
    lsn: target.kind === 'lsn' ? formatLsn(target.lsn) : null,
    name: target.kind === 'name' ? target.name : null,
    note,
  }
}

export function reportRecovery(answer: RecoveryAnswer): RecoveryReport {
  const { repository, systemIdentifier, segmentSize, windows, plan, warnings, refused, obstacle, missing } = answer
  return {
    ...{ repository, systemIdentifier, warnings, refused, recoverable: plan !== null },
    windows: segmentSize === null ? [] : reportWindows(windows, segmentSize),
    plan: reportPlan(answer),
    nearest: obstacle === null ? null : { before: reportNear(obstacle.before), after: reportNear(obstacle.after) },
    missing: segmentSize === null ? [] : missing.map((gap) => reportMissing(gap, segmentSize)),
  }
}

function reportPlan({ plan, costs, copies }: RecoveryAnswer): PlanReport | null {
  const last = plan?.chain.at(-1)
  if (plan === null || costs === null || last === undefined) return null
  const { chain, timeline, from, to, stop, backupBytes } = plan
  const { segments, walBytes, fetchBytes, disk, time } = costs
  return {
    ...{ timeline, segments, backupBytes, fetchBytes, disk, time },
    chain: chain.map(({ id }) => id),
    copies: chain.map(({ id }) => copies?.get(id) ?? []),
    postgres: majorOf(last),
    from: formatLsn(from.lsn),
    to: formatLsn(to.lsn),
    stopsAt: formatLsn(costs.stopsAt.lsn),
    stopTime: stop.kind === 'time' ? stop.text : null,
    walBytes: walBytes.bytes,
    walBytesAreUpperBound: walBytes.isUpperBound,
  }
}

function reportNear(near: NearMoment | null): NearReport | null {
  if (near === null) return null
  const { at, place, backup } = near
  return { at: at?.toISOString() ?? null, lsn: formatLsn(place.lsn), timeline: place.timeline, backup }
}

function reportMissing({ timeline, first, last }: WalGap, segmentSize: number): MissingReport {
  return {
    timeline,
    first: segmentName(timeline, first, segmentSize),
    last: segmentName(timeline, last, segmentSize),
    segments: last - first + 1,
  }
}
