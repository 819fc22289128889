import type { Failure } from '../domain/errors.ts'
import type { SegmentSet } from '../domain/segment-set.ts'
import type { WalPageProblem } from '../domain/wal-page.ts'

/**
 * Why a file of the archive is not stored among the WAL: what its first page tells, and `damaged` (a page within, or a
 * history or label that is torn), `contradicts` (other bytes are stored under its name), `unreadable`.
 */
export type QuarantineReason = WalPageProblem | 'damaged' | 'contradicts' | 'unreadable'

/** Why nothing is shipped to a repository just now, though nothing has failed: null when nothing is in the way. */
export type ShippingWait =
  /** The archive has not been looked at, or holds no segment. */
  | 'archive'
  /** What the repository holds is not known yet. */
  | 'index'
  /** Another sidecar ships. */
  | 'lease'
  | null

/** Segments of the archive, by timeline, that are in quarantine: with these no recovery gets on. Alive, as coverages are. */
export interface RefusedSegments {
  readonly segments: ReadonlyMap<number, SegmentSet>
  /** Another number whenever something has changed. */
  readonly revision: number
}

/** How shipping to one repository fares; numbers since the start of the process. */
export interface RepositoryShipping {
  readonly repository: string
  readonly waiting: ShippingWait
  /** Whole segments that were put. */
  readonly shippedSegments: number
  /** As stored. */
  readonly shippedBytes: number
  /** Whole segments of the archive that are still to be shipped; null: not known. */
  readonly queued: number | null
  readonly inFlight: number
  readonly lastSuccessAt: Date | null
  readonly failures: number
  /** The last one, until something succeeds again. */
  readonly failure: Failure | null
  readonly quarantined: ReadonlyMap<QuarantineReason, number>
  /** Files of a system identifier of which it is not known yet whether it is this server's. */
  readonly undecided: number
  /** From the writing of the file that was stored last to its being stored; null: none was. */
  readonly delaySeconds: number | null
}

export interface ShippingState {
  readonly repositories: readonly RepositoryShipping[]
  /** Null: nothing is ever removed from the archive. */
  readonly pruning: {
    readonly prunedSegments: number
    readonly prunedBytes: number
    readonly failure: Failure | null
  } | null
}
