import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import type { TokenConfig } from '../config/validated.ts'
import type { DrillOrigin } from '../domain/alert-drill.ts'
import type { Manifest } from '../domain/backup.ts'
import type { Failure } from '../domain/errors.ts'
import type { Proof } from '../domain/proof.ts'
import type { Catalog } from '../observe/catalog.ts'
import type { Growth } from '../observe/growth.ts'
import type { RecoveryAnswer, RecoveryQuestion } from '../observe/recovery.ts'
import type { RetentionPlans } from '../observe/retention.ts'
import type { WalTold } from '../observe/wal-preview.ts'
import type { WalWork } from '../observe/wal-report.ts'
import type { JobName, JobParams, JobSummary, Run, RunState } from '../runner/job.ts'
import type { LeaseStatus } from '../runner/lease.ts'

/** What HTTP needs of the runner. */
export interface RunnerPort {
  /** Queues a run. Throws `conflict` with `details.runId` while the same run is queued or running. */
  trigger(request: {
    readonly job: JobName
    readonly params: JobParams
    readonly trigger: 'api'
    readonly requestedBy: string | null
  }): Run
  /** Asks a queued or running run to stop; it ends soon after. Throws `not-found`, or `conflict` when it has ended. */
  cancel(id: string): Run
  get(id: string): Run | null
  /** Newest first; `before` is the id of a run, which itself is left out. */
  list(filter: {
    readonly limit?: number
    readonly before?: string
    readonly job?: JobName
    readonly state?: RunState
  }): readonly Run[]
  jobs(): readonly JobSummary[]
  /** Calls the listener after every change of any run, until the returned function is called. */
  onChange(listener: (run: Run) => void): () => void
}

/** The exposition, rendered once per snapshot. */
export interface RenderedMetrics {
  readonly contentType: string
  readonly body: string
}

/** One copy of a backup, as the repository itself tells it. */
export interface BackupCopy {
  readonly repository: string
  /** Null when it cannot be read. */
  readonly manifest: Manifest | null
  /** Those that can be read, newest first. */
  readonly proofs: readonly Proof[]
  /** Why something of this copy cannot be read; it takes nothing from the other copies. */
  readonly problems: readonly Failure[]
}

/** Limits that the answers are measured against; null: none was set. */
export interface RecoveryPolicy {
  readonly rpoSeconds: number
  readonly rtoSeconds: number
  readonly dumpMaxAgeSeconds: number | null
  readonly verificationMaxAgeSeconds: number | null
}

export interface HttpDependencies {
  readonly version: string
  readonly clock: Clock
  readonly log: Logger
  /** None: the reads are open and everything that changes something is off. */
  readonly tokens: readonly TokenConfig[]
  readonly cluster: string
  readonly catalog: () => Catalog
  /** The rendered snapshot, at once; null before the first one. */
  readonly metrics: () => RenderedMetrics | null
  readonly runner: RunnerPort
  /** Manifest and proofs of one backup, read from one repository or from all (null). Throws `not-found`. */
  readonly backupDetails: (id: string, repository: string | null, signal: AbortSignal) => Promise<readonly BackupCopy[]>
  readonly policy: RecoveryPolicy
  /** What stays and goes in each repository of a catalog, from memory. */
  readonly retention: (catalog: Catalog) => RetentionPlans
  /** How far the newest backups are from what is usual, and what explains it. */
  readonly growth: Pick<Growth, 'of'>
  /** What goes on about the WAL. */
  readonly walWork: () => WalWork
  /** How each repository would bring back what is asked for, from memory. Throws `not-found`. */
  readonly planRecoveries: (catalog: Catalog, question: RecoveryQuestion) => readonly RecoveryAnswer[]
  /**
   * What would become of the WAL in a repository if these backups had gone, read from the repository; null: all of it stays.
   * Fails as the repository does.
   */
  readonly previewWal: (
    repository: string,
    going: ReadonlySet<string>,
    signal: AbortSignal,
  ) => Promise<readonly WalTold[] | null>
  /** Drills of alerts; null: none is configured. */
  readonly alertDrill: {
    /** Where one begins unless it is said. */
    readonly from: DrillOrigin
    /** False when no such drill goes on. */
    hear(echo: { readonly drill: string; readonly receiver: string }): boolean
  } | null
  /** Who may write to the repositories. */
  readonly leases: () => readonly LeaseStatus[]
}

/** What one client may take of the server. Times are milliseconds, sizes bytes. */
export interface HttpLimits {
  /** From the first byte of a request to the end of its header. */
  readonly headersTimeout: number
  /** From the first byte of a request to the end of its body. */
  readonly requestTimeout: number
  /** How often the two above are looked at. */
  readonly checkInterval: number
  /** A connection without any byte for so long is cut; longer than the heartbeat of an event stream. */
  readonly idleTimeout: number
  readonly keepAliveTimeout: number
  /** For an answer that has to be read from a repository. */
  readonly repositoryTimeout: number
  readonly bodyBytes: number
  readonly connections: number
  /** Of one client, or of one proxy with all its clients. */
  readonly connectionsPerAddress: number
  /** After so many a client has to connect again. */
  readonly requestsPerConnection: number
  readonly eventStreams: number
}

export const defaultLimits: HttpLimits = {
  headersTimeout: 10_000,
  requestTimeout: 20_000,
  checkInterval: 5_000,
  idleTimeout: 60_000,
  // Longer than the usual scrape interval, so that Prometheus keeps its connection.
  keepAliveTimeout: 65_000,
  repositoryTimeout: 30_000,
  bodyBytes: 16 * 1024,
  connections: 256,
  connectionsPerAddress: 96,
  requestsPerConnection: 1_000,
  eventStreams: 64,
}
