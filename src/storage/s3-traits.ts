import { LifeboatError } from '../domain/errors.ts'
import { messageOf, nameOf, s3Failure } from './s3-failures.ts'
import type { Digests } from './s3-parts.ts'
import type { ObjectLockSettings, S3Settings } from './s3-settings.ts'

const modes = { governance: 'GOVERNANCE', compliance: 'COMPLIANCE' } as const

/**
 * What an object is put with besides its bytes: class, encryption, tags and lock. `bytes` is its size, infinite where it is
 * not known yet. A lock counts from `now` on.
 */
export function traitsOf(settings: S3Settings, key: string, bytes: number, now: Date) {
  const { prefix, storageClass, serverSideEncryption, kmsKeyId, tags } = settings
  const wanted = storageClass(key.slice(prefix.length), bytes)
  return {
    // The SDK knows the classes of Amazon alone; others have their own.
    ...(wanted === null ? {} : { StorageClass: wanted as 'STANDARD' }),
    ...(serverSideEncryption === null ? {} : { ServerSideEncryption: serverSideEncryption }),
    ...(kmsKeyId === null ? {} : { SSEKMSKeyId: kmsKeyId }),
    ...(Object.keys(tags).length === 0 ? {} : { Tagging: encodeTags(tags) }),
    ...lockFields(lockFor(settings, key), now),
  }
}

/** Spaces as `%20`: some servers take a `+` for itself. */
function encodeTags(tags: S3Settings['tags']): string {
  return Object.entries(tags)
    .map((tag) => tag.map(encodeURIComponent).join('='))
    .join('&')
}

/** How the object is to be locked; null: not at all. */
export function lockFor({ prefix, objectLock }: S3Settings, key: string): ObjectLockSettings | null {
  return objectLock?.covers(key.slice(prefix.length)) ? objectLock : null
}

/** The headers of a lock. */
export function lockFields(lock: Pick<ObjectLockSettings, 'mode' | 'forSeconds' | 'legalHold'> | null, now: Date) {
  if (lock === null) return {}
  const { mode, forSeconds, legalHold } = lock
  const until = forSeconds === null ? null : new Date(now.getTime() + forSeconds * 1000)
  return {
    ...(until === null ? {} : { ObjectLockMode: modes[mode], ObjectLockRetainUntilDate: until }),
    ...(legalHold ? { ObjectLockLegalHoldStatus: 'ON' as const } : {}),
  }
}

/** The checksum that the server is to compare, in the headers of PutObject and UploadPart. */
export function checksumFields({ checksum }: Pick<S3Settings, 'checksum'>, { md5, sha256 }: Digests) {
  if (checksum === 'md5') return { ContentMD5: md5 }
  // Which algorithm it is says another header too: with a lock, Amazon looks for that one.
  return { ChecksumAlgorithm: 'SHA256' as const, ChecksumSHA256: Buffer.from(sha256, 'hex').toString('base64') }
}

/** Like `s3Failure`, of an upload: what a server says of locks and tags is only understood by who knows that they were asked for. */
export function uploadFailure(settings: S3Settings, key: string, doing: string, error: unknown): LifeboatError {
  const failure = s3Failure(doing, error)
  const hint = hintOf(settings, key, error)
  if (hint === null) return failure
  return new LifeboatError(failure.code, failure.message, { hint, cause: error })
}

/** The SDK's word where the server has none. */
function isWithoutWords(error: unknown): boolean {
  return ['', 'UnknownError'].includes(messageOf(error))
}

/** What to do about a lock that was refused; null where it is not that. */
export function lockHint(error: unknown): string | null {
  const [name, message] = [nameOf(error), messageOf(error)]
  const isOfLock = name === 'InvalidRequest' && (/lock/i.test(message) || isWithoutWords(error))
  if (!isOfLock && name !== 'ObjectLockConfigurationNotFoundError') return null
  return 'the bucket has no Object Lock: switch it on for the bucket, which needs versioning (many servers only do so when a bucket is made), or remove objectLock of the repository'
}

function hintOf(settings: S3Settings, key: string, error: unknown): string | null {
  const { tags, storageClass, prefix } = settings
  const lock = lockFor(settings, key)
  const wanted = storageClass(key.slice(prefix.length), Number.POSITIVE_INFINITY)
  if (error instanceof LifeboatError) return null
  if (lock !== null && lockHint(error) !== null) return lockHint(error)
  // Ceph has no better word for a class it does not know.
  if (nameOf(error) === 'InvalidArgument' && wanted !== null && isWithoutWords(error))
    return `does the server know the storage class ${wanted}? Change storageClass or walStorageClass of the repository`
  if (nameOf(error) !== 'AccessDenied' && nameOf(error) !== 'Forbidden') return null
  const named = /s3:[A-Za-z]+/.exec(messageOf(error))?.[0]
  if (named !== undefined)
    return `let the policy of these keys allow ${named} on the objects (docs/s3.md lists what is needed)`
  const needed = ['s3:PutObject', ...(Object.keys(tags).length > 0 ? ['s3:PutObjectTagging'] : []), ...lockRights(lock)]
  return needed.length === 1
    ? null
    : `let the policy of these keys allow ${needed.join(', ')} on the objects (docs/s3.md lists what is needed)`
}

/** The rights that a lock takes. */
export function lockRights(lock: Pick<ObjectLockSettings, 'forSeconds' | 'legalHold'> | null): readonly string[] {
  return [
    ...(lock === null || lock.forSeconds === null ? [] : ['s3:PutObjectRetention']),
    ...(lock?.legalHold ? ['s3:PutObjectLegalHold'] : []),
  ]
}
