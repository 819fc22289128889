import type { ObjectLockLegalHoldStatus } from '@aws-sdk/client-s3'
import { LifeboatError } from '../domain/errors.ts'
import { nameOf, s3Failure } from './s3-failures.ts'
import type { S3Requests } from './s3-requests.ts'
import type { ObjectLockSettings, S3Settings } from './s3-settings.ts'
import { lockHint } from './s3-traits.ts'
import type { Lock, ObjectLocks } from './storage.ts'

interface Stoppable {
  readonly signal?: AbortSignal
}

/** What an answer says of the lock of its object; undefined without one. A server says nothing to who may not know. */
export function answeredLock(answer: {
  readonly ObjectLockRetainUntilDate?: Date | undefined
  readonly ObjectLockLegalHoldStatus?: ObjectLockLegalHoldStatus | undefined
}): Lock | undefined {
  if (answer.ObjectLockLegalHoldStatus === 'ON') return { until: null }
  const until = answer.ObjectLockRetainUntilDate
  return until === undefined ? undefined : { until }
}

/** The locks on the objects of a bucket. */
export class S3Locks implements ObjectLocks {
  readonly #settings: S3Settings
  readonly #requests: S3Requests
  readonly #lock: ObjectLockSettings

  constructor(settings: S3Settings, requests: S3Requests, lock: ObjectLockSettings) {
    this.#settings = settings
    this.#requests = requests
    this.#lock = lock
  }

  /** See ObjectLocks. The mode stays what it is. */
  async extend(key: string, until: Date, options: Stoppable = {}): Promise<void> {
    await this.#change(key, 's3:PutObjectRetention', async (doing, target) => {
      const now = await this.#requests.call({ doing, ...options }, (client, stop) =>
        client.headObject(target, { abortSignal: stop }),
      )
      const { ObjectLockRetainUntilDate: before, ObjectLockMode: mode } = now
      if (before !== undefined && before >= until) return
      const Mode = mode ?? (this.#lock.mode === 'compliance' ? 'COMPLIANCE' : 'GOVERNANCE')
      const request = { ...target, Retention: { Mode, RetainUntilDate: until } }
      await this.#requests.call({ doing, ...options }, (client, stop) =>
        client.putObjectRetention(request, { abortSignal: stop }),
      )
    })
  }

  /** See ObjectLocks. */
  async hold(key: string, options: Stoppable = {}): Promise<void> {
    await this.#setHold(key, 'ON', options)
  }

  /** See ObjectLocks. What is uploaded with a legal hold keeps it. */
  async release(key: string, options: Stoppable = {}): Promise<void> {
    if (!this.#lock.legalHold) await this.#setHold(key, 'OFF', options)
  }

  async #setHold(key: string, Status: ObjectLockLegalHoldStatus, options: Stoppable): Promise<void> {
    await this.#change(key, 's3:PutObjectLegalHold', async (doing, target) => {
      await this.#requests.call({ doing, ...options }, (client, stop) =>
        client.putObjectLegalHold({ ...target, LegalHold: { Status } }, { abortSignal: stop }),
      )
    })
  }

  async #change(
    key: string,
    right: string,
    work: (doing: string, target: { Bucket: string; Key: string }) => Promise<void>,
  ): Promise<void> {
    const { bucket, prefix } = this.#settings
    const doing = `change the lock of ${JSON.stringify(key)}`
    try {
      await work(doing, { Bucket: bucket, Key: prefix + key })
    } catch (error) {
      const failure = s3Failure(`cannot ${doing}`, error)
      const hint =
        nameOf(error) === 'AccessDenied' || nameOf(error) === 'Forbidden'
          ? `let the policy of these keys allow ${right} on the objects, and s3:GetObjectRetention`
          : lockHint(error)
      throw hint === null ? failure : new LifeboatError(failure.code, failure.message, { hint, cause: error })
    }
  }
}
