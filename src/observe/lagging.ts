import { parseLsn } from '../domain/lsn.ts'
import { standing } from '../domain/proof.ts'
import type { BackupSummary, Catalog, RepositoryState } from './catalog.ts'
import { compareBackups, isClockAhead } from './questions.ts'
import type { StoredWalState } from './wal-state.ts'

/**
 * The ids of the backups that each repository lacks since it was out of reach, and another one has; in the order in which they
 * are to be copied. Of each series (the dumps of a database, the physical backups of a cluster) these are the ones that are newer than
 * the newest that it has, or the newest one alone where it has none: what it let expire does not come back. A physical backup comes
 * after what it builds on, and when the WAL that it needs is there. What was stored before encryption was switched on stays where
 * it is.
 *
 * @param isEncrypting what is stored from now on is encrypted
 */
export function laggards(
  catalog: Catalog,
  { isEncrypting }: { readonly isEncrypting: boolean },
): ReadonlyMap<string, readonly string[]> {
  return new Map(
    catalog.repositories.flatMap((repository): readonly [string, readonly string[]][] => {
      const wal = catalog.wal?.stored.find((one) => one.repository === repository.name) ?? null
      const ids = missingIn(repository, { catalog, wal, isEncrypting })
      return ids.length === 0 ? [] : [[repository.name, ids]]
    }),
  )
}

function missingIn(
  repository: RepositoryState,
  {
    catalog,
    wal,
    isEncrypting,
  }: { readonly catalog: Catalog; readonly wal: StoredWalState | null; readonly isEncrypting: boolean },
): readonly string[] {
  const own = new Set([...repository.backups, ...repository.unusable].map(({ id }) => id))
  const newest = newestOf(repository.backups)
  const found = new Map<string, BackupSummary>()
  for (const other of catalog.repositories) {
    if (other === repository) continue
    const byId = new Map(other.backups.map((one) => [one.id, one]))
    const isWanted = (one: BackupSummary) =>
      standing(other.proofs.get(one.id)) !== 'refuted' &&
      !isClockAhead(catalog, one) &&
      (one.isEncrypted || !isEncrypting)
    const usable = other.backups.filter(isWanted)
    const newestThere = newestOf(usable)
    for (const backup of usable) {
      const last = newest.get(seriesOf(backup))
      const isMissed =
        last === undefined ? newestThere.get(seriesOf(backup)) === backup : compareBackups(backup, last) > 0
      if (!isMissed || own.has(backup.id)) continue
      const chain = chainOf(backup, byId)
      const lacking = chain?.filter(({ id }) => !own.has(id)) ?? []
      if (lacking.every((one) => isWanted(one) && (one.type === 'dump' || hasWal(wal, one))))
        for (const one of lacking) found.set(one.id, one)
    }
  }
  return [...found.values()].toSorted(compareBackups).map(({ id }) => id)
}

function seriesOf({ systemIdentifier, type, database }: BackupSummary): string {
  return type === 'dump' ? `${systemIdentifier} ${database}` : systemIdentifier
}

function newestOf(backups: readonly BackupSummary[]): ReadonlyMap<string, BackupSummary> {
  const newest = new Map<string, BackupSummary>()
  for (const backup of backups) {
    const known = newest.get(seriesOf(backup))
    if (known === undefined || compareBackups(known, backup) < 0) newest.set(seriesOf(backup), backup)
  }
  return newest
}

/** What a backup builds on, the full one first, and itself; null where that is not all there. */
function chainOf(backup: BackupSummary, byId: ReadonlyMap<string, BackupSummary>): readonly BackupSummary[] | null {
  const chain: BackupSummary[] = []
  for (let member: BackupSummary | undefined = backup; ; member = byId.get(member.parent)) {
    if (member === undefined || chain.includes(member)) return null
    chain.unshift(member)
    if (member.parent === null) return chain
  }
}

function hasWal(wal: StoredWalState | null, backup: BackupSummary): boolean {
  const { systemIdentifier, startTimeline, timeline, startLsn, lsn } = backup
  const coverage = wal?.systems.get(systemIdentifier)?.coverage
  const [start, stop] = [parseLsn(startLsn), parseLsn(lsn)]
  if (coverage === undefined || start === null || stop === null) return false
  const reach = coverage.reach({ from: { timeline: startTimeline, lsn: start }, target: timeline })
  return reach !== null && reach.end.lsn >= stop
}
