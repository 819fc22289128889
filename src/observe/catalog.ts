import type { BackupType } from '../domain/backup.ts'
import type { BackupObjects } from '../domain/backup-objects.ts'
import type { Failure } from '../domain/errors.ts'
import type { PostureFinding } from '../domain/posture.ts'
import type { Verdict, VerificationLevel } from '../domain/proof.ts'
import type { BackupFailure, JobSummary } from '../runner/job.ts'
import type { Capacity, Lock } from '../storage/storage.ts'
import type { ArchiverView } from './archiver.ts'
import type { WatchState } from './external-catalog.ts'
import type { WalState } from './wal-state.ts'

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
  /** The place in the WAL that belongs to that moment: unlike a clock it never goes back. */
  readonly timeline: number
  readonly lsn: string
  /** From where on a physical backup needs WAL; of a dump it is the same place. */
  readonly startTimeline: number
  readonly startLsn: string
  /** Null where nothing tells when it began. */
  readonly durationSeconds: number | null
  readonly storedBytes: number
  /** What comes out of its artifacts, bytes; null where nobody has looked. */
  readonly plainBytes: number | null
  /** Null where it is no backup of a repository. */
  readonly objects: BackupObjects | null
  readonly sourceBytes: number | null
  readonly warnings: number
  readonly manifestChecksum: string
  /** Some of it can be read with a private key only. */
  readonly isEncrypted: boolean
  /** The backup that an incremental builds on. */
  readonly parent: string | null
  /** What the bucket said of the lock of its manifest when that was read; later it may have been prolonged. */
  readonly lock?: Lock
}

/** Somebody wants a backup kept. */
export interface HoldSummary {
  readonly backupId: string
  /** Why, or what is wrong with the hold: one that cannot be read holds all the same. */
  readonly reason: string
  /** Null: until it is released. */
  readonly until: Date | null
}

/** A mark that a backup is being verified or restored. */
export interface UseSummary {
  readonly backupId: string
  readonly key: string
  readonly version: string
  /** Null when the mark cannot be read. */
  readonly runId: string | null
  /** Its last sign of life. */
  readonly heartbeatAt: Date
}

/** A backup folder that holds no complete, readable backup. */
export interface UnusableBackup {
  readonly id: string
  readonly state: 'in-progress' | 'incomplete' | 'invalid'
  /** Why, for `invalid`. */
  readonly failure?: Failure
  /** What its manifest says, where that is good, and its artifacts are not. */
  readonly summary?: BackupSummary
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
  /** Of a physical backup that became a server: seconds by phase, and the WAL that was replayed. */
  readonly measured?: { readonly phases: Readonly<Record<string, number>>; readonly walBytes: number }
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
  /** The same object from look to look until a backup comes, changes or goes; so with `proofs`. */
  readonly backups: readonly BackupSummary[]
  readonly unusable: readonly UnusableBackup[]
  /** Newest first for each backup id. */
  readonly proofs: ReadonlyMap<string, readonly ProofSummary[]>
  /** Ids of backups of which a proof is there that cannot be read. */
  readonly unreadProofs: ReadonlySet<string>
  /** By the id of the backup; also those that have ended. The same object until a hold comes, changes or goes. */
  readonly holds: ReadonlyMap<string, HoldSummary>
  readonly uses: readonly UseSummary[]
  readonly capacity: Capacity | null
  /** Objects beside the WAL that nothing of Lifeboat has made; left out where nobody has counted them. */
  readonly foreign?: number
  /** All objects beside the WAL, as far as the look lists them; left out where that is not known. */
  readonly objects?: number
  /** Left out where the storage copies nothing to another place. */
  readonly replication?: ReplicationSummary
}

/** How many of the newest backups the storage has copied to another place by itself. */
export interface ReplicationSummary {
  readonly pending: number
  readonly completed: number
  readonly failed: number
}

/** How the bucket of a repository is set up. */
export interface RepositoryPosture {
  readonly repository: string
  readonly findings: readonly PostureFinding[]
}

/** What is known of the server; whether it answers just now is its collector's to say. */
export interface ServerState {
  /**
   * Who said so, the best that there is. `server`: a look of this process, maybe an earlier one. `memory`: the last look
   * of a process before this one. `inferred`: the configuration and the newest backup.
   */
  readonly source: 'server' | 'memory' | 'inferred'
  /** Null when neither the server nor a backup of it was ever seen; so is the version. */
  readonly systemIdentifier: string | null
  readonly serverVersion: string | null
  /** Databases that must be backed up: all that allow connections but templates, or the configured ones that exist. */
  readonly databases: readonly string[]
  /** Configured databases that do not exist. */
  readonly missingDatabases: readonly string[]
  /** When those databases were first seen that were not there at the first look; the others may be of any age. */
  readonly appearedAt: ReadonlyMap<string, Date>
}

/** The health of one observer (`server`, `repository:<name>`, `posture:<name>`, `watch:<name>`, `history`). */
export interface CollectorState {
  readonly collector: string
  /** null before the first look has ended. */
  readonly success: boolean | null
  readonly durationSeconds: number | null
  readonly lastSuccessAt: Date | null
  readonly failure: Failure | null
  /** The last look that worked should never be longer ago than that: else the looking itself stands still. */
  readonly maxAgeSeconds: number
}

/**
 * All that is known at one moment, immutable: the metrics, the API and the page are made from it and from nothing else.
 * A part that could not be looked at keeps its last known value; its collector says that it is old.
 */
export interface Catalog {
  readonly at: Date
  /** Null while there is nothing to know it from, and until the first look at the server has ended. */
  readonly server: ServerState | null
  /** The server's archiver; null before the first look, and without a server. */
  readonly archiver: ArchiverView | null
  readonly repositories: readonly RepositoryState[]
  /** Of those in buckets that have told. */
  readonly postures: readonly RepositoryPosture[]
  /** What is known of the WAL; null where nobody looks at it. */
  readonly wal: WalState | null
  /** Directories in which other tools put dumps. */
  readonly watches: readonly WatchState[]
  readonly collectors: readonly CollectorState[]
  readonly jobs: readonly JobSummary[]
  readonly backupFailures: readonly BackupFailure[]
  /** True once every collector has ended its first look, whatever came of it; but for those of postures. */
  readonly complete: boolean
}
