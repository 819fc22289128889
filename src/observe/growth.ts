import type { Logger } from 'pino'
import { toFailure } from '../domain/errors.ts'
import type { Fingerprint } from '../domain/fingerprint.ts'
import { type Deviation, deviationOf, type GrowthBounds, isOutside, isUnusual } from '../domain/growth.ts'
import { compareGrowth, type GrowthComparison } from '../domain/growth-tables.ts'
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
  /** The fingerprint of a backup; null when it has none. May fail. */
  readonly fingerprint: (repository: string, id: string, signal: AbortSignal) => Promise<Fingerprint | null>
  readonly signal: AbortSignal
}

/** What is known of one backup. The report is null while it is being made, and where no fingerprint tells. */
export interface KnownGrowth {
  readonly deviation: BackupDeviation
  readonly report: GrowthReport | null
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
export function createGrowth({ bounds, log, fingerprint, signal }: GrowthOptions): Growth {
  let found = new Map<string, BackupDeviation>()
  const reports = new Map<string, GrowthReport | null>()
  let seen: readonly unknown[] = []
  let working: Promise<void> = Promise.resolve()

  const keyOf = (repository: string, id: string) => `${repository} ${id}`

  /** Null where it has none or it cannot be read. */
  async function read(repository: string, { type, id }: BackupSummary): Promise<Fingerprint | null> {
    if (type !== 'dump' || signal.aborted) return null
    try {
      return await fingerprint(repository, id, signal)
    } catch (error) {
      if (!signal.aborted)
        log.warn({ repository, backup: id, ...toFailure(error) }, 'fingerprint cannot be read: it explains no size')
      return null
    }
  }

  /** Only now that the rows are beyond the limits, the other fingerprints are read too: one after the other, they are large. */
  async function areRowsUnusual(
    { repository, size, usual }: BackupDeviation,
    after: Fingerprint,
    ratio: number | null,
  ): Promise<boolean> {
    if (ratio === null || !isOutside(ratio, bounds)) return false
    const against = async (backups: readonly BackupSummary[]) => {
      const ratios: number[] = []
      for (const one of backups) {
        const before = one === usual ? null : await read(repository, one)
        const other = one === usual ? ratio : before === null ? null : compareGrowth(before, after).rowsRatio
        if (other !== null) ratios.push(other)
      }
      return ratios
    }
    return isUnusual(ratio, await against(size.backups), await against(size.precedents), bounds)
  }

  async function explain(key: string, one: BackupDeviation, { watches }: Catalog): Promise<void> {
    const before = await read(one.repository, one.usual)
    const after = before === null ? null : await read(one.repository, one.backup)
    let report: GrowthReport | null = null
    if (before !== null && after !== null) {
      const comparison = compareGrowth(before, after)
      report = { ...comparison, areRowsUnusual: await areRowsUnusual(one, after, comparison.rowsRatio) }
    }
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
        working = working
          .then(() => explain(key, one, catalog))
          .catch((error: unknown) => log.error(toFailure(error), 'a deviation could not be explained'))
      }
    },
    of(repository, id) {
      const key = keyOf(repository, id)
      const deviation = found.get(key)
      return deviation === undefined ? null : { deviation, report: reports.get(key) ?? null }
    },
    settled: () => working,
  }
}
