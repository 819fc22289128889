import { randomBytes } from 'node:crypto'
import type { Clock } from '../clock.ts'
import { LifeboatError } from '../domain/errors.ts'
import { passingKind, s3Failure, statusOf } from './s3-failures.ts'
import { answeredLock, S3Locks } from './s3-locks.ts'
import { digestsOf } from './s3-parts.ts'
import type { S3Requests } from './s3-requests.ts'
import type { ObjectLockSettings, S3Settings } from './s3-settings.ts'
import { checksumFields, lockFields, lockHint, lockRights } from './s3-traits.ts'
import type { Checksum, Lock, UploadTrials } from './storage.ts'

const probeBytes = 1024

/** Long enough for clocks that differ a little, short enough not to be in the way. */
const trialLockSeconds = 600

/** Finds out what a server does by trying, below a key that nobody else uses. */
export class S3Trials implements UploadTrials {
  readonly checksum: Checksum
  readonly #settings: S3Settings
  readonly #requests: S3Requests
  readonly #clock: Clock

  constructor(settings: S3Settings, requests: S3Requests, clock: Clock) {
    this.checksum = settings.checksum
    this.#settings = settings
    this.#requests = requests
    this.#clock = clock
  }

  /** See UploadTrials: neither an object nor a part may be taken with the checksum of other bytes. */
  async comparesChecksums(key: string, checksum: Checksum): Promise<boolean> {
    const target = this.#target(key)
    const body = randomBytes(probeBytes)
    const wrong = checksumFields({ checksum }, digestsOf(randomBytes(probeBytes)))
    const sent = { ...target, ...wrong, Body: body, ContentLength: probeBytes }
    const doing = `try the checksum ${checksum}`
    const once = { doing, attempts: 1 }
    const isRefused = async (work: () => Promise<unknown>): Promise<boolean> => {
      try {
        await work()
        return false
      } catch (error) {
        if (passingKind(error) === 'damaged') return true
        throw error
      }
    }
    const algorithm = checksum === 'sha256' ? { ChecksumAlgorithm: 'SHA256' as const } : {}
    try {
      const refused = await isRefused(() =>
        this.#requests.call(once, (client, stop) => client.putObject(sent, { abortSignal: stop })),
      )
      if (!refused) {
        await this.#requests.call({ doing }, (client, stop) => client.deleteObject(target, { abortSignal: stop }))
        return false
      }
      const { UploadId } = await this.#requests.call({ doing }, (client, stop) =>
        client.createMultipartUpload({ ...target, ...algorithm }, { abortSignal: stop }),
      )
      try {
        const part = { ...sent, UploadId, PartNumber: 1 }
        return await isRefused(() =>
          this.#requests.call(once, (client, stop) => client.uploadPart(part, { abortSignal: stop })),
        )
      } finally {
        await this.#requests.call({ doing }, (client, stop) =>
          client.abortMultipartUpload({ ...target, UploadId }, { abortSignal: stop }),
        )
      }
    } catch (error) {
      throw s3Failure(`cannot ${doing}`, error)
    }
  }

  /** See UploadTrials. */
  async refusesExisting(key: string): Promise<boolean> {
    const target = this.#target(key)
    const doing = 'try a conditional put'
    const body = randomBytes(probeBytes)
    const request = { ...target, ...checksumFields(this.#settings, digestsOf(body)), IfNoneMatch: '*', Body: body }
    const put = () => this.#requests.call({ doing }, (client, stop) => client.putObject(request, { abortSignal: stop }))
    try {
      await put()
      await put()
      return false
    } catch (error) {
      if (statusOf(error) === 412) return true
      throw s3Failure(`cannot ${doing}`, error)
    } finally {
      await this.#requests.call({ doing }, (client, stop) => client.deleteObject(target, { abortSignal: stop }))
    }
  }

  /** See UploadTrials. */
  async lock(key: string): Promise<Lock | null> {
    const { objectLock } = this.#settings
    if (objectLock === null) throw new TypeError('nothing is to be locked')
    const doing = 'lock an object'
    try {
      const answer = await this.#putLocked(key, objectLock, doing)
      return answeredLock(answer) ?? null
    } catch (error) {
      const failure = s3Failure(`cannot ${doing}`, error)
      const rights = lockRights(objectLock).join(' and ')
      const denied = `objects can be put, but not locked: let the policy of these keys allow ${rights} on the objects`
      const hint = failure.code === 'storage-credentials' ? denied : lockHint(error)
      throw hint === null ? failure : new LifeboatError(failure.code, failure.message, { hint, cause: error })
    }
  }

  async #putLocked(key: string, lock: ObjectLockSettings, doing: string) {
    const target = this.#target(key)
    const body = randomBytes(probeBytes)
    // A legal hold would have no end: it is tried below, and taken off again.
    const short = { ...lock, forSeconds: trialLockSeconds, legalHold: false }
    const locked = lock.forSeconds === null ? {} : lockFields(short, this.#clock.now())
    const request = { ...target, ...checksumFields(this.#settings, digestsOf(body)), ...locked, Body: body }
    await this.#requests.call({ doing }, (client, stop) => client.putObject(request, { abortSignal: stop }))
    try {
      const locks = new S3Locks(this.#settings, this.#requests, { ...lock, legalHold: false })
      if (lock.legalHold) await locks.hold(key)
      const seen = await this.#requests.call({ doing }, (client, stop) =>
        client.headObject(target, { abortSignal: stop }),
      )
      if (lock.legalHold) await locks.release(key)
      return seen
    } finally {
      await this.#requests.call({ doing }, (client, stop) => client.deleteObject(target, { abortSignal: stop }))
    }
  }

  #target(key: string): { Bucket: string; Key: string } {
    return { Bucket: this.#settings.bucket, Key: this.#settings.prefix + key }
  }
}
