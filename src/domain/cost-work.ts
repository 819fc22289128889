import type { BackupObjects } from './backup-objects.ts'
import type { Work } from './cost.ts'
import { monthSeconds } from './prices.ts'

/** The storage classes of one repository. */
export interface CostClasses {
  /** Of what is large of backups. */
  readonly backups: string
  readonly wal: string
  /** Of all else. */
  readonly others: string
}

/** What determines how many requests a bucket gets. */
export interface BucketWork {
  /** A larger object is sent in parts of so many bytes, and read so. */
  readonly partBytes: number
  readonly leaseRenewalsPerMonth: number
  /** How often the sidecar looks at it in a month. */
  readonly looksPerMonth: number
  /** All requests as they were counted, for a month; null: nobody has counted for long enough. */
  readonly counted: { readonly puts: number; readonly gets: number } | null
}

interface Where {
  readonly classes: CostClasses
  readonly bucket: Pick<BucketWork, 'partBytes'>
}

/** A renewal lists, reads, puts, and looks at what it has put. */
export const renewal = { puts: 2, gets: 2 }
/** A look lists all but the WAL, the end of the WAL, and one thing in turn; what it knows it does not ask for again. */
const look = { puts: 3, gets: 0 }

/** A week has one of each of the usual schedules. */
const leastCountedSeconds = 7 * 86_400

/** Operations of S3 that are billed as writes and listings are. */
const writing = new Set([
  ...['PutObject', 'CopyObject', 'CreateMultipartUpload', 'UploadPart', 'UploadPartCopy', 'CompleteMultipartUpload'],
  ...['ListObjectsV2', 'ListObjectVersions', 'ListMultipartUploads', 'ListParts', 'ListBuckets'],
  ...['PutObjectTagging', 'PutObjectRetention', 'PutObjectLegalHold'],
])
const free = new Set(['DeleteObject', 'DeleteObjects', 'AbortMultipartUpload'])

/** Requests that were counted, by operation, for a month; null: not counted for long enough. */
export function countedPerMonth(
  counts: readonly { readonly operation: string; readonly requests: number }[],
  seconds: number,
): BucketWork['counted'] {
  if (seconds < leastCountedSeconds) return null
  const sum = (isMeant: (operation: string) => boolean) =>
    counts.reduce((all, { operation, requests }) => all + (isMeant(operation) ? requests : 0), 0)
  const all = { puts: sum((one) => writing.has(one)), gets: sum((one) => !writing.has(one) && !free.has(one)) }
  return { puts: (all.puts * monthSeconds) / seconds, gets: (all.gets * monthSeconds) / seconds }
}

/** The requests that put so many backups in a month. Each object is looked at when it was put; manifest and claim are objects, too. */
export function uploadWork(objects: BackupObjects, perMonth: number, { classes, bucket }: Where): readonly Work[] {
  const { large, largeBytes, small } = objects
  const bytesEach = large === 0 ? 0 : largeBytes / large
  // A multipart upload is begun, sent and completed.
  const putsEach = bytesEach <= bucket.partBytes ? 1 : Math.ceil(bytesEach / bucket.partBytes) + 2
  const ofSmall = (small + 2) * perMonth
  return [
    { storageClass: classes.backups, puts: large * putsEach * perMonth, gets: large * perMonth, readBytes: 0 },
    { storageClass: classes.others, puts: ofSmall, gets: ofSmall, readBytes: 0 },
  ]
}

/** What so many verifications of a backup read in a month: all of it, each time. */
export function verificationWork(
  objects: BackupObjects,
  perMonth: number,
  { classes, bucket }: Where,
): readonly Work[] {
  const { large, largeBytes, small, smallBytes } = objects
  const parts = Math.max(large, Math.ceil(largeBytes / bucket.partBytes))
  return [
    { storageClass: classes.backups, puts: 0, gets: parts * perMonth, readBytes: largeBytes * perMonth },
    { storageClass: classes.others, puts: 0, gets: small * perMonth, readBytes: smallBytes * perMonth },
  ]
}

/** Each segment is put, and looked at. */
export function walWork(segmentsPerMonth: number, storageClass: string): Work {
  return { storageClass, puts: segmentsPerMonth, gets: segmentsPerMonth, readBytes: 0 }
}

/** What goes on whatever is backed up: by the counters, where there are some, all that the rest of the work does not explain. */
export function standingWork(
  { counted, leaseRenewalsPerMonth, looksPerMonth }: BucketWork,
  { work, storageClass }: { work: readonly Work[]; storageClass: string },
): Work {
  const explained = (key: 'puts' | 'gets') => work.reduce((sum, one) => sum + one[key], 0)
  const derived = {
    puts: renewal.puts * leaseRenewalsPerMonth + look.puts * looksPerMonth,
    gets: renewal.gets * leaseRenewalsPerMonth + look.gets * looksPerMonth,
  }
  const standing = (key: 'puts' | 'gets') =>
    counted === null ? derived[key] : Math.max(0, counted[key] - explained(key))
  return { storageClass, puts: standing('puts'), gets: standing('gets'), readBytes: 0 }
}
