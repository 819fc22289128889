import type { Verdict, VerificationLevel } from '../../src/domain/proof.ts'
import { verificationLevels } from '../../src/domain/proof.ts'
import type { RetentionPolicy } from '../../src/domain/retention.ts'
import type {
  BackupSummary,
  Catalog,
  CollectorState,
  ProofSummary,
  RepositoryState,
  ServerState,
} from '../../src/observe/catalog.ts'
import { createRetentionView, type RetentionPlans } from '../../src/observe/retention.ts'

/** The moment `minutes` after the first of March 2026, UTC. */
export function at(minutes: number): Date {
  return new Date(Date.UTC(2026, 2, 1) + minutes * 60_000)
}

/** A dump whose snapshot is of `at(minutes)` and that took a minute, unless said otherwise. */
export function backup(minutes: number, fields: Partial<BackupSummary> = {}): BackupSummary {
  return {
    id: `${at(minutes).toISOString().slice(0, 19).replace(/[-:]/g, '')}Z-dump-abcdef`,
    type: 'dump',
    database: 'app',
    systemIdentifier: '7500000000000000001',
    serverVersion: '15.18',
    startedAt: at(minutes),
    finishedAt: at(minutes + 1),
    consistentAt: at(minutes),
    timeline: 1,
    lsn: `0/${(0x1000000 + Math.round(minutes * 1000)).toString(16).toUpperCase()}`,
    startTimeline: 1,
    startLsn: `0/${(0x1000000 + Math.round(minutes * 1000)).toString(16).toUpperCase()}`,
    durationSeconds: 60,
    storedBytes: 1_000,
    plainBytes: 4_000,
    objects: { large: 0, largeBytes: 0, small: 3, smallBytes: 1_000 },
    sourceBytes: 8_000_000,
    warnings: 0,
    manifestChecksum: 'c'.repeat(64),
    isEncrypted: false,
    parent: null,
    ...fields,
  }
}

/** A verification of that backup that ended at `at(minutes)`, with the verdict of each level that it reached. */
export function proof(
  of: BackupSummary,
  minutes: number,
  levels: Readonly<Partial<Record<VerificationLevel, Verdict>>>,
): ProofSummary {
  const found = Object.values(levels)
  const verdict = found.includes('fail') ? 'fail' : found.includes('inconclusive') ? 'inconclusive' : 'pass'
  const results: { -readonly [L in keyof ProofSummary['levels']]: ProofSummary['levels'][L] } = {}
  for (const level of verificationLevels) {
    const result = levels[level]
    if (result !== undefined) results[level] = { verdict: result, finishedAt: at(minutes), durationSeconds: 2.5 }
  }
  return {
    backupId: of.id,
    manifestChecksum: of.manifestChecksum,
    startedAt: at(minutes - 1),
    finishedAt: at(minutes),
    durationSeconds: 60,
    verdict,
    provesRestore: verdict === 'pass' && levels.restore === 'pass',
    levels: results,
  }
}

export function repositoryState(
  name: string,
  backups: readonly BackupSummary[],
  proofs: readonly ProofSummary[] = [],
): RepositoryState {
  const newestFirst = proofs.toSorted((a, b) => b.finishedAt.getTime() - a.finishedAt.getTime())
  return {
    name,
    backups,
    unusable: [],
    proofs: Map.groupBy(newestFirst, (one) => one.backupId),
    unreadProofs: new Set(),
    holds: new Map(),
    uses: [],
    capacity: null,
  }
}

/** The policy of a repository whose section is left out. */
export const defaultRetention: RetentionPolicy = {
  keepForSeconds: 30 * 86_400,
  keepAtLeast: 7,
  windowSeconds: null,
  daily: 0,
  weekly: 0,
  monthly: 0,
  yearly: 0,
}

/** The default policy in `local` and `offsite`, as the metrics and the API need it, by a clock that nobody doubts. */
export const policies: ReadonlyMap<string, RetentionPolicy> = new Map(
  ['local', 'offsite'].map((name) => [name, defaultRetention]),
)

export function retention(): (catalog: Catalog) => RetentionPlans {
  return createRetentionView({ policies, clockDoubt: () => null })
}

export function serverState(databases: readonly string[], fields: Partial<ServerState> = {}): ServerState {
  return {
    source: 'server',
    systemIdentifier: '7500000000000000001',
    serverVersion: '15.18 (Debian 15.18-0+deb12u1)',
    databases,
    missingDatabases: [],
    appearedAt: new Map(),
    ...fields,
  }
}

export function collectorState(collector: string, fields: Partial<CollectorState> = {}): CollectorState {
  const seen = { durationSeconds: 0.25, lastSuccessAt: at(600), failure: null, maxAgeSeconds: 210 }
  return { collector, success: true, ...seen, ...fields }
}

export function catalogOf(fields: Partial<Catalog> = {}): Catalog {
  return {
    at: at(600),
    server: serverState(['app']),
    archiver: null,
    repositories: [],
    wal: null,
    postures: [],
    watches: [],
    collectors: [],
    jobs: [],
    backupFailures: [],
    complete: true,
    ...fields,
  }
}
