import { Readable } from 'node:stream'
import type { HeadObjectCommandOutput } from '@aws-sdk/client-s3'
import { type Clock, systemClock } from '../clock.ts'
import { LifeboatError } from '../domain/errors.ts'
import { stopped, throwIfStopped } from './failures.ts'
import { checkKey, splitPrefix } from './keys.ts'
import { S3Bucket } from './s3-bucket.ts'
import { abortAbandoned } from './s3-clean.ts'
import { download } from './s3-download.ts'
import { passingKind, s3Failure, statusOf } from './s3-failures.ts'
import { listBucket } from './s3-list.ts'
import { S3Locks } from './s3-locks.ts'
import { answeredInfo, describedObject, versionOf, wholeSeconds } from './s3-object.ts'
import { BufferPool } from './s3-parts.ts'
import { type S3RequestOptions, S3Requests, type S3RequestsOptions } from './s3-requests.ts'
import type { S3Settings } from './s3-settings.ts'
import { settleTraits } from './s3-settle.ts'
import { uploadFailure } from './s3-traits.ts'
import { S3Trials } from './s3-trials.ts'
import { putToken, type Uploaded, upload } from './s3-upload.ts'
import type { CommonPrefix, GetOptions, ListOptions, ObjectInfo, PutOptions, Storage, StoredObject } from './storage.ts'

/** For so long a bucket that was there counts as there. */
const seenForMs = 60_000

/** For a look whose answer is not needed. */
const quick = { attempts: 2, ms: 5_000 }

export interface S3StorageOptions extends Omit<S3RequestsOptions, 'clock'> {
  readonly clock?: Clock
}

/**
 * A storage in a bucket of S3, or of a server that speaks its protocol: the key, behind the prefix of the settings, is
 * the object's key. Errors besides those of Storage: `storage-credentials`, `storage-unreachable`.
 *
 * What is not in one part's size goes by a multipart upload, which becomes visible when it is completed. `ifAbsent` is atomic for what
 * is in one part's size, by `If-None-Match` of PutObject. For larger objects it is where the server honours that header when
 * an upload is completed, as Amazon's does; elsewhere the key is looked at right before, and of two that race the later
 * one may win. Whoever lost then fails with `object-exists`.
 */
export class S3Storage implements Storage {
  readonly #settings: S3Settings
  readonly #requests: S3Requests
  readonly #clock: Clock
  readonly #pool: BufferPool
  readonly trials: S3Trials
  readonly bucket: S3Bucket
  readonly locks?: S3Locks
  /** Whether the bucket was seen to keep versions. */
  #keepsVersions: boolean
  /** Monotonic. */
  #seenAt: number | null = null

