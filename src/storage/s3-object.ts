import type { ObjectLockLegalHoldStatus } from '@aws-sdk/client-s3'
import { answeredLock } from './s3-locks.ts'
import type { ObjectInfo } from './storage.ts'

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
