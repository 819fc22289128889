import type { HeadObjectCommandOutput } from '@aws-sdk/client-s3'
import type { S3Locks } from './s3-locks.ts'
import type { S3Requests } from './s3-requests.ts'
import type { S3Settings } from './s3-settings.ts'
import { lockFor } from './s3-traits.ts'

/**
 * Sees that an object which was put in parts is locked and tagged as it was to be, and makes up for it where the server has let
 * fall what the upload was begun with (Ceph 16: legal holds, tags, and any lock in a bucket that has no Object Lock).
 *
 * @throws what the requests throw: the object is there, and not as it was to be
 */
export async function settleTraits({
  settings,
  requests,
  locks,
  key,
  found,
  now,
}: {
  readonly settings: S3Settings
  readonly requests: S3Requests
  readonly locks: S3Locks | undefined
  /** Without the prefix. */
  readonly key: string
  readonly found: HeadObjectCommandOutput
  readonly now: Date
}): Promise<void> {
  const lock = lockFor(settings, settings.prefix + key)
  if (lock !== null && locks !== undefined) {
    const { forSeconds, legalHold } = lock
    if (forSeconds !== null && found.ObjectLockRetainUntilDate === undefined)
      await locks.extend(key, new Date(now.getTime() + forSeconds * 1000))
    if (legalHold && found.ObjectLockLegalHoldStatus !== 'ON') await locks.hold(key)
  }
  const tags = Object.entries(settings.tags).map(([Key, Value]) => ({ Key, Value }))
  if (tags.length === 0 || found.TagCount === tags.length) return
  const request = { Bucket: settings.bucket, Key: settings.prefix + key, Tagging: { TagSet: tags } }
  await requests.call({ doing: `tag ${JSON.stringify(key)}` }, (client, stop) =>
    client.putObjectTagging(request, { abortSignal: stop }),
  )
}
