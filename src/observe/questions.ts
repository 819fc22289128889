import { type BackupType, backupTypes } from '../domain/backup.ts'
import { type Verdict, type VerificationLevel, verificationLevels } from '../domain/proof.ts'
import type { BackupSummary, Catalog, ProofSummary, RepositoryState } from './catalog.ts'

/** A backup and the name of the repository that holds it. */
export interface Located {
  readonly repository: string
  readonly backup: BackupSummary
}

/** The newest verification of any backup of one database, at one level. */
export interface LatestVerification {
  readonly repository: string
  readonly type: BackupType
  /** Empty for physical backups. */
  readonly database: string
  readonly level: VerificationLevel
  readonly verdict: Verdict
  readonly finishedAt: Date
  readonly durationSeconds: number
  /** When the newest one that passed had finished; null: none passed. */
  readonly lastPassAt: Date | null
}

export interface Inventory {
  readonly repository: string
  readonly type: BackupType
  readonly count: number
  readonly storedBytes: number
  /** Finish time of the oldest one; null when there is none. */
  readonly oldestAt: Date | null
}

export interface RecoveryPoint {
  readonly repository: string
  readonly at: Date
}

/** What all proofs of a backup together say: `refuted` when a failure has not been disproved since. */
export type Standing = 'proven' | 'refuted' | 'unproven'

// No observer sees files of other tools yet; a count of 0 would claim that there are none.
const countedTypes = backupTypes.filter((type) => type !== 'external')

const repositoryPrefix = 'repository:'

/** The name of the collector that looks at a repository. */
export function repositoryCollector(repository: string): string {
  return `${repositoryPrefix}${repository}`
}

/** The repository that a collector looks at; null for those that look at something else. */
export function repositoryOfCollector(collector: string): string | null {
  return collector.startsWith(repositoryPrefix) ? collector.slice(repositoryPrefix.length) : null
}

/** Databases that must be backed up; null while the server was never seen, since nobody knows then. */
export function requiredDatabases(catalog: Catalog): readonly string[] | null {
  return catalog.server?.databases ?? null
}

/**
 * Order of age, oldest first: by the moment that a restore gives. Ids only make equal moments come out in one order;
 * they say when a backup was named, not what it holds.
 */
export function compareBackups(a: BackupSummary, b: BackupSummary): number {
  return (
    a.consistentAt.getTime() - b.consistentAt.getTime() ||
    a.finishedAt.getTime() - b.finishedAt.getTime() ||
    (a.id < b.id ? -1 : 1)
  )
}

/**
 * True for a backup of the cluster that runs now. After initdb or pg_upgrade the system identifier is another one, and
 * what was taken before cannot stand for the new cluster. While the server was never seen every backup is its own.
 */
export function isOfThisCluster(catalog: Catalog, backup: BackupSummary): boolean {
  return catalog.server === null || backup.systemIdentifier === catalog.server.systemIdentifier
}

/** What the proofs of one backup (newest first) say. A failure is disproved by a later pass at that level or deeper. */
export function standing(proofs: readonly ProofSummary[] | undefined): Standing {
  let passed = -1
  for (const proof of proofs ?? []) {
    if (proof.verdict === 'pass') {
      if (proof.provesRestore) return 'proven'
      passed = Math.max(
        passed,
        verificationLevels.findLastIndex((level) => proof.levels[level] !== undefined),
      )
    } else if (verificationLevels.findIndex((level) => proof.levels[level]?.verdict === 'fail') > passed) {
      return 'refuted'
    }
  }
  return 'unproven'
}

/** Newest complete backup for each repository, type and database. */
export function newestBackups(catalog: Catalog): Located[] {
  return catalog.repositories.flatMap((state) => newestIn(catalog, state, () => true))
}

/**
 * Newest backup that a restore has proven, for each repository, type and database that must still be backed up (a
 * dropped database is never proven again: its last proof must not age for ever).
 */
export function newestProvenBackups(catalog: Catalog): Located[] {
  return catalog.repositories.flatMap((state) =>
    newestIn(
      catalog,
      state,
      (backup) => isStillRequired(catalog, backup) && standing(state.proofs.get(backup.id)) === 'proven',
    ),
  )
}

/**
 * Latest verification for each repository, type, database and level, of whichever backup it was. Those of databases
 * that need no backup any more (dropped, or no longer configured) are left out once the server was seen.
 */
