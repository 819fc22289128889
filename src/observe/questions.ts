import { type BackupType, backupTypes, clockToleranceMs, isDatedAhead } from '../domain/backup.ts'
import { compareLsn } from '../domain/lsn.ts'
import { standing, type Verdict, type VerificationLevel, verificationLevels } from '../domain/proof.ts'
import type { BackupSummary, Catalog, RepositoryState } from './catalog.ts'

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

export { type Standing, standing } from '../domain/proof.ts'

// Files of other tools are in watched directories.
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

const watchPrefix = 'watch:'

/** The name of the collector that looks at a watched directory. */
export function watchCollector(watch: string): string {
  return `${watchPrefix}${watch}`
}

/** The repository or watched directory that a collector looks at; null for those that look at something else. */
export function keeperOfCollector(collector: string): string | null {
  return collector.startsWith(watchPrefix) ? collector.slice(watchPrefix.length) : repositoryOfCollector(collector)
}

/**
 * Databases that must be backed up: those that the server, the memory of it, the configuration or the backups name (see
 * `ServerState`); null while none of them does.
 */
export function requiredDatabases(catalog: Catalog): readonly string[] | null {
  return catalog.server?.databases ?? null
}

/**
 * Order of age, oldest first: by what a restore gives, and so by the place in the WAL (a new timeline begins with every
 * promotion and recovery), since clocks go back; between two clusters there are only clocks. Ids make equal ones come out
 * in one order; they say when a backup was named, not what it holds.
 */
export function compareBackups(a: BackupSummary, b: BackupSummary): number {
  return (
    (a.systemIdentifier === b.systemIdentifier ? a.timeline - b.timeline || compareLsn(a.lsn, b.lsn) : 0) ||
    a.consistentAt.getTime() - b.consistentAt.getTime() ||
    a.finishedAt.getTime() - b.finishedAt.getTime() ||
    (a.id < b.id ? -1 : 1)
  )
}

/** True for a backup that a wrong clock has dated into the future: it is there, but stands for nothing. */
export function isClockAhead({ at }: Catalog, { startedAt, finishedAt }: BackupSummary): boolean {
  // As `isDatedAhead`, which would make a list for each of ten thousand backups.
  return Math.max(startedAt.getTime(), finishedAt.getTime()) - at.getTime() > clockToleranceMs
}

/**
 * The backups in a repository that count: of the cluster that runs now (after initdb or pg_upgrade the system identifier
 * is another one, and what was taken before cannot stand for the new cluster), and not dated into the future. While the
 * server was never seen, the cluster is that of the backup that was taken last.
 */
export function countingBackups(catalog: Catalog, { backups }: RepositoryState): readonly BackupSummary[] {
  const dated = backups.filter((backup) => !isClockAhead(catalog, backup))
  const identifier = catalog.server?.systemIdentifier ?? identifierOfLast(dated)
  // Nothing in a file of another tool says which cluster it is of: whoever watches it says that it is of this one.
  return dated.filter((backup) => backup.systemIdentifier === identifier || backup.type === 'external')
}

/** By the clock alone, which makes one order of all clusters. */
function identifierOfLast(backups: readonly BackupSummary[]): string | null {
  const last = backups.reduce<BackupSummary | null>(
    (found, backup) => (found === null || isAfter(backup.consistentAt, found.consistentAt) ? backup : found),
    null,
  )
  return last?.systemIdentifier ?? null
}

/** The backups of one repository that count, newest first, apart for each type and database. */
export interface RankedBackups {
  readonly state: RepositoryState
  readonly groups: readonly (readonly BackupSummary[])[]
}

/** Every place that keeps backups: the repositories, and the watched directories. */
export function keepersOf({ repositories, watches }: Catalog): readonly RepositoryState[] {
  return [...repositories, ...watches]
}

/** Ranks what counts in every repository. Several questions can be answered from it; it is what takes their time. */
export function rankBackups(catalog: Catalog): readonly RankedBackups[] {
  return keepersOf(catalog).map((state) => {
    const groups = createGroups<BackupSummary[]>()
    for (const backup of countingBackups(catalog, state)) (groups.at(backup) ?? groups.put(backup, [])).push(backup)
    // Listed by id, they mostly are in their order already: one comparison for each, not a logarithm of them.
    const newestFirst = (group: BackupSummary[]) => group.sort(compareBackups).reverse()
    return { state, groups: groups.values().map(newestFirst) }
  })
}

/** Newest complete backup (of those that count) for each repository, type and database. */
export function newestBackups(catalog: Catalog, ranked = rankBackups(catalog)): Located[] {
  return newestOf(ranked, () => true)
}

/**
 * Newest backup that a restore has proven, for each repository, type and database that must still be backed up (a
 * dropped database is never proven again: its last proof must not age for ever).
 */
