import type { Clock } from '../clock.ts'
import type { BucketFacts } from '../domain/posture.ts'
import { s3Failure } from './s3-failures.ts'
import { type LockTrial, tryLockedDeletion } from './s3-locked.ts'
import { readBucketFacts } from './s3-posture.ts'
import type { S3Requests } from './s3-requests.ts'
import type { S3Settings } from './s3-settings.ts'

interface Stoppable {
  readonly signal?: AbortSignal
}

/** What can be asked of a bucket besides its objects. */
export class S3Bucket {
  readonly #settings: S3Settings
  readonly #requests: S3Requests
  readonly #clock: Clock

  constructor(settings: S3Settings, requests: S3Requests, clock: Clock) {
    this.#settings = settings
    this.#requests = requests
    this.#clock = clock
  }

  /** How it is set up; fails as requests do, but not for what may not be read. */
  async facts({ signal }: Stoppable = {}): Promise<BucketFacts> {
    try {
      return await readBucketFacts(this.#settings, this.#requests, signal)
    } catch (error) {
      throw s3Failure(`cannot look at the settings of the bucket ${this.#settings.bucket}`, error)
    }
  }

  /** Whether these keys can delete what is locked, by trying: see `tryLockedDeletion`. */
  async tryLockedDeletion(mode: 'GOVERNANCE' | 'COMPLIANCE', { signal }: Stoppable = {}): Promise<LockTrial> {
    try {
      return await tryLockedDeletion(this.#settings, this.#requests, { mode, now: this.#clock.now(), signal })
    } catch (error) {
      throw s3Failure('cannot try to delete a locked object', error)
    }
  }
}
