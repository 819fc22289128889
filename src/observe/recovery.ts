import type { WalGap, WalPosition } from '../domain/coverage.ts'
import type { Failure } from '../domain/errors.ts'
import { parseLsn } from '../domain/lsn.ts'
import { standing } from '../domain/proof.ts'
import { type MeasuredRestore, type RecoveryCosts, recoveryCosts } from '../domain/recovery-costs.ts'
import {
  type PlanBackup,
  type PlanOptions,
  type RecoveryPlan,
  type RecoveryTarget,
  recoveryWindows,
  tryPlan,
} from '../domain/recovery-plan.ts'
import { clockBounds } from '../domain/recovery-point.ts'
import { missingAfter, type RecoveryWarning, recoveryWarnings } from '../domain/recovery-warnings.ts'
import type { RecoveryObstacle } from '../domain/recovery-windows.ts'
import { chooseRepositories } from '../repository/choose.ts'
import type { Catalog, RepositoryState } from './catalog.ts'
import type { LsnClock } from './lsn-clock.ts'
import { newestTimeline } from './recovery-timeline.ts'
import { storedWalBytes } from './stored-bytes.ts'
import type { RecoveryWindowState, StoredSystem, StoredWalState, WalClockState } from './wal-state.ts'

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
  /** Several names, joined by `and`, of those that can only together. */
  readonly repository: string
  /** The cluster that would be restored; null: nothing of any is there. */
  readonly systemIdentifier: string | null
  /** Of its WAL, bytes; null where there is none. */
  readonly segmentSize: number | null
  readonly plan: RecoveryPlan | null
  /** What the plan takes. */
  readonly costs: RecoveryCosts | null
  /** What must be known before the plan is followed. */
  readonly warnings: readonly RecoveryWarning[]
  /** Why there is no plan. */
  readonly refused: Failure | null
  /** What could be restored instead; null where nothing is known of that. */
  readonly obstacle: RecoveryObstacle | null
  /** All that can be restored on that timeline, oldest first. */
  readonly windows: readonly RecoveryWindowState[]
  /** WAL that is missing: in the way of what was asked for, or after the end that a plan for all there is gets to. */
  readonly missing: readonly WalGap[]
  /** The repositories that have each backup of the plan, nearest first. */
  readonly copies?: ReadonlyMap<string, readonly string[]>
}

/** What is known of one repository, by the sidecar or by who has just looked. */
export interface RecoverySource {
  readonly repository: Pick<RepositoryState, 'name' | 'backups' | 'proofs'>
  /** Null: nobody has looked at its WAL. */
  readonly stored: StoredWalState | null
  /** The server, as it was last seen; null: it never was. */
  readonly server: Pick<WalClockState, 'systemIdentifier' | 'timeline'> | null
  /** As `server_version` gives it; null: not known. */
  readonly serverVersion: string | null
  readonly clock: RecoveryClock | null
  /** Restores that were done for real, on this host. */
  readonly restores: readonly MeasuredRestore[]
  readonly now: Date
}

export type RecoveryClock = Pick<LsnClock, 'covered'> & Partial<Pick<LsnClock, 'reached'>>

/** The physical backups in a repository, as plans of one cluster need them. */
export function planBackups(
  { backups, proofs }: Pick<RepositoryState, 'backups' | 'proofs'>,
  systemIdentifier: string,
): readonly PlanBackup[] {
  return backups.flatMap((backup): PlanBackup[] => {
    const { id, type, parent, timeline, finishedAt, storedBytes, sourceBytes, serverVersion } = backup
    if (type !== 'full' && type !== 'incremental') return []
    const [start, stop] = [parseLsn(backup.startLsn), parseLsn(backup.lsn)]
    if (start === null || stop === null) return []
    const found = standing(proofs.get(id))
    return [
      {
        ...{ id, type, parent, finishedAt, storedBytes, sourceBytes, serverVersion },
        plainBytes: backup.plainBytes ?? 0,
        start: { timeline: backup.startTimeline, lsn: start },
        stop: { timeline, lsn: stop },
        isRefuted: found === 'refuted',
        isProven: found === 'proven',
        otherCluster: backup.systemIdentifier === systemIdentifier ? null : backup.systemIdentifier,
      },
    ]
  })
}

/**
 * What is known of each repository by what was seen last: from memory alone.
 *
 * @throws LifeboatError `not-found` for a repository that there is not
 */
export function seenSources(
  { wal, repositories, server, at }: Catalog,
  name: string | null,
  { clock, restores }: Pick<RecoverySource, 'clock' | 'restores'>,
): readonly RecoverySource[] {
  return chooseRepositories(repositories, name).map((repository) => ({
    ...{ repository, clock, restores, now: at },
    stored: wal?.clock == null ? null : (wal.stored.find((one) => one.repository === repository.name) ?? null),
    server: wal?.clock ?? null,
    serverVersion: server?.serverVersion ?? null,
  }))
}

/**
 * Plans a recovery from one repository. A moment of which the cluster that runs has nothing is looked for in the clusters that
 * were there before it.
 */
export function planFrom(source: RecoverySource, question: RecoveryQuestion): RecoveryAnswer {
  const { repository, stored } = source
  const [systemIdentifier = null, ...others] = clustersOf(source, question)
  if (stored === null || stored.listedAt === null)
    return { ...nowhere(repository.name, systemIdentifier), refused: notYet }
  if (systemIdentifier === null) return { ...nowhere(repository.name, null), refused: nothing }
  const answer = planOf(source, question, systemIdentifier)
  if (answer.plan !== null || question.target.kind !== 'time') return hinted(answer, others)
  for (const other of others) {
    const found = planOf(source, question, other)
    if (found.plan !== null) return found
  }
  return hinted(answer, others)
}

