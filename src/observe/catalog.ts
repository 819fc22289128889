import type { BackupType } from '../domain/backup.ts'
import type { Failure } from '../domain/errors.ts'
import type { Verdict, VerificationLevel } from '../domain/proof.ts'
import type { BackupFailure, JobSummary } from '../runner/job.ts'
import type { Capacity } from '../storage/storage.ts'

/** One complete backup in one repository, small enough to keep ten thousand of them in memory. */
export interface BackupSummary {
  readonly id: string
  readonly type: BackupType
  /** Empty for physical backups. */
  readonly database: string
  readonly systemIdentifier: string
  readonly serverVersion: string
  readonly startedAt: Date
  readonly finishedAt: Date
  /** The moment that a restore of this backup gives (a dump: its snapshot). */
  readonly consistentAt: Date
  readonly durationSeconds: number
  readonly storedBytes: number
  readonly sourceBytes: number | null
  readonly warnings: number
  readonly manifestChecksum: string
}

/** A backup folder that holds no complete, readable backup. */
export interface UnusableBackup {
  readonly id: string
  readonly state: 'in-progress' | 'incomplete' | 'invalid'
  /** Why, for `invalid`. */
  readonly failure?: Failure
}

/** A proof, without its details. */
export interface ProofSummary {
  readonly backupId: string
  readonly manifestChecksum: string
  readonly startedAt: Date
  readonly finishedAt: Date
  readonly durationSeconds: number
  readonly verdict: Verdict
  /** True: the backup was really restored and nothing was found wrong. */
  readonly provesRestore: boolean
  readonly levels: Readonly<
    Partial<
      Record<
        VerificationLevel,
        {
          readonly verdict: Verdict
          readonly cause?: string
          readonly finishedAt: Date
          readonly durationSeconds: number
        }
      >
    >
  >
}

/** What one look at a repository gave. */
export interface RepositoryState {
  readonly name: string
  readonly backups: readonly BackupSummary[]
  readonly unusable: readonly UnusableBackup[]
  /** Newest first for each backup id. */
  readonly proofs: ReadonlyMap<string, readonly ProofSummary[]>
  readonly capacity: Capacity | null
}

/** What one look at the server gave. */
export interface ServerState {
  readonly systemIdentifier: string
  readonly serverVersion: string
  readonly serverVersionNum: number
  readonly startedAt: Date
  readonly inRecovery: boolean
  /** Databases that must be backed up: all that allow connections but templates, or the configured ones that exist. */
  readonly databases: readonly string[]
  /** Configured databases that do not exist. */
  readonly missingDatabases: readonly string[]
}

/** The health of one observer (`server`, `repository:<name>`, `history`). */
export interface CollectorState {
  readonly collector: string
  /** null before the first look has ended. */
  readonly success: boolean | null
  readonly durationSeconds: number | null
  readonly lastSuccessAt: Date | null
  readonly failure: Failure | null
}

/**
 * All that is known at one moment, immutable: the metrics, the API and the page are made from it and from nothing else.
 * A part that could not be looked at keeps its last known value; its collector says that it is old.
 */
export interface Catalog {
  readonly at: Date
  readonly server: ServerState | null
  readonly repositories: readonly RepositoryState[]
  readonly collectors: readonly CollectorState[]
  readonly jobs: readonly JobSummary[]
  readonly backupFailures: readonly BackupFailure[]
  /** True once every collector has ended its first look, whatever came of it. */
  readonly complete: boolean
}
