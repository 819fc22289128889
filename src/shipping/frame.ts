import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { createZstdCompress, constants as zlib } from 'node:zlib'

/** What zstd needs at most for what it cannot compress, beyond the bytes themselves. Source: ZSTD_COMPRESSBOUND in zstd.h. */
const overhead = (bytes: number): number => (bytes >>> 8) + 1024

/** As large as the largest frame so far, and used again. */
let space = Buffer.alloc(0)

/**
 * One frame of zstd, which tells its content's size, made piece by piece in the memory that the one before had. One at a time
 * in a thread.
 */
export class Frame {
  readonly #stream
  readonly #ended = Promise.withResolvers<void>()
  #used = 0

  constructor(bytes: number, level: number) {
    if (space.length < bytes + overhead(bytes)) space = Buffer.allocUnsafeSlow(bytes + overhead(bytes))
    this.#stream = createZstdCompress({
      chunkSize: 256 * 1024,
      pledgedSrcSize: bytes,
      params: { [zlib.ZSTD_c_compressionLevel]: level, [zlib.ZSTD_c_checksumFlag]: 1 },
    })
    this.#stream.on('data', (chunk: Buffer) => {
      this.#used += chunk.copy(space, this.#used)
    })
    this.#stream.once('end', () => this.#ended.resolve())
    this.#stream.once('error', (error) => this.#ended.reject(error))
    this.#ended.promise.catch(() => {})
  }

  /** Resolves when the piece was taken, and may be overwritten. */
  async add(piece: Uint8Array): Promise<void> {
    const taken = Promise.withResolvers<void>()
    this.#stream.write(piece, (error) => (error ? taken.reject(error) : taken.resolve()))
    await taken.promise
  }

  /** Gives it up: what it would still give must not get among the bytes of the next one. */
  destroy(): void {
    this.#stream.destroy()
  }

  /** The whole frame, in memory of its own, no larger than it is: it is given away. */
  async end(): Promise<Uint8Array<ArrayBuffer>> {
    this.#stream.end()
    await this.#ended.promise
    const made = new Uint8Array(space.subarray(0, this.#used))
    sweep(this.#used)
    return made
  }
}

/** What a thread lets lie about is not seen by V8 as memory that is short: it would keep some 60 MB of it. */
const sweepAfterBytes = 4 * 1024 * 1024
let swept: (() => void) | null = null
let dropped = 0

function sweep(bytes: number): void {
  dropped += bytes
  if (dropped < sweepAfterBytes) return
  dropped = 0
  if (swept === null) {
    setFlagsFromString('--expose-gc')
    swept = runInNewContext('gc') as () => void
  }
  swept()
}
