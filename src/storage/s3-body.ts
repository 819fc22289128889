import { Readable } from 'node:stream'
import type { Lender, UsePiece } from '../domain/lender.ts'
import { stopped } from './failures.ts'
import { giveBack, keep } from './lent.ts'
import { S3Range } from './s3-range.ts'

/** Who reads no more than this wants the beginning alone: nothing further is asked for until then. */
const beginningBytes = 1024 * 1024

/** Pieces that are used at a time: one may be hashed while others are being written. */
const mostUsed = 4

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
export class S3Body extends Readable implements Lender {
  readonly #options: BodyOptions
  /** In order; the first one is being read. */
  readonly #ranges: S3Range[] = []
  /** Where the next range begins. */
  #next = 0
  #given = 0
  #wanted = false
  /** Wakes who waits for a piece that is to be lent. */
  #wake: () => void = () => {}

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
          if (range !== this.#ranges[0]) return
          this.#wake()
          this.#give()
        },
        onFailure: (error) => this.destroy(error),
      },
      source,
    )
    this.#ranges.push(range)
  }

  #give(): void {
    while (this.#wanted && !this.destroyed) {
      const piece = this.#take()
      if (piece === undefined) break
      this.#wanted = this.push(piece === null ? null : keep(piece))
    }
    this.#beginMore()
  }

  /** The next bytes; undefined when they have not come yet, null at the end. */
  #take(): Buffer | null | undefined {
    for (;;) {
      const [range] = this.#ranges
      if (range === undefined) return null
      const piece = range.take()
      if (piece !== undefined) this.#given += piece.length
      if (piece !== undefined || !range.isOver) return piece
      this.#ranges.shift()
      this.#beginMore()
    }
  }

  /** See Lender. */
  async lend(use: UsePiece): Promise<void> {
    this.on('error', () => {}) // whoever lends is told
    try {
      const using: Promise<void>[] = []
      for (let piece = await this.#piece(); piece !== null; piece = await this.#piece()) {
        const used = this.#use(piece, use)
        used.catch(() => {}) // told when its turn comes
        using.push(used)
        if (using.length === mostUsed) await using.shift()
      }
      await Promise.all(using)
    } catch (error) {
      this.destroy()
      throw error
    }
    this.push(null)
    this.resume()
  }

  async #use(piece: Buffer, use: UsePiece): Promise<void> {
    const { length } = piece
    await use(piece)
    giveBack(piece)
    this.emit('used', length)
  }

  /** @throws what the stream failed with */
  async #piece(): Promise<Buffer | null> {
    for (;;) {
      if (this.destroyed) throw this.errored ?? new Error('the download was ended before it was whole')
      const piece = this.#take()
      this.#beginMore()
      if (piece !== undefined) return piece
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  #beginMore(): void {
    const most = this.#given < beginningBytes ? 1 : this.#options.parallel
    while (!this.destroyed && this.#ranges.length < most && this.#next < this.#options.bytes) this.#begin(null)
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#options.signal?.removeEventListener('abort', this.#stop)
    for (const range of this.#ranges) range.stop()
    this.#ranges.length = 0
    this.#wake()
    done(error)
  }
}