  constructor(options: S3StorageOptions) {
    const { settings, clock = systemClock } = options
    this.#settings = settings
    this.#clock = clock
    this.#requests = new S3Requests({ ...options, clock })
    this.#pool = new BufferPool(settings.partBytes, settings.parallel)
    this.#keepsVersions = settings.objectLock !== null
    this.trials = new S3Trials(settings, this.#requests, clock)
    this.bucket = new S3Bucket(settings, this.#requests, clock)
    if (settings.objectLock !== null) this.locks = new S3Locks(settings, this.#requests, settings.objectLock)
  }

  /** See Storage. The body is taken over: it is read to its end or destroyed. Its own LifeboatError comes through as it is. */
  async put(key: string, body: Readable | Uint8Array, options: PutOptions = {}): Promise<ObjectInfo> {
    const { ifAbsent = false, signal } = options
    const stop = (): void => {
      if (signal && body instanceof Readable) body.destroy(stopped(signal))
    }
    // Until the body is read below, a failure of its source would otherwise find nobody listening and end the process.
    if (body instanceof Readable) body.on('error', () => {})
    signal?.addEventListener('abort', stop)
    const doing = `write ${JSON.stringify(key)}`
    try {
      throwIfStopped(signal)
      const put = await upload(body, {
        ...{ settings: this.#settings, requests: this.#requests, pool: this.#pool },
        ...{ key: this.#settings.prefix + checkKey(key), doing, ifAbsent, signal },
        now: () => this.#clock.now(),
        // Ceph 16 does not honour If-None-Match where it keeps versions.
        looksFirst: this.#keepsVersions && this.#settings.endpoint !== null,
        look: async () => {
          const found = await this.#head(key, { signal })
          return found === null ? null : { token: found.Metadata?.[putToken] ?? null }
        },
      })
      return await this.#whatWasPut(key, put, options)
    } catch (error) {
      if (body instanceof Readable) body.destroy()
      if (signal?.aborted) throw stopped(signal)
      throw uploadFailure(this.#settings, this.#settings.prefix + key, `cannot ${doing}`, error)
    } finally {
      signal?.removeEventListener('abort', stop)
    }
  }

  /** Only a look tells when the server says that it was stored, and shows that it is there. */
  async #whatWasPut(key: string, put: Uploaded, { ifAbsent = false }: PutOptions): Promise<ObjectInfo> {
    // It is stored: neither a signal nor a server that has gone meanwhile undoes that.
    const found = await this.#head(key, quick).catch((error: unknown) => {
      // Some servers tell no ETag when an upload is completed.
      if (passingKind(error) === null || put.etag === '') throw error
      return null
    })
    if (found?.Metadata?.[putToken] === put.token) {
      const info = answeredInfo(key, found)
      if (info.bytes === put.bytes) {
        if (put.inParts) await this.#settle(key, found)
        return info
      }
      const message = `${JSON.stringify(key)} has ${info.bytes} bytes in the bucket, and ${put.bytes} were sent`
      throw new LifeboatError('storage-failed', message)
    }
    if (ifAbsent && found !== null) {
      throw new LifeboatError('object-exists', `${JSON.stringify(key)} was put by another at the same time`)
    }
    // Replaced or removed since: what was put is still what was put.
    const modified = wholeSeconds(this.#clock.now())
    return { key, bytes: put.bytes, modified, version: versionOf(put.etag) }
  }

  /** What is not locked as it was to be does not stay. */
  async #settle(key: string, found: HeadObjectCommandOutput): Promise<void> {
    const { ...place } = { settings: this.#settings, requests: this.#requests, locks: this.locks }
    try {
      await settleTraits({ ...place, key, found, now: this.#clock.now() })
    } catch (error) {
      await this.remove(key)
      throw error
    }
  }

  /**
   * See Storage. `end` past the last byte is the last byte; `start` past it, or after `end`, fails with `usage-invalid`.
   * What is larger than a range comes by several, side by side; each is made again where its connection broke off, for the very
   * object that was opened: one that was replaced since fails the stream.
   */
  async get(key: string, options: GetOptions = {}): Promise<StoredObject> {
    const doing = `read ${JSON.stringify(key)}`
    try {
      throwIfStopped(options.signal)
      checkKey(key)
      return await download({ ...options, settings: this.#settings, requests: this.#requests, key, doing })
    } catch (error) {
      throw s3Failure(`cannot ${doing}`, error)
    }
  }

  /** What the server says of an object; null if it is not there. */
  async describe(key: string, options: { readonly signal?: AbortSignal } = {}) {
    try {
      throwIfStopped(options.signal)
      // Only here: for objects under a key of its own, to ask for a sum takes the right to decrypt.
      const found = await this.#head(checkKey(key), options, { ChecksumMode: 'ENABLED' })
      return found === null ? null : describedObject(key, found)
    } catch (error) {
      throw s3Failure(`cannot look at ${JSON.stringify(key)}`, error)
    }
  }

  /** See Storage. */
  async head(key: string, { signal }: { readonly signal?: AbortSignal } = {}): Promise<ObjectInfo | null> {
    try {
      throwIfStopped(signal)
      const found = await this.#head(checkKey(key), { signal })
      return found === null ? null : answeredInfo(key, found)
    } catch (error) {
      throw s3Failure(`cannot look at ${JSON.stringify(key)}`, error)
    }
  }

  async #head(key: string, options: Omit<S3RequestOptions, 'doing'>, wanted: { ChecksumMode?: 'ENABLED' } = {}) {
    const doing = `look at ${JSON.stringify(key)}`
    try {
      const found = await this.#requests.call({ ...options, doing }, (client, stop) =>
        client.headObject({ ...this.#target(key), ...wanted }, { abortSignal: stop }),
      )
      this.#keepsVersions ||= (found.VersionId ?? 'null') !== 'null'
      return found
    } catch (error) {
      // Answers to HEAD have no words: a bucket that is not there looks like an object that is not.
      const status = statusOf(error)
      if (status === 404) await this.#seeBucket(doing, options.signal, seenForMs)
      else if (status >= 300 && status < 500) await this.#seeBucket(doing, options.signal, 0)
      if (status === 404) return null
      throw error
    }
  }

  /** Fails as requests do when the bucket cannot be listed; asks again when the last time is longer ago. */
  async #seeBucket(doing: string, signal: AbortSignal | undefined, maxAgeMs: number): Promise<void> {
    const now = this.#clock.monotonic()
    if (this.#seenAt !== null && now - this.#seenAt < maxAgeMs) return
    await this.#requests.call({ doing, signal }, (client, stop) =>
      client.listObjectsV2(
        { Bucket: this.#settings.bucket, Prefix: this.#settings.prefix, MaxKeys: 1 },
        { abortSignal: stop },
      ),
    )
    this.#seenAt = now
  }

  /** See Storage. */
  async *list(prefix: string, options: ListOptions = {}): AsyncGenerator<ObjectInfo | CommonPrefix> {
    const { startAfter = '', delimiter, signal } = options
    splitPrefix(prefix)
    const doing = `list ${JSON.stringify(prefix)}`
    try {
      throwIfStopped(signal)
      const { ...place } = { settings: this.#settings, requests: this.#requests }
      yield* listBucket({ ...place, prefix, startAfter, fold: delimiter === '/', signal, doing })
    } catch (error) {
      throw s3Failure(`cannot ${doing}`, error)
    }
  }

  /** See Storage. Where the bucket keeps versions, the removed one stays among them. */
  async remove(key: string, { signal }: { readonly signal?: AbortSignal } = {}): Promise<void> {
    const doing = `remove ${JSON.stringify(key)}`
    try {
      throwIfStopped(signal)
      checkKey(key)
      await this.#requests.call({ doing, signal }, (client, stop) =>
        client.deleteObject(this.#target(key), { abortSignal: stop }),
      )
    } catch (error) {
      throw s3Failure(`cannot ${doing}`, error)
    }
  }

  /** True; fails with what is wrong when the bucket is not there or cannot be listed. */
  async exists(): Promise<boolean> {
    const doing = `look at the bucket ${this.#settings.bucket}`
    try {
      await this.#seeBucket(doing, undefined, 0)
      return true
    } catch (error) {
      throw s3Failure(`cannot ${doing}`, error)
    }
  }

  /**
   * Aborts uploads that got no part for a day. Returns how many.
   *
   * @param elsewhere as for a directory: without it, none, since nothing tells whose they are. Default true.
   */
  async cleanTemporary({ elsewhere = true }: { readonly elsewhere?: boolean } = {}): Promise<number> {
    try {
      return elsewhere ? await abortAbandoned(this.#settings, this.#requests, this.#clock.now()) : 0
    } catch (error) {
      throw s3Failure('cannot clean up unfinished uploads', error)
    }
  }

  /** What was sent to the bucket since the process began. */
  requestCounts() {
    return this.#requests.counts.all()
  }

  #target(key: string): { Bucket: string; Key: string } {
    return { Bucket: this.#settings.bucket, Key: this.#settings.prefix + key }
  }
}
