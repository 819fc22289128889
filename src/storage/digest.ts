import { createHash } from 'node:crypto'
import { Transform, type TransformCallback } from 'node:stream'
import type { Digest } from '../domain/backup.ts'

/**
 * Counts and hashes the bytes that flow through it, and changes nothing. `digest()` may be called once, after the end.
 *
 * It hashes on the main thread, a chunk at a time: SHA-256 of one chunk takes tens of microseconds, less than handing
 * it to a worker would.
 */
export class DigestStream extends Transform {
  readonly #hash = createHash('sha256')
  #bytes = 0

  constructor() {
    // Lets a source run ahead of a slow disk by a few chunks, not more.
    super({ highWaterMark: 256 * 1024 })
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#hash.update(chunk)
    this.#bytes += chunk.length
    done(null, chunk)
  }

  digest(): Digest {
    return { bytes: this.#bytes, sha256: this.#hash.digest('hex') }
  }
}
