import { closeSync, read } from 'node:fs'
import { Readable } from 'node:stream'
import { shrunk, stopped, storageFailure } from './failures.ts'

/**
 * Hashing goes a fifth faster with 256 KiB; but chunks are garbage once they are hashed, which is collected by their number:
 * a large file then costs 30 MiB more of memory.
 */
const chunkBytes = 64 * 1024

/** What to read of the object: `bytes` bytes from `start` on. */
export interface Extent {
  readonly key: string
  readonly start: number
  readonly bytes: number
}

/** Bytes in memory as a stream. */
export class BytesStream extends Readable {
  readonly #bytes: Uint8Array<ArrayBuffer>

  constructor(bytes: Uint8Array<ArrayBuffer>) {
    super({ highWaterMark: chunkBytes })
    this.#bytes = bytes
  }

  override _read(): void {
    const { buffer, byteOffset, length } = this.#bytes
    if (length > 0) this.push(Buffer.from(buffer, byteOffset, length))
    this.push(null)
  }
}

/**
 * An open file as a stream, which closes it in the end. Unlike the stream of node:fs it fails when the file turns out
 * shorter than it was when opened, instead of ending early as if all had been read.
 */
export class FileStream extends Readable {
  readonly #descriptor: number
  readonly #extent: Extent
  readonly #signal: AbortSignal | undefined
  #done = 0
  #reading: Promise<void> = Promise.resolve()

  constructor(descriptor: number, extent: Extent, signal?: AbortSignal) {
    super({ highWaterMark: chunkBytes })
    this.#descriptor = descriptor
    this.#extent = extent
    this.#signal = signal
    signal?.addEventListener('abort', this.#stop)
    // It may have aborted while the file was being opened: then no event comes any more.
    if (signal?.aborted) this.#stop()
  }

  /**
   * The file, for a program that reads all of it by itself: none of its bytes come through this process then. Null for a part,
   * and once something was read. It stays open until the stream is destroyed.
   */
  get whole(): number | null {
    return this.#extent.start === 0 && this.#done === 0 && !this.destroyed ? this.#descriptor : null
  }

  readonly #stop = (): void => {
    if (this.#signal) this.destroy(stopped(this.#signal))
  }

  override _read(): void {
    this.#reading = this.#readChunk().catch((error: unknown) => {
      this.destroy(storageFailure(`cannot read ${JSON.stringify(this.#extent.key)}`, error))
    })
  }

  async #readChunk(): Promise<void> {
    const left = this.#extent.bytes - this.#done
    if (left === 0) {
      this.push(null)
      return
    }
    const buffer = Buffer.allocUnsafe(Math.min(left, chunkBytes))
    const bytes = await readInto(this.#descriptor, buffer, this.#extent.start + this.#done)
    if (bytes === 0) throw shrunk(this.#extent.key)
    this.#done += bytes
    if (!this.destroyed) this.push(buffer.subarray(0, bytes))
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#signal?.removeEventListener('abort', this.#stop)
    void this.#close(error, done)
  }

  async #close(error: Error | null, done: (error?: Error | null) => void): Promise<void> {
    // Closing under a read would let it read from whatever file gets the descriptor next.
    await this.#reading
    closeSync(this.#descriptor)
    done(error)
  }
}

/** Reads what stands at the position, as much as one call gives. Zero is the end. */
function readInto(descriptor: number, buffer: Buffer, position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    read(descriptor, buffer, 0, buffer.length, position, (error, bytes) => {
      if (error) reject(error)
      else resolve(bytes)
    })
  })
}