export function newestProvenBackups(catalog: Catalog, ranked = rankBackups(catalog)): Located[] {
  return newestOf(
    ranked,
    (backup, state) =>
      standing(state.proofs.get(backup.id)) === 'proven' &&
      isStillRequired(catalog, backup) &&
      !isOnRefuted(backup, state),
  )
}

/** Whether a verification has refuted, since, one of those that it builds on. */
function isOnRefuted({ parent }: BackupSummary, { backups, proofs }: RepositoryState): boolean {
  const seen = new Set<string>()
  for (let id = parent; id !== null && !seen.has(id); ) {
    if (standing(proofs.get(id)) === 'refuted') return true
    seen.add(id)
    const known = id
    id = backups.find((one) => one.id === known)?.parent ?? null
  }
  return false
}

/**
 * Latest verification for each repository, type, database and level, of whichever backup it was. Those of databases
 * that need no backup any more (dropped, or no longer configured) are left out once the server was seen.
 */
export function latestVerifications(catalog: Catalog): LatestVerification[] {
  return keepersOf(catalog).flatMap((state) => {
    const groups = createGroups<Map<VerificationLevel, Changeable<LatestVerification>>>()
    for (const backup of countingBackups(catalog, state)) {
      const proofs = state.proofs.get(backup.id)
      if (proofs === undefined || !isStillRequired(catalog, backup)) continue
      const latest = groups.at(backup) ?? groups.put(backup, new Map())
      for (const proof of proofs) {
        for (const level of verificationLevels) {
          const result = proof.levels[level]
          if (result === undefined || isDatedAhead([result.finishedAt], catalog.at)) continue
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
  return keepersOf(catalog).flatMap((state) => {
    const possible = catalog.watches.some((watch) => watch === state) ? (['external'] as const) : countedTypes
    const present = new Set([...possible, ...state.backups.map((backup) => backup.type)])
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

/** Newest dump of each database in each repository that no verification has refuted: what a recovery would take. */
export function newestUsableDumps(catalog: Catalog, ranked = rankBackups(catalog)): Located[] {
  return newestOf(
    ranked,
    (backup, { proofs }) => backup.type === 'dump' && standing(proofs.get(backup.id)) !== 'refuted',
  )
}

/**
 * The moment to which each repository can bring back everything that must be backed up: the later of two. From a physical
 * backup and the WAL after it, if it has them. From dumps alone: the oldest of the databases' newest usable dumps. Dumps give no recovery point (which is not the same as an old one) when a
 * database that is due has no such dump in it, and when no database is required or known. A database that appeared less
 * than `graceSeconds` ago is not due yet: nobody could have backed it up, and it must not hide how old the others are.
 */
export function recoveryPoints(catalog: Catalog, usable: readonly Located[], graceSeconds: number): RecoveryPoint[] {
  const required = requiredDatabases(catalog) ?? []
  const isDue = (database: string) => {
    const appearedAt = catalog.server?.appearedAt.get(database)
    return appearedAt === undefined || catalog.at.getTime() - appearedAt.getTime() >= graceSeconds * 1000
  }
  const due = required.filter(isDue)
  return catalog.repositories.flatMap(({ name: repository }) => {
    const own = usable.filter((located) => located.repository === repository)
    const newest = new Map(own.map(({ backup }) => [backup.database, backup.consistentAt]))
    const oldest = earliest(required.flatMap((database) => newest.get(database) ?? []))
    const ofDumps = due.every((database) => newest.has(database)) ? oldest : null
    const at = latest(ofDumps, physicalPoint(catalog, repository))
    return at === null ? [] : [{ repository, at }]
  })
}

/** The moment to which a repository can bring back the whole cluster from a physical backup and WAL; null: it cannot. */
export function physicalPoint({ wal }: Catalog, repository: string): Date | null {
  return wal?.repositories.find((one) => one.repository === repository)?.recoveryPoint ?? null
}

function newestOf(
  ranked: readonly RankedBackups[],
  counts: (backup: BackupSummary, state: RepositoryState) => boolean,
): Located[] {
  return ranked.flatMap(({ state, groups }) =>
    groups.flatMap((group) => {
      const backup = group.find((candidate) => counts(candidate, state))
      return backup === undefined ? [] : [{ repository: state.name, backup }]
    }),
  )
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
  return (
    backup.database === '' ||
    backup.type === 'external' ||
    (requiredDatabases(catalog)?.includes(backup.database) ?? true)
  )
}

function earliest(moments: readonly Date[]): Date | null {
  return moments.reduce<Date | null>((oldest, at) => (oldest === null || isAfter(oldest, at) ? at : oldest), null)
}

export function latest(a: Date | null, b: Date | null): Date | null {
  return a === null || (b !== null && isAfter(b, a)) ? b : a
}

/** Comparing dates by `>` turns both into primitives the long way round: six times slower. */
function isAfter(a: Date, b: Date): boolean {
  return a.getTime() > b.getTime()
}
