import { type VerificationLevel, verificationLevels } from '../domain/proof.ts'
import type { BackupSummary, Catalog, CollectorState, ProofSummary, RepositoryState } from '../observe/catalog.ts'
import {
  compareBackups,
  countingBackups,
  latest,
  physicalPoint,
  repositoryOfCollector,
  type Standing,
  standing,
} from '../observe/questions.ts'
import type { RecoveryPolicy } from './ports.ts'

export interface Verification {
  readonly standing: Standing
  /** When a restore proved it last; null unless proven. */
  readonly provenAt: Date | null
  /** How long that verification took; null unless proven. */
  readonly restoreSeconds: number | null
  /** The newest result of each level. */
  readonly levels: Readonly<Partial<Record<VerificationLevel, NonNullable<ProofSummary['levels'][VerificationLevel]>>>>
}

/** Sums up what the proofs say about one backup. */
export function verificationOf(backup: BackupSummary, repository: RepositoryState): Verification {
  const proofs = repository.proofs.get(backup.id) ?? []
  const found = standing(proofs)
  const restore = found === 'proven' ? proofs.find((proof) => proof.provesRestore) : undefined
  const levels: { -readonly [level in VerificationLevel]?: NonNullable<ProofSummary['levels'][level]> } = {}
  for (const level of verificationLevels) {
    const result = proofs.find((proof) => proof.levels[level] !== undefined)?.levels[level]
    if (result) levels[level] = result
  }
  return {
    standing: found,
    provenAt: restore?.finishedAt ?? null,
    restoreSeconds: restore?.durationSeconds ?? null,
    levels,
  }
}

/**
 * Whether one database can be recovered from one repository.
 * `none`: no backup. `broken`: every backup failed its verification. `unproven`: no restore has shown it.
 * `overdue`: it can, but a limit of the policy is passed. `damaged`: it can, but not from the newest backup.
 */
export type RecoveryState = 'none' | 'broken' | 'unproven' | 'damaged' | 'overdue' | 'proven'

export interface Recovery {
  readonly repository: string
  readonly state: RecoveryState
  /** The newest backup that did not fail: what a restore would take. */
  readonly newest: BackupSummary | null
  /** The newest backup that a restore has proven, and the proof. */
  readonly proven: { readonly backup: BackupSummary; readonly verification: Verification } | null
  /** The moment to which a physical backup and WAL bring back the whole cluster; null: there are none, or nobody knows. */
  readonly physicalUntil: Date | null
  /** The later one of that and of `newest`. */
  readonly until: Date | null
  /** Seconds of work that a recovery would lose by now: since `until`. */
  readonly exposureSeconds: number | null
  readonly backupOverdue: boolean
  readonly proofOverdue: boolean
}

export interface DatabaseRecovery {
  readonly database: string
  /** False: the server has no such database any more (or null: the server could not be asked). */
  readonly onServer: boolean | null
  /** One for each repository. */
  readonly recoveries: readonly Recovery[]
}

/** No repository is configured: the files of other tools are all that there is to recover from. */
export function isWatchOnly({ watches, collectors, repositories }: Catalog): boolean {
  const isRepository = ({ collector }: CollectorState) => repositoryOfCollector(collector) !== null
  return watches.length > 0 && repositories.length === 0 && !collectors.some(isRepository)
}

/**
 * Judges every database that must be backed up, and every one that still has dumps, in every repository; where there is
 * none, in the watched directories that hold files of it.
 */
export function recoverability(catalog: Catalog, policy: RecoveryPolicy, now: Date): readonly DatabaseRecovery[] {
  if (isWatchOnly(catalog)) return watched(catalog, policy, now)
  const wanted = catalog.server?.databases ?? []
  const dumped = catalog.repositories.map((repository) => ({
    repository,
    byDatabase: byDatabase(catalog, repository, 'dump'),
  }))
  const names = new Set([...wanted, ...dumped.flatMap(({ byDatabase }) => [...byDatabase.keys()])])
  const isWanted = new Set(wanted)
  return [...names].toSorted().map((database) => ({
    database,
    onServer: catalog.server === null || catalog.server.source === 'inferred' ? null : isWanted.has(database),
    recoveries: dumped.map(({ repository, byDatabase }) =>
      judge(repository, byDatabase.get(database) ?? [], policy, now.getTime(), physicalPoint(catalog, repository.name)),
    ),
  }))
}

function watched(catalog: Catalog, policy: RecoveryPolicy, now: Date): readonly DatabaseRecovery[] {
  const names = new Set(catalog.watches.flatMap(({ databases }) => databases))
  return [...names].toSorted().map((database) => ({
    database,
    onServer: null,
    recoveries: catalog.watches
      .filter(({ databases }) => databases.includes(database))
      .map((watch) => {
        const files = byDatabase(catalog, watch, 'external').get(database) ?? []
        return judge(watch, files, { ...policy, dumpMaxAgeSeconds: watch.maxAgeSeconds }, now.getTime())
      }),
  }))
}

/** Backups that count: those of a cluster that was there before, or of the future, cannot stand for the one that runs now. */
function byDatabase(
  catalog: Catalog,
  repository: RepositoryState,
  type: 'dump' | 'external',
): ReadonlyMap<string, BackupSummary[]> {
  const found = new Map<string, BackupSummary[]>()
  for (const backup of countingBackups(catalog, repository)) {
    if (backup.type !== type) continue
    const dumps = found.get(backup.database)
    if (dumps) dumps.push(backup)
    else found.set(backup.database, [backup])
  }
  return found
}

function judge(
  repository: RepositoryState,
  dumps: BackupSummary[],
  policy: RecoveryPolicy,
  now: number,
  physical: Date | null = null,
): Recovery {
  const newestFirst = dumps.toSorted((a, b) => compareBackups(b, a))
  // One by one, newest first: the first few decide, and there may be thousands.
  const standingOf = (backup: BackupSummary) => standing(repository.proofs.get(backup.id))
  const newest = newestFirst.find((backup) => standingOf(backup) !== 'refuted') ?? null
  const restored = newestFirst.find((backup) => standingOf(backup) === 'proven')
  const proven = restored ? { backup: restored, verification: verificationOf(restored, repository) } : null
  const late = (at: Date | null | undefined, limit: number | null) =>
    at != null && limit !== null && now - at.getTime() > limit * 1000
  const backupOverdue = late(newest?.finishedAt, policy.dumpMaxAgeSeconds)
  const proofOverdue = late(proven?.verification.provenAt, policy.verificationMaxAgeSeconds)
  const state = (): RecoveryState => {
    if (newest === null) return dumps.length === 0 ? 'none' : 'broken'
    if (proven === null) return 'unproven'
    if (newest !== newestFirst[0]) return 'damaged'
    return backupOverdue || proofOverdue ? 'overdue' : 'proven'
  }
  const point = latest(newest?.consistentAt ?? null, physical)
  return {
    repository: repository.name,
    state: state(),
    newest,
    proven,
    physicalUntil: physical,
    until: point,
    exposureSeconds: point === null ? null : Math.max(0, (now - point.getTime()) / 1000),
    backupOverdue,
    proofOverdue,
  }
}