export function latestVerifications(catalog: Catalog): LatestVerification[] {
  return catalog.repositories.flatMap((state) => {
    const groups = createGroups<Map<VerificationLevel, Changeable<LatestVerification>>>()
    for (const backup of state.backups) {
      const proofs = state.proofs.get(backup.id)
      if (proofs === undefined || !isOfThisCluster(catalog, backup) || !isStillRequired(catalog, backup)) continue
      const latest = groups.at(backup) ?? groups.put(backup, new Map())
      for (const proof of proofs) {
        for (const level of verificationLevels) {
          const result = proof.levels[level]
          if (result === undefined) continue
          const { verdict, finishedAt, durationSeconds } = result
          const known = latest.get(level)
          if (known === undefined) {
            const { type, database } = backup
            const lastPassAt = verdict === 'pass' ? finishedAt : null
            const repository = state.name
            latest.set(level, { repository, type, database, level, verdict, finishedAt, durationSeconds, lastPassAt })
            continue
          }
          if (isAfter(finishedAt, known.finishedAt)) Object.assign(known, { verdict, finishedAt, durationSeconds })
          if (verdict === 'pass' && (known.lastPassAt === null || isAfter(finishedAt, known.lastPassAt))) {
            known.lastPassAt = finishedAt
          }
        }
      }
    }
    return groups.values().flatMap((latest) => [...latest.values()])
  })
}

/** Complete backups of each repository by type, of every system identifier: all of them take up space. */
export function inventories(catalog: Catalog): Inventory[] {
  return catalog.repositories.flatMap((state) => {
    const present = new Set([...countedTypes, ...state.backups.map((backup) => backup.type)])
    return [...present].map((type) => {
      const backups = state.backups.filter((backup) => backup.type === type)
      return {
        repository: state.name,
        type,
        count: backups.length,
        storedBytes: backups.reduce((sum, backup) => sum + backup.storedBytes, 0),
        oldestAt: earliest(backups.map((backup) => backup.finishedAt)),
      }
    })
  })
}

/**
 * The moment to which each repository can bring back everything that must be backed up, from dumps alone: the oldest of
 * the databases' newest dumps. A dump that a verification has refuted does not count. A repository has no recovery
 * point (which is not the same as an old one) when a required database has no dump in it, when no database is required,
 * and as long as the server was never seen: which databases are required is not known then.
 */
export function recoveryPoints(catalog: Catalog): RecoveryPoint[] {
  const required = requiredDatabases(catalog)
  if (required === null) return []
  return catalog.repositories.flatMap((state) => {
    const usable = (backup: BackupSummary) =>
      backup.type === 'dump' && standing(state.proofs.get(backup.id)) !== 'refuted'
    const newest = new Map(newestIn(catalog, state, usable).map(({ backup }) => [backup.database, backup.consistentAt]))
    const moments = required.flatMap((database) => newest.get(database) ?? [])
    const at = moments.length === required.length ? earliest(moments) : null
    return at === null ? [] : [{ repository: state.name, at }]
  })
}

function newestIn(catalog: Catalog, state: RepositoryState, counts: (backup: BackupSummary) => boolean): Located[] {
  const newest = createGroups<BackupSummary>()
  // Listed by id, the newest mostly come last: beginning there, nearly all others need one comparison and no more.
  for (const backup of state.backups.toReversed()) {
    const known = newest.at(backup)
    if (known !== undefined && compareBackups(backup, known) < 0) continue
    if (isOfThisCluster(catalog, backup) && counts(backup)) newest.put(backup, backup)
  }
  return newest.values().map((backup) => ({ repository: state.name, backup }))
}

type Changeable<T> = { -readonly [K in keyof T]: T[K] }

/** One value for each type and database. Two maps, since making a key of the two for each backup takes most of the time. */
function createGroups<T>() {
  const types = new Map<BackupType, Map<string, T>>()
  return {
    at: ({ type, database }: BackupSummary): T | undefined => types.get(type)?.get(database),
    put({ type, database }: BackupSummary, value: T): T {
      const databases = types.get(type) ?? new Map<string, T>()
      types.set(type, databases.set(database, value))
      return value
    },
    values: (): T[] => sortedValues(types).flatMap((databases) => sortedValues(databases)),
  }
}

/** The values by the order of their keys, so that what is printed does not depend on what was seen first. */
function sortedValues<T>(map: ReadonlyMap<string, T>): T[] {
  return [...map].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, value]) => value)
}

function isStillRequired(catalog: Catalog, backup: BackupSummary): boolean {
  return backup.database === '' || (requiredDatabases(catalog)?.includes(backup.database) ?? true)
}

function earliest(moments: readonly Date[]): Date | null {
  return moments.reduce<Date | null>((oldest, at) => (oldest === null || isAfter(oldest, at) ? at : oldest), null)
}

/** Comparing dates by `>` turns both into primitives the long way round: six times slower. */
function isAfter(a: Date, b: Date): boolean {
  return a.getTime() > b.getTime()
}
