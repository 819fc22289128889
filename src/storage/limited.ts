import { pipeline, Readable, Transform, type TransformCallback, type TransformOptions } from 'node:stream'
import type { Clock } from '../clock.ts'
import type { BandwidthRule } from '../domain/bandwidth.ts'
import { Bandwidth } from './bandwidth.ts'
import type {
  CommonPrefix,
  FileLook,
  GetOptions,
  ListOptions,
  ObjectInfo,
  ObjectLocks,
  PutOptions,
  Staging,
  Storage,
  StoredObject,
  UploadTrials,
} from './storage.ts'

/**
 * A storage whose transfers keep to a limit of bytes a second: of all uploads together, and of all downloads together. What is put from
 * memory (manifests, leases, proofs) counts, and waits for nobody: a lease that comes late is a lost one. Where uploads are limited there is no
 * staging: what programs write by themselves could not be held up.
 */
export class LimitedStorage implements Storage {
  readonly #storage: Storage
  readonly #upload: Bandwidth | null
  readonly #download: Bandwidth | null
  readonly staging?: Staging
  readonly files?: FileLook
  readonly locks?: ObjectLocks
  readonly trials?: UploadTrials

  constructor(storage: Storage, { rules, clock }: { readonly rules: readonly BandwidthRule[]; readonly clock: Clock }) {
    const of = (direction: BandwidthRule['direction']): Bandwidth | null => {
      const those = rules.filter((rule) => rule.direction === direction)
      return those.length === 0 ? null : new Bandwidth(those, clock)
    }
    this.#storage = storage
    this.#upload = of('upload')
    this.#download = of('download')
    if (this.#upload === null && storage.staging !== undefined) this.staging = storage.staging
    if (storage.files !== undefined) this.files = storage.files
    if (storage.locks !== undefined) this.locks = storage.locks
    if (storage.trials !== undefined) this.trials = storage.trials
  }

  put(key: string, body: Readable | Uint8Array, options?: PutOptions): Promise<ObjectInfo> {
    if (this.#upload === null) return this.#storage.put(key, body, options)
    if (body instanceof Readable)
      return this.#storage.put(key, heldUp(body, this.#upload, { objectMode: true, highWaterMark: 1 }), options)
    this.#upload.count(body.length)
    return this.#storage.put(key, body, options)
  }

  async get(key: string, options?: GetOptions): Promise<StoredObject> {
    const { info, body } = await this.#storage.get(key, options)
    return { info, body: this.#download === null ? body : heldUp(body, this.#download, { highWaterMark: 64 * 1024 }) }
  }

  head(key: string, options?: { readonly signal?: AbortSignal }): Promise<ObjectInfo | null> {
    return this.#storage.head(key, options)
  }

  list(prefix: string, options?: ListOptions): AsyncIterable<ObjectInfo | CommonPrefix> {
    return this.#storage.list(prefix, options)
  }

  remove(key: string, options?: { readonly signal?: AbortSignal }): Promise<void> {
    return this.#storage.remove(key, options)
  }
}

/**
 * The same bytes, not faster than the limit. Either stream that fails or is destroyed takes the other with it. What is no bytes passes in
 * object mode, so that whoever is to store it says so.
 */
function heldUp(source: Readable, bandwidth: Bandwidth, options: TransformOptions): Readable {
  return pipeline(source, new Throttle(bandwidth, options), () => {})
}

class Throttle extends Transform {
  readonly #bandwidth: Bandwidth
  readonly #over = new AbortController()

  constructor(bandwidth: Bandwidth, options: TransformOptions) {
    super(options)
    this.#bandwidth = bandwidth
  }

  override _transform(chunk: unknown, _encoding: BufferEncoding, done: TransformCallback): void {
    void this.#pass(chunk, done)
  }

  async #pass(chunk: unknown, done: TransformCallback): Promise<void> {
    const bytes = typeof chunk === 'string' || chunk instanceof Uint8Array ? Buffer.byteLength(chunk) : 0
    try {
      await this.#bandwidth.take(bytes, this.#over.signal)
    } catch {
      return // it was destroyed
    }
    done(null, chunk)
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#over.abort()
    done(error)
  }
}
