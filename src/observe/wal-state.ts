import type { WalCoverage, WalGap, WalPosition } from '../domain/coverage.ts'
import type { JudgedGap } from '../domain/holes.ts'
import type { Capacity } from '../storage/storage.ts'

/*
 * What is known of the WAL. The coverages are alive: they grow with each look, so that a million segments need not be
 * copied for each new one. `revision` is another number whenever one has changed; only who makes a state writes to them.
 */

/** The archive directory, as the last look saw it. */
export interface WalArchiveState {
  readonly directory: string
  /** Of the newest segment; null while there is none that can be read. */
  readonly systemIdentifier: string | null
  /** Null while no segment is there. */
  readonly segmentSize: number | null
  readonly segments: number
  readonly partials: number
  readonly histories: number
  readonly labels: number
  /** Files that are no WAL by their name or their length, and have been there for a while. */
  readonly foreign: number
  readonly bytes: number
  /** Names of histories and labels, and of partials, in byte order. */
  readonly plainNames: readonly string[]
  readonly partialNames: readonly string[]
  /** The segment that came last by its place on the newest timeline, and when it was written. */
  readonly newest: { readonly name: string; readonly at: Date } | null
  /** Null while the segment size is not known. */
  readonly coverage: WalCoverage | null
  readonly revision: number
  readonly capacity: Capacity | null
}

/** The WAL that one repository holds. */
export interface StoredWalState {
  readonly repository: string
  /** By system identifier: a cluster that was upgraded has got another one. */
  readonly systems: ReadonlyMap<string, StoredSystem>
  readonly revision: number
  /** When everything was listed last; null: never yet by this state file, so that what is told may be less than there is. */
  readonly listedAt: Date | null
}

export interface StoredSystem {
  readonly systemIdentifier: string
  readonly coverage: WalCoverage
  readonly segments: number
  readonly partials: number
  /** Histories and labels. Left out where nobody has counted them. */
  readonly plainFiles?: number
  /** As stored. */
  readonly bytes: number
  /** Segments of which two whole ones of different content are stored. */
  readonly contradictions: number
  /**
   * What the segments of a timeline from the first to the last number take as stored: counted by shelves, and of a part of a
   * shelf by its average. Left out where it is not known.
   */
  readonly storedBytes?: (timeline: number, first: number, last: number) => number
}

/** The newest look at the clock of the WAL. */
export interface WalClockState {
  readonly systemIdentifier: string
  readonly timeline: number
  /** By the server's clock. */
  readonly at: Date
  /** Where the server writes next; on a standby, how far it has replayed. */
  readonly lsn: bigint
  readonly segmentSize: number
  readonly inRecovery: boolean
  /** WAL that it writes, bytes per second over the last hour; null: not watched for long enough. */
  readonly rate: number | null
  /** It stands before WAL that is stored of its timeline: it was put back, or is a copy, and writes other WAL than that. */
  readonly isSetBack?: boolean
}

/** An interval of moments that can be restored. */
export interface RecoveryWindowState {
  readonly from: Date
  /** Null: nobody knows until when. */
  readonly until: Date | null
  /** The backup where it begins. */
  readonly backup: string
  /** The first gap after it; null: it goes on to the newest WAL. */
  readonly hole: WalGap | null
}

/** What the WAL in one repository is good for. Null: not known, or there is none. */
export interface RepositoryWal {
  readonly repository: string
  readonly segments: number
  readonly bytes: number
  /** Where the recovery begins that gets furthest: the start of a physical backup, or without one the oldest WAL without a gap. */
  readonly from: WalPosition | null
  /** False: no physical backup is there, and WAL alone restores nothing. */
  readonly hasBackup: boolean
  /** The end of the WAL without a gap from there on, to the server's timeline. */
  readonly end: WalPosition | null
  /** Everything that was committed before this moment is in that WAL. */
  readonly coveredUntil: Date | null
  /** The same, where a physical backup makes it the moment to which one can restore. */
  readonly recoveryPoint: Date | null
  /** What can be restored, oldest first; empty where no physical backup makes WAL worth anything. */
  readonly windows: readonly RecoveryWindowState[]
  /** WAL that the server has written and that is not stored there. */
  readonly exposureBytes: number | null
  /** Whole segments that are not stored yet, and are in the archive or still to come there. */
  readonly backlogSegments: number | null
  readonly backlogBytes: number | null
  /** Segments that are nowhere, inside the kept window; the acknowledged ones are not counted. */
  readonly missingSegments: number | null
  /** The first of them, at most 1,000 gaps; the acknowledged ones as well. */
  readonly gaps: readonly JudgedGap[]
}

/** One replication slot of the server. */
export interface SlotState {
  readonly name: string
  readonly type: 'physical' | 'logical'
  readonly active: boolean
  /** `reserved`, `extended`, `unreserved`, `lost`; null where the server does not tell. */
  readonly walStatus: string | null
  /** WAL that the server keeps for it, bytes; null: it keeps none. */
  readonly retainedBytes: number | null
  /** That is more than the limit. */
  readonly overLimit: boolean
}

/** All about the WAL; each part is as old as its collector says. */
export interface WalState {
  readonly archive: WalArchiveState | null
  readonly stored: readonly StoredWalState[]
  readonly clock: WalClockState | null
  /** One for each repository that was looked at. */
  readonly repositories: readonly RepositoryWal[]
  /** Null: not looked at yet. */
  readonly slots: readonly SlotState[] | null
}
