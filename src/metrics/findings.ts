import { clockToleranceMs } from '../domain/backup.ts'
import type { Catalog } from '../observe/catalog.ts'
import { type BackupDeviation, deviations } from '../observe/growth.ts'
import {
  type Inventory,
  inventories,
  keepersOf,
  type LatestVerification,
  type Located,
  latestVerifications,
  newestBackups,
  newestProvenBackups,
  newestUsableDumps,
  rankBackups,
} from '../observe/questions.ts'

/** The answers to all questions that go through every backup. */
export interface Findings {
  readonly newest: readonly Located[]
  /** What recovery points are made of; those also depend on the hour. */
  readonly usable: readonly Located[]
  readonly proven: readonly Located[]
  readonly verifications: readonly LatestVerification[]
  readonly inventories: readonly Inventory[]
  readonly deviations: readonly BackupDeviation[]
}

export function examine(catalog: Catalog): Findings {
  const ranked = rankBackups(catalog)
  return {
    newest: newestBackups(catalog, ranked),
    usable: newestUsableDumps(catalog, ranked),
    proven: newestProvenBackups(catalog, ranked),
    verifications: latestVerifications(catalog),
    inventories: inventories(catalog),
    // Only the ratios are used here, and no limit has a say in them.
    deviations: deviations(catalog, { shrinkBelow: 0, growAbove: Number.POSITIVE_INFINITY }, ranked),
  }
}

/**
 * Examines catalogs one after the other, and anew only when the server or the backups in them are. A run that reports
 * its progress makes a catalog several times a second, every look another: going through ten thousand backups each time
 * would hold up the event loop for nothing.
 */
export function createExaminer(): (catalog: Catalog) => Findings {
  let last: { readonly catalog: Catalog; readonly findings: Findings } | null = null
  return (catalog) => {
    if (last === null || !holdTheSame(last.catalog, catalog)) last = { catalog, findings: examine(catalog) }
    return last.findings
  }
}

function holdTheSame(a: Catalog, b: Catalog): boolean {
  return (
    a.server === b.server &&
    keepersOf(a).length === keepersOf(b).length &&
    keepersOf(a).every((state, index) => {
      const other = keepersOf(b)[index]
      return state.name === other?.name && state.backups === other.backups && state.proofs === other.proofs
    }) &&
    // What is dated ahead comes to count as time passes, and the clock may go back: a little late is early enough.
    Math.abs(b.at.getTime() - a.at.getTime()) < clockToleranceMs
  )
}
