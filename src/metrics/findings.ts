import type { Catalog } from '../observe/catalog.ts'
import {
  type Inventory,
  inventories,
  type LatestVerification,
  type Located,
  latestVerifications,
  newestBackups,
  newestProvenBackups,
  type RecoveryPoint,
  recoveryPoints,
} from '../observe/questions.ts'

/** The answers to all questions that go through every backup. */
export interface Findings {
  readonly newest: readonly Located[]
  readonly proven: readonly Located[]
  readonly verifications: readonly LatestVerification[]
  readonly inventories: readonly Inventory[]
  readonly recoveryPoints: readonly RecoveryPoint[]
}

export function examine(catalog: Catalog): Findings {
  return {
    newest: newestBackups(catalog),
    proven: newestProvenBackups(catalog),
    verifications: latestVerifications(catalog),
    inventories: inventories(catalog),
    recoveryPoints: recoveryPoints(catalog),
  }
}

/**
 * Examines catalogs one after the other, and anew only when the server or a repository in them is. A run that reports
 * its progress makes a catalog several times a second: going through ten thousand backups each time would hold up the
 * event loop for nothing.
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
    a.repositories.length === b.repositories.length &&
    a.repositories.every((state, index) => state === b.repositories[index])
  )
}
