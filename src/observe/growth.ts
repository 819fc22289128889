import type { Logger } from 'pino'
import { toFailure } from '../domain/errors.ts'
import { type Deviation, deviationOf, type GrowthBounds, isOutside, isUnusual } from '../domain/growth.ts'
import type { GrowthComparison } from '../domain/growth-tables.ts'
import type { BackupSummary, Catalog } from './catalog.ts'
import { tellOfGrowth } from './growth-words.ts'
import { keepersOf, type RankedBackups, rankBackups } from './questions.ts'

/** The newest backup of one repository, type and database, held against those before it. */
export interface BackupDeviation {
  readonly repository: string
  readonly backup: BackupSummary
  readonly size: Deviation<BackupSummary>
  /** Of the baseline, the one that is nearest to its median; the newest of several. */
  readonly usual: BackupSummary
}

/** The backup against the usual one, as far as their fingerprints tell. */
export interface GrowthReport extends GrowthComparison {
  /** The rows are beyond the limits, and beyond what was seen before. */
  readonly areRowsUnusual: boolean
}

/** Deviations of the newest backups. Cheap: eight weeks of each group are looked at. */
export function deviations(
  catalog: Catalog,
  bounds: GrowthBounds,
  ranked: readonly RankedBackups[] = rankBackups(catalog),
): BackupDeviation[] {
  return ranked.flatMap(({ state, groups }) =>
    groups.flatMap(([newest, ...earlier]) => {
      const size = newest === undefined ? null : deviationOf(newest, earlier, bounds)
      if (newest === undefined || size === null) return []
      const distance = ({ storedBytes }: BackupSummary) => Math.abs(storedBytes - size.storedBytes)
      const usual = size.backups.reduce((best, one) => (distance(one) < distance(best) ? one : best))
      return [{ repository: state.name, backup: newest, size, usual }]
    }),
  )
}

export interface GrowthOptions {
  readonly bounds: GrowthBounds
  readonly log: Logger
  /** For the fingerprints of one repository. */
  readonly reader: (repository: string) => FingerprintReader
  readonly signal: AbortSignal
}

/** Compares the fingerprint of one backup with those of others. Everything of it may fail; `end` is called last. */
export interface FingerprintReader {
  /** Reads the one that is compared with the others; false when the backup has none. */
  readonly hold: (id: string) => Promise<boolean>
  /** From this backup to the one that is held; null when it has no fingerprint. */
  readonly compare: (id: string) => Promise<GrowthComparison | null>
  readonly end: () => Promise<void>
}

/** What is known of one backup. The report is null while it is being made, and where no fingerprint tells. */
export interface KnownGrowth {
  readonly deviation: BackupDeviation
  readonly report: GrowthReport | null
  /** In its size, or its rows as far as they are known. Null: its rows are being looked at. */
  readonly isUnusual: boolean | null
}

export interface Growth {
  /** To be called with each catalog: what is new is explained in the background, and what is unusual told of once. */
  look(catalog: Catalog): void
  /** Of the newest backup of its group; null for any other, and while nothing is known to be usual. */
  of(repository: string, backupId: string): KnownGrowth | null
  /** Resolves when all that was looked at is explained. */
  settled(): Promise<void>
}

/** Says which tables explain that a backup is unusually small or large. */
export function createGrowth({ bounds, log, reader, signal }: GrowthOptions): Growth {
  let found = new Map<string, BackupDeviation>()
  const reports = new Map<string, GrowthReport | null>()
  const unexplained = new Set<string>()
  let seen: readonly unknown[] = []
  let working: Promise<void> = Promise.resolve()

  const keyOf = (repository: string, id: string) => `${repository} ${id}`

  /** Null where the fingerprint of the backup is not there or cannot be read. */
  async function attempt<T>(
    repository: string,
    { type, id }: BackupSummary,
    work: (id: string) => Promise<T | null>,
  ): Promise<T | null> {
    if (type !== 'dump' || signal.aborted) return null
    try {
      return await work(id)
    } catch (error) {
      if (!signal.aborted)
        log.warn({ repository, backup: id, ...toFailure(error) }, 'fingerprint cannot be read: it explains no size')
      return null
    }
  }

  /** Only now that the rows are beyond the limits, the other fingerprints are read too: one after the other, they are large. */
  async function areRowsUnusual(
    { repository, size, usual }: BackupDeviation,
    ratio: number | null,
    { compare }: FingerprintReader,
  ): Promise<boolean> {
    if (ratio === null || !isOutside(ratio, bounds)) return false
    const against = async (backups: readonly BackupSummary[]) => {
      const ratios: number[] = []
      for (const one of backups) {
        const other = one === usual ? ratio : (await attempt(repository, one, compare))?.rowsRatio
        if (other != null) ratios.push(other)
      }
      return ratios
    }
    return isUnusual(ratio, await against(size.backups), await against(size.precedents), bounds)
  }

  async function reportOf(one: BackupDeviation): Promise<GrowthReport | null> {
    const fingerprints = reader(one.repository)
    try {
      if ((await attempt(one.repository, one.backup, fingerprints.hold)) !== true) return null
      const comparison = await attempt(one.repository, one.usual, fingerprints.compare)
      if (comparison === null) return null
      return { ...comparison, areRowsUnusual: await areRowsUnusual(one, comparison.rowsRatio, fingerprints) }
    } finally {
      await fingerprints.end()
    }
  }

  async function explain(key: string, one: BackupDeviation, { watches }: Catalog): Promise<void> {
    const report = await reportOf(one)
    if (signal.aborted) return
    reports.set(key, report)
    if (!one.size.isUnusual && !report?.areRowsUnusual) return
    const watch = watches.find(({ name }) => name === one.repository)
    tellOfGrowth(log, one, report, watch?.details(one.backup.id)?.file)
  }

  return {
    look(catalog) {
      const now = [catalog.server?.systemIdentifier, ...keepersOf(catalog).map(({ backups }) => backups)]
      if (now.length === seen.length && now.every((one, index) => one === seen[index])) return
      seen = now
      found = new Map(deviations(catalog, bounds).map((one) => [keyOf(one.repository, one.backup.id), one]))
      for (const key of reports.keys()) if (!found.has(key)) reports.delete(key)
      for (const [key, one] of found) {
        if (reports.has(key)) continue
        reports.set(key, null)
        unexplained.add(key)
        working = working
          .then(() => explain(key, one, catalog))
          .catch((error: unknown) => log.error(toFailure(error), 'a deviation could not be explained'))
          .finally(() => unexplained.delete(key))
      }
    },
    of(repository, id) {
      const key = keyOf(repository, id)
      const deviation = found.get(key)
      if (deviation === undefined) return null
      const report = reports.get(key) ?? null
      const isUnusual = deviation.size.isUnusual || report?.areRowsUnusual || (unexplained.has(key) ? null : false)
      return { deviation, report, isUnusual }
    },
    settled: () => working,
  }
}