/** Says of what other clusters something is there, where there is nothing of the one that was meant. */
function hinted(answer: RecoveryAnswer, others: readonly string[]): RecoveryAnswer {
  if (answer.refused !== nothing || others.length === 0) return answer
  const hint = `there is something of another cluster: ask for its system identifier, ${others.join(', ')}`
  return { ...answer, refused: { ...nothing, hint } }
}

function planOf(source: RecoverySource, question: RecoveryQuestion, systemIdentifier: string): RecoveryAnswer {
  const { repository, stored, server, clock, now } = source
  const { target, backup } = question
  const system = stored?.systems.get(systemIdentifier)
  if (system === undefined) return { ...nowhere(repository.name, systemIdentifier), refused: nothing }
  const { coverage } = system
  const backups = planBackups(repository, systemIdentifier)
  const timeline = question.timeline ?? newestTimeline({ backups, coverage, server, systemIdentifier })
  const bounds = (end: WalPosition) => clockBounds(coverage.timelines.lineage(timeline), end.lsn)
  const options = {
    ...{ backups, coverage, timeline, target, backup, now },
    coveredUntil: (end: WalPosition) => clock?.covered(systemIdentifier, bounds(end), now)?.at ?? null,
  }
  const windows = recoveryWindows(options).map(({ from, end, backup, hole }) => {
    const until = options.coveredUntil(end)
    // The clock may not have been looked at since, and the backup is whole all the same.
    return { ...{ from, backup, hole }, until: until !== null && until < from ? from : until }
  })
  const base = { repository: repository.name, systemIdentifier, segmentSize: coverage.segmentSize, windows }
  const result = tryPlan(options)
  if ('refused' in result) {
    const { refused, obstacle } = result
    return { ...base, refused, obstacle, missing: obstacle?.missing ?? [], ...noPlan }
  }
  const { plan } = result
  const reached =
    target.kind === 'time' ? (clock?.reached?.(systemIdentifier, bounds(plan.to), target.at) ?? null) : null
  const costs = costsOf(source, { plan, options, system, reached })
  const warnings = recoveryWarnings({
    ...{ plan, costs, target, coverage, serverVersion: source.serverVersion },
    isTimelineChosen: question.timeline === null,
    runningCluster: server === null || server.systemIdentifier === systemIdentifier ? null : server.systemIdentifier,
  })
  const missing = missingAfter({ plan, target, coverage })
  return { ...base, plan, costs, warnings, refused: null, obstacle: null, missing }
}

const noPlan = { plan: null, costs: null, warnings: [] } as const

const nowhere = (repository: string, systemIdentifier: string | null) => ({
  ...{ repository, systemIdentifier, segmentSize: null, obstacle: null, missing: [], windows: [], ...noPlan },
})

function costsOf(
  { repository, restores }: RecoverySource,
  of: {
    readonly plan: RecoveryPlan
    readonly options: PlanOptions
    readonly system: StoredSystem
    readonly reached: WalPosition | null
  },
): RecoveryCosts {
  const { plan, options, system, reached } = of
  const { backups } = options
  return recoveryCosts(plan, {
    ...{ backups, reached, segmentSize: system.coverage.segmentSize },
    measured: [...measuredProofs(repository, backups), ...restores],
    storedWalBytes: (from, to) => storedWalBytes(system, plan.timeline, { from, to }),
  })
}

/** Verifications that made a server of a backup. */
function measuredProofs(
  { proofs }: Pick<RepositoryState, 'proofs'>,
  backups: readonly PlanBackup[],
): readonly MeasuredRestore[] {
  return backups.flatMap(({ id }) =>
    (proofs.get(id) ?? []).flatMap(({ finishedAt, measured }) =>
      measured === undefined ? [] : [{ backup: id, at: finishedAt, ...measured }],
    ),
  )
}

/** The clusters that may be meant, the likeliest first: one that is named, the one of the backup, the one that runs, then by the newest backup. */
function clustersOf(
  { repository, stored, server }: RecoverySource,
  { backup, systemIdentifier }: RecoveryQuestion,
): readonly string[] {
  if (systemIdentifier != null) return [systemIdentifier]
  const physical = repository.backups.filter(({ type }) => type === 'full' || type === 'incremental')
  const named = physical.find(({ id }) => id === backup)
  if (named !== undefined) return [named.systemIdentifier]
  const newestFirst = physical.toSorted((a, b) => b.finishedAt.getTime() - a.finishedAt.getTime())
  const withBackups = newestFirst.map((one) => one.systemIdentifier)
  const running = server === null ? [] : [server.systemIdentifier]
  return [...new Set([...running, ...withBackups, ...(stored?.systems.keys() ?? [])])]
}

const notYet: Failure = {
  code: 'not-recoverable',
  message: 'what is stored is not known yet: the server, or the repository, was not looked at',
  hint: 'ask again in a moment; see /-/ready',
}

const nothing: Failure = {
  code: 'not-recoverable',
  message: 'no WAL of this cluster is stored here',
  hint: 'set wal.archive, and take a physical backup; if there was one, see whether the disk of the repository is mounted',
}
