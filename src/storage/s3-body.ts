import { Readable } from 'node:stream'
import { stopped } from './failures.ts'
import { S3Range } from './s3-range.ts'

/** Who reads no more than this wants the beginning alone: nothing further is asked for until then. */
const beginningBytes = 1024 * 1024

export interface BodyOptions {
  /** What a whole read gives. */
  readonly bytes: number
  /** Of one range; the last may be shorter. */
  readonly rangeBytes: number
  /** Ranges that are on their way, or wait to be read, at a time. */
  readonly parallel: number
  readonly doing: string
  /** Opens the same object from one byte to another, both included and counted from the start of what is read; fails when it is not the same any more. */
  readonly open: (from: number, to: number) => Promise<Readable>
  readonly signal: AbortSignal | undefined
}

/**
 * The bytes of an object, by ranges that come side by side and are given in order. At most `parallel` ranges are in memory: the next
 * one begins when one has been read to its end, so that a slow reader holds up no connection. What comes is as long as was
 * promised, or an error.
 */
export class S3Body extends Readable {
  readonly #options: BodyOptions
  /** In order; the first one is being read. */
  readonly #ranges: S3Range[] = []
  /** Where the next range begins. */
  #next = 0
  #given = 0
  #wanted = false

  /** `first`: the first range, opened. */
  constructor(first: Readable, options: BodyOptions) {
    super({ highWaterMark: 256 * 1024 })
    this.#options = options
    if (options.bytes > 0) this.#begin(first)
    else first.on('error', () => {}).resume()
    const { signal } = options
    signal?.addEventListener('abort', this.#stop)
    // It may have aborted while the object was being opened: then no event comes any more.
    if (signal?.aborted) this.#stop()
  }

  readonly #stop = (): void => {
    if (this.#options.signal) this.destroy(stopped(this.#options.signal))
  }

  override _read(): void {
    this.#wanted = true
    this.#give()
  }

  #begin(source: Readable | null): void {
    const { bytes, rangeBytes, doing, open } = this.#options
    const from = this.#next
    const to = Math.min(from + rangeBytes, bytes) - 1
    this.#next = to + 1
    const range = new S3Range(
      {
        ...{ bytes: to - from + 1, doing, open: (offset: number) => open(from + offset, to) },
        onMore: () => {
          if (range === this.#ranges[0]) this.#give()
        },
        onFailure: (error) => this.destroy(error),
      },
      source,
    )
    this.#ranges.push(range)
  }

  #give(): void {
    while (this.#wanted && !this.destroyed) {
      const [range] = this.#ranges
      const piece = range?.take()
      if (piece !== undefined) {
        this.#given += piece.length
        this.#wanted = this.push(piece)
      } else if (range?.isOver) {
        this.#ranges.shift()
        this.#beginMore()
      } else if (range === undefined) {
        this.#wanted = false
        this.push(null)
      } else {
        break
      }
    }
    this.#beginMore()
  }

  #beginMore(): void {
    const most = this.#given < beginningBytes ? 1 : this.#options.parallel
    while (!this.destroyed && this.#ranges.length < most && this.#next < this.#options.bytes) this.#begin(null)
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#options.signal?.removeEventListener('abort', this.#stop)
    for (const range of this.#ranges) range.stop()
    this.#ranges.length = 0
    done(error)
  }
}
