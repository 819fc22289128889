import { closeSync } from 'node:fs'
import { Readable } from 'node:stream'
import { LifeboatError } from '../domain/errors.ts'
import { stopped, storageFailure } from './failures.ts'
import { type OpenFile, readInto } from './open-file.ts'

/** Hashing what is read goes a fifth faster with chunks of this size than with 64 KiB. */
const chunkBytes = 256 * 1024

/** What to read: `bytes` bytes from `start` on. `doing` begins the message of a failure. */
export interface Extent {
  readonly start: number
  readonly bytes: number
  readonly doing: string
}

/**
 * Reads an extent of an open file, and closes the file in the end. What fits into one chunk is read at once: most
 * objects are small, and a stream that reads costs several times what reading them does.
 */
export async function readExtent(file: OpenFile, extent: Extent, signal?: AbortSignal): Promise<Readable> {
  if (extent.bytes > chunkBytes) return new FileStream(file, extent, signal)
  try {
    const buffer = Buffer.allocUnsafeSlow(extent.bytes)
    for (let filled = 0; filled < extent.bytes; ) {
      const bytes = await readInto(file, buffer, filled, extent.start + filled)
      if (bytes === 0) throw shrunk(extent)
      filled += bytes
    }
    return new BufferStream(buffer)
  } finally {
    closeSync(file.descriptor)
  }
}

/** One buffer as a stream. */
class BufferStream extends Readable {
  readonly #buffer: Buffer

  constructor(buffer: Buffer) {
    super({ highWaterMark: chunkBytes })
    this.#buffer = buffer
  }

  override _read(): void {
    if (this.#buffer.length > 0) this.push(this.#buffer)
    this.push(null)
  }
}

/**
 * A file as a stream. Unlike the stream of node:fs it fails when the file turns out shorter than it was when opened,
 * instead of ending early as if all had been read.
 */
class FileStream extends Readable {
  readonly #file: OpenFile
  readonly #extent: Extent
  readonly #signal: AbortSignal | undefined
  #done = 0
  #reading: Promise<void> = Promise.resolve()

  constructor(file: OpenFile, extent: Extent, signal?: AbortSignal) {
    super({ highWaterMark: chunkBytes })
    this.#file = file
    this.#extent = extent
    this.#signal = signal
    signal?.addEventListener('abort', this.#stop)
    // It may have aborted while the file was being opened: then no event comes any more.
    if (signal?.aborted) this.#stop()
  }

  readonly #stop = (): void => {
    if (this.#signal) this.destroy(stopped(this.#signal))
  }

  override _read(): void {
    this.#reading = this.#readChunk().catch((error: unknown) => {
      this.destroy(storageFailure(this.#extent.doing, error))
    })
  }

  async #readChunk(): Promise<void> {
    const left = this.#extent.bytes - this.#done
    if (left === 0) {
      this.push(null)
      return
    }
    const buffer = Buffer.allocUnsafe(Math.min(left, chunkBytes))
    const bytes = await readInto(this.#file, buffer, 0, this.#extent.start + this.#done)
    if (bytes === 0) throw shrunk(this.#extent)
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
    closeSync(this.#file.descriptor)
    done(error)
  }
}

function shrunk(extent: Extent): LifeboatError {
  return new LifeboatError('storage-failed', `${extent.doing}: the file became shorter while it was read`)
}
