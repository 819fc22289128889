import type { HeadObjectCommandOutput, ObjectLockLegalHoldStatus } from '@aws-sdk/client-s3'
import { answeredLock } from './s3-locks.ts'
import { sha256Metadata } from './s3-requests.ts'
import type { ObjectDescription, ObjectInfo } from './storage.ts'

/** Listings tell fractions of a second, answers to single requests do not: the time of one object must be one time. */
export function wholeSeconds(date: Date | undefined): Date {
  return new Date(Math.floor((date?.getTime() ?? 0) / 1000) * 1000)
}

/** An ETag without its quotes. It is another one whenever the bytes are. */
export function versionOf(etag: string | undefined): string {
  return (etag ?? '').replace(/^W\/|"/g, '')
}

/** What an answer says of its object. For a part of it the size stands in `ContentRange`. */
export function answeredInfo(
  key: string,
  answer: {
    readonly ContentLength?: number | undefined
    readonly ContentRange?: string | undefined
    readonly LastModified?: Date | undefined
    readonly ETag?: string | undefined
    readonly ObjectLockRetainUntilDate?: Date | undefined
    readonly ObjectLockLegalHoldStatus?: ObjectLockLegalHoldStatus | undefined
  },
): ObjectInfo {
  const whole = /\/(\d+)$/.exec(answer.ContentRange ?? '')?.[1]
  const lock = answeredLock(answer)
  return {
    key,
    ...(lock === undefined ? {} : { lock }),
    bytes: whole === undefined ? (answer.ContentLength ?? 0) : Number(whole),
    modified: wholeSeconds(answer.LastModified),
    version: versionOf(answer.ETag),
  }
}

const replications: Readonly<Record<string, ObjectDescription['replication']>> = {
  PENDING: 'pending',
  COMPLETED: 'completed',
  COMPLETE: 'completed',
  FAILED: 'failed',
  REPLICA: 'replica',
}

/** What an answer to a HEAD says. A sum of sums, as of an object of several parts, is none of its bytes. */
export function describedObject(key: string, answer: HeadObjectCommandOutput): ObjectDescription {
  const { ChecksumSHA256: checksum = '-', Metadata: metadata, ReplicationStatus: replication = '' } = answer
  const kept = checksum.includes('-') ? undefined : Buffer.from(checksum, 'base64').toString('hex')
  return {
    info: answeredInfo(key, answer),
    sha256: kept ?? metadata?.[sha256Metadata] ?? null,
    replication: replications[replication] ?? null,
  }
}
