import type { Failure } from '../domain/errors.ts'
import { parseLsn } from '../domain/lsn.ts'
import { standing } from '../domain/proof.ts'
import { type PlanBackup, type RecoveryPlan, type RecoveryTarget, tryPlan } from '../domain/recovery-plan.ts'
import { clockBounds } from '../domain/recovery-point.ts'
import { chooseRepositories } from '../repository/choose.ts'
import type { Catalog, RepositoryState } from './catalog.ts'
import type { LsnClock } from './lsn-clock.ts'
import { newestTimeline } from './recovery-timeline.ts'
import type { StoredWalState, WalClockState } from './wal-state.ts'

/** What somebody wants to have back. */
export interface RecoveryQuestion {
  readonly target: RecoveryTarget
  /** Null: the server's. */
  readonly timeline: number | null
  /** Null: whichever can. */
  readonly repository: string | null
  /** To begin from; null: the plan chooses. */
  readonly backup: string | null
  /** Of which cluster; left out or null: the one that runs, or of which the newest backup is. */
  readonly systemIdentifier?: string | null
}

/** How one repository would answer. */
export interface RecoveryAnswer {
  readonly repository: string
  /** The cluster that would be restored; null: nothing of any is there. */
  readonly systemIdentifier: string | null
  readonly plan: RecoveryPlan | null
  /** Why there is none. */
  readonly refused: Failure | null
}

/** The physical backups of one cluster in a repository, as plans need them. */
export function planBackups(
  { backups, proofs }: Pick<RepositoryState, 'backups' | 'proofs'>,
  systemIdentifier: string,
): readonly PlanBackup[] {
  return backups.flatMap((backup): PlanBackup[] => {
    const { id, type, parent, timeline, finishedAt, storedBytes } = backup
    if ((type !== 'full' && type !== 'incremental') || backup.systemIdentifier !== systemIdentifier) return []
    const [start, stop] = [parseLsn(backup.startLsn), parseLsn(backup.lsn)]
    if (start === null || stop === null) return []
    return [
      {
        ...{ id, type, parent, finishedAt, storedBytes },
        start: { timeline: backup.startTimeline, lsn: start },
        stop: { timeline, lsn: stop },
        isRefuted: standing(proofs.get(id)) === 'refuted',
      },
    ]
  })
}

/** What is known of one repository, by the sidecar or by who has just looked. */
export interface RecoverySource {
  readonly repository: Pick<RepositoryState, 'name' | 'backups' | 'proofs'>
  /** Null: nobody has looked at its WAL. */
  readonly stored: StoredWalState | null
  /** The server, as it was last seen; null: it never was. */
  readonly server: Pick<WalClockState, 'systemIdentifier' | 'timeline'> | null
  readonly clock: Pick<LsnClock, 'covered'> | null
  readonly now: Date
}

/**
 * Plans a recovery from each repository, by what was seen last: from memory alone.
 *
 * @throws LifeboatError `not-found` for a repository that there is not
 */
export function planRecoveries(
  { wal, repositories, at }: Catalog,
  question: RecoveryQuestion,
  clock: Pick<LsnClock, 'covered'> | null,
): readonly RecoveryAnswer[] {
  const server = wal?.clock ?? null
  return chooseRepositories(repositories, question.repository).map((repository) => {
    const stored = wal?.stored.find((one) => one.repository === repository.name) ?? null
    return planFrom({ repository, stored: server === null ? null : stored, server, clock, now: at }, question)
  })
}

/** Plans a recovery from one repository. */
export function planFrom(source: RecoverySource, question: RecoveryQuestion): RecoveryAnswer {
  const { repository, stored, server, clock, now } = source
  const { target, backup } = question
  const systemIdentifier = systemOf(source, question)
  const answer = (refused: Failure | null, plan: RecoveryPlan | null = null): RecoveryAnswer => ({
    ...{ repository: repository.name, systemIdentifier, plan, refused },
  })
  if (stored === null || stored.listedAt === null) return answer(notYet)
  const coverage = stored.systems.get(systemIdentifier ?? '')?.coverage
  if (coverage === undefined || systemIdentifier === null) return answer(nothing)
  const backups = planBackups(repository, systemIdentifier)
  const timeline = question.timeline ?? newestTimeline({ backups, coverage, server, systemIdentifier })
  const stretches = coverage.timelines.lineage(timeline)
  const result = tryPlan({
    ...{ backups, coverage, timeline, target, backup, now },
    coveredUntil: (end) => clock?.covered(systemIdentifier, clockBounds(stretches, end.lsn), now)?.at ?? null,
  })
  return 'plan' in result ? answer(null, result.plan) : answer(result.refused)
}

/** The cluster that is meant: the one that is named, that of the backup, the one that runs, that of the newest backup. */
function systemOf(
  { repository, stored, server }: RecoverySource,
  { backup, systemIdentifier }: RecoveryQuestion,
): string | null {
  if (systemIdentifier != null) return systemIdentifier
  const physical = repository.backups.filter(({ type }) => type === 'full' || type === 'incremental')
  const named = physical.find(({ id }) => id === backup)
  const newest = physical.toSorted((a, b) => b.finishedAt.getTime() - a.finishedAt.getTime())[0]
  const [only = null] = stored === null ? [] : [...stored.systems.keys()].toReversed()
  return (named ?? server ?? newest)?.systemIdentifier ?? only
}

const notYet: Failure = {
  code: 'not-recoverable',
  message: 'what is stored is not known yet: the server, or the repository, was not looked at',
  hint: 'ask again in a moment; see /-/ready',
}

const nothing: Failure = {
  code: 'not-recoverable',
  message: 'no WAL of this cluster is stored here',
  hint: 'set wal.archive, and take a physical backup',
}
