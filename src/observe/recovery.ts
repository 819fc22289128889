import { type Failure, LifeboatError } from '../domain/errors.ts'
import { parseLsn } from '../domain/lsn.ts'
import { standing } from '../domain/proof.ts'
import { type PlanBackup, type RecoveryPlan, type RecoveryTarget, tryPlan } from '../domain/recovery-plan.ts'
import { clockBounds } from '../domain/recovery-point.ts'
import type { Catalog, RepositoryState } from './catalog.ts'
import type { LsnClock } from './lsn-clock.ts'

/** What somebody wants to have back. */
export interface RecoveryQuestion {
  readonly target: RecoveryTarget
  /** Null: the server's. */
  readonly timeline: number | null
  /** Null: whichever can. */
  readonly repository: string | null
  /** To begin from; null: the plan chooses. */
  readonly backup: string | null
}

/** How one repository would answer. */
export interface RecoveryAnswer {
  readonly repository: string
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

/**
 * Plans a recovery from each repository, by what was seen last: from memory alone.
 *
 * @throws LifeboatError `not-found` for a repository that there is not
 */
export function planRecoveries(
  { wal, repositories, at }: Catalog,
  { target, timeline, repository: wanted, backup }: RecoveryQuestion,
  clock: Pick<LsnClock, 'covered'> | null,
): readonly RecoveryAnswer[] {
  if (wanted !== null && !repositories.some(({ name }) => name === wanted))
    throw new LifeboatError('not-found', `there is no repository ${JSON.stringify(wanted)}`, {
      hint: `one of ${repositories.map(({ name }) => name).join(', ')}`,
    })
  const chosen = repositories.filter(({ name }) => wanted === null || name === wanted)
  return chosen.map((repository) => {
    const answer = (refused: Failure | null, plan: RecoveryPlan | null = null) => ({
      repository: repository.name,
      plan,
      refused,
    })
    const server = wal?.clock ?? null
    const stored = wal?.stored.find((one) => one.repository === repository.name)
    if (server === null || stored === undefined || stored.listedAt === null) return answer(notYet)
    const coverage = stored.systems.get(server.systemIdentifier)?.coverage
    if (coverage === undefined) return answer(nothing)
    const goal = timeline ?? server.timeline
    const stretches = coverage.timelines.lineage(goal)
    const result = tryPlan({
      ...{
        backups: planBackups(repository, server.systemIdentifier),
        coverage,
        timeline: goal,
        target,
        backup,
        now: at,
      },
      coveredUntil: (end) => clock?.covered(server.systemIdentifier, clockBounds(stretches, end.lsn), at)?.at ?? null,
    })
    return 'plan' in result ? answer(null, result.plan) : answer(result.refused)
  })
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
