import { LifeboatError } from '../domain/errors.ts'
import { type Answer, inThread } from './scan.ts'

/*
 * Listing a WAL archive by names alone: a million of them become a few thousand runs of places, which do not depend on the
 * size of the segments.
 */

/** Segments of which the archive's names tell: first and last place of each run, one after the other, ascending. */
export type PlaceRuns = Float64Array

/** Everything in an archive directory, by its name. */
export interface WalListing {
  /** By timeline. No run goes on from one log to the next. */
  readonly segments: ReadonlyMap<number, PlaceRuns>
  /** Files whose names are those of histories, labels and partials. */
  readonly named: readonly string[]
  /** Files that are no WAL by their name, and whatever has the name of WAL and is no file. Other directories do not count. */
  readonly others: readonly string[]
  /** How many more there are than these lists hold. */
  readonly unlisted: number
  /** The directory has an `.incoming`, as `lifeboat-archive` needs it. */
  readonly hasIncoming: boolean
}

/** Whole numbers of three: timeline, first and last segment. */
export type SegmentTriples = Float64Array

export type WalScanTask =
  | { readonly what: 'list'; readonly directory: string }
  | {
      readonly what: 'lengths'
      readonly directory: string
      readonly segmentSize: number
      readonly segments: SegmentTriples
    }

/**
 * A place is `log * placesPerLog` + the number within the log: what a name says, whatever the size of the segments. A log
 * of the smallest ones has so many.
 */
export const placesPerLog = 4096

/** Names of each kind that a listing holds at most: none of them is a million in an archive that is one. */
export const mostListed = { named: 100_000, others: 10_000, timelines: 10_000 } as const

/**
 * Lists an archive in a thread of its own.
 *
 * @throws LifeboatError `storage-failed` when it cannot be read; the signal's reason
 */
export function listWal(directory: string, signal: AbortSignal): Promise<WalListing> {
  return scan<WalListing>({ what: 'list', directory }, signal)
}

/** Which of these segments are not there as plain files of the right length. Fails like `listWal`. */
export function findMisfits(
  directory: string,
  segmentSize: number,
  segments: SegmentTriples,
  signal: AbortSignal,
): Promise<SegmentTriples> {
  return scan<SegmentTriples>({ what: 'lengths', directory, segmentSize, segments }, signal)
}

async function scan<T>(task: WalScanTask, signal: AbortSignal): Promise<T> {
  const answer: Answer<T> = await inThread<T>('wal-scan-thread', task, signal)
  if ('result' in answer) return answer.result
  throw unreadableArchive(task.directory, answer)
}

/** The failure of a look at an archive that cannot be read. */
export function unreadableArchive(
  directory: string,
  { code, message }: { readonly code?: string | undefined; readonly message: string },
): LifeboatError {
  const hint =
    code === 'ENOENT' || code === 'ENOTDIR'
      ? 'Correct wal.archive, or mount what belongs there.'
      : 'Let the OS user of lifeboat read and enter it, and read the files in it.'
  return new LifeboatError('storage-failed', `cannot read the WAL archive ${directory}: ${message}`, { hint })
}
