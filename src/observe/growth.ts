import type { Logger } from 'pino'
import { toFailure } from '../domain/errors.ts'
import type { Fingerprint } from '../domain/fingerprint.ts'
import {
  type Deviation,
  deviationOf,
  explainGrowth,
  type GrowthBounds,
  type TableChange,
  totalRows,
} from '../domain/growth.ts'
import type { BackupSummary, Catalog } from './catalog.ts'
import { type RankedBackups, rankBackups } from './questions.ts'

/** The newest backup of one repository, type and database, held against those before it. */
export interface BackupDeviation {
  readonly repository: string
  readonly backup: BackupSummary
  readonly size: Deviation
  /** The one before it that is nearest to what is usual. */
  readonly usual: BackupSummary
}

/** What explains a deviation, as far as the fingerprints of two backups tell. */
export interface GrowthReport {
  /** Rows of the newest against those of the usual backup; null where a table was not counted. */
  readonly rowsRatio: number | null
  readonly tables: readonly TableChange[]
}

/** Deviations of the newest backups. Cheap: a few backups of each group are looked at. */
export function deviations(
  catalog: Catalog,
  bounds: GrowthBounds,
  ranked: readonly RankedBackups[] = rankBackups(catalog),
): BackupDeviation[] {
  return ranked.flatMap(({ state, groups }) =>
    groups.flatMap(([newest, ...earlier]) => {
      if (newest === undefined) return []
      const considered = earlier.slice(0, mostConsidered)
      const size = deviationOf(measured(newest), considered.map(measured), bounds)
      if (size === null) return []
      const distance = (backup: BackupSummary) => Math.abs(backup.storedBytes - size.value)
      const usual = considered.reduce((best, one) => (distance(one) < distance(best) ? one : best))
      return [{ repository: state.name, backup: newest, size, usual }]
    }),
  )
}

/** Eight weeks of hourly backups would be more; the fourteen newest and those of a weekday are among these. */
const mostConsidered = 500

function measured({ consistentAt, storedBytes }: BackupSummary) {
  return { at: consistentAt, value: storedBytes }
}

export interface GrowthOptions {
  readonly bounds: GrowthBounds
  readonly log: Logger
  /** The fingerprint of a backup; null when it has none. May fail. */
  readonly fingerprint: (repository: string, id: string, signal: AbortSignal) => Promise<Fingerprint | null>
  readonly signal: AbortSignal
}

export interface Growth {
  /** To be called with each catalog: what deviates and is new is explained in the background, and told of once. */
  look(catalog: Catalog): void
  /** Of the newest backup of its group; null for any other, and while nothing is known to be usual. */
  of(
    repository: string,
    backupId: string,
  ): { readonly deviation: BackupDeviation; readonly report: GrowthReport | null } | null
}

/** Says which tables explain that a backup is unusually small or large. Fingerprints are read once for each new backup. */
export function createGrowth({ bounds, log, fingerprint, signal }: GrowthOptions): Growth {
  let found = new Map<string, BackupDeviation>()
  const reports = new Map<string, GrowthReport | null>()
  let states: Catalog['repositories'] = []
  let working: Promise<void> = Promise.resolve()

  const keyOf = (repository: string, id: string) => `${repository} ${id}`

  async function explain(key: string, { repository, backup, size, usual }: BackupDeviation): Promise<void> {
    let report: GrowthReport | null = null
    try {
      const [before, after] = [await read(repository, usual), await read(repository, backup)]
      if (before !== null && after !== null) report = compare(before, after)
    } catch (error) {
      if (signal.aborted) return
      log.warn(
        { repository, backup: backup.id, ...toFailure(error) },
        'a fingerprint cannot be read: no table explains the size',
      )
    }
    reports.set(key, report)
    const rows = report?.rowsRatio ?? null
    const isUnusual = size.isUnusual || (rows !== null && (rows < bounds.shrinkBelow || rows > bounds.growAbove))
    if (!isUnusual) return
    const about = {
      repository,
      backup: backup.id,
      database: backup.database,
      ratio: size.ratio,
      rowsRatio: rows,
      usual: usual.id,
    }
    const direction = (size.isUnusual ? size.ratio : (rows ?? 1)) < 1 ? 'small' : 'large'
    const names = report?.tables.slice(0, 3).map(({ table }) => table) ?? []
    const because = names.length === 0 ? '' : `: ${names.join(', ')}`
    log.warn({ ...about, tables: report?.tables ?? null }, `backup is unusually ${direction}${because}`)
  }

  async function read(repository: string, { type, id }: BackupSummary): Promise<Fingerprint | null> {
    return type === 'dump' ? fingerprint(repository, id, signal) : null
  }

  return {
    look(catalog) {
      const now = [...catalog.repositories, ...catalog.watches]
      const isSame =
        now.length === states.length && now.every((state, index) => state.backups === states[index]?.backups)
      if (isSame) return
      states = now
      found = new Map(deviations(catalog, bounds).map((one) => [keyOf(one.repository, one.backup.id), one]))
      for (const key of reports.keys()) if (!found.has(key)) reports.delete(key)
      for (const [key, one] of found) {
        if (reports.has(key)) continue
        reports.set(key, null)
        working = working.then(() => explain(key, one))
      }
    },
    of(repository, id) {
      const key = keyOf(repository, id)
      const deviation = found.get(key)
      return deviation === undefined ? null : { deviation, report: reports.get(key) ?? null }
    },
  }
}

function compare(before: Fingerprint, after: Fingerprint): GrowthReport {
  const [former, present] = [totalRows(before), totalRows(after)]
  const rowsRatio = former === null || present === null || former === 0 ? null : present / former
  return { rowsRatio, tables: explainGrowth(before, after) }
}
