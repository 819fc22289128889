import type { Readable } from 'node:stream'
import { LifeboatError } from '../domain/errors.ts'
import { giveBack } from './lent.ts'
import { s3Failure } from './s3-failures.ts'

/** How often in a row a read may break off without a byte in between. */
const mostBreaks = 4

export interface RangeOptions {
  /** How much it gives, bytes; at least one. */
  readonly bytes: number
  readonly doing: string
  /** Opens it from so many bytes after its start on; fails when it is not the same object any more. */
  readonly open: (offset: number) => Promise<Readable>
  /** There is more to take, or it is whole. */
  readonly onMore: () => void
  readonly onFailure: (error: Error) => void
}

/**
 * A range of an object on its way into memory. A connection that breaks off is made again where it ended; one that ends early
 * without an error counts as broken. Nothing holds it up: who wants less in memory asks for a smaller range.
 */
export class S3Range {
  readonly #options: RangeOptions
  readonly #pieces: Buffer[] = []
  #source: Readable | null = null
  #read = 0
  #breaks = 0
  #isStopped = false

  /** `source`: it is open already. */
  constructor(options: RangeOptions, source: Readable | null) {
    this.#options = options
    if (source === null) void this.#open()
    else this.#attach(source)
  }

  /** The next bytes, where there are any by now; they may be lent (see lent.ts). */
  take(): Buffer | undefined {
    return this.#pieces.shift()
  }

  /** All of it has been taken. */
  get isOver(): boolean {
    return this.#read === this.#options.bytes && this.#pieces.length === 0
  }

  stop(): void {
    this.#isStopped = true
    for (const piece of this.#pieces.splice(0)) giveBack(piece)
    this.#source?.destroy()
    this.#source = null
  }

  #attach(source: Readable): void {
    this.#source = source
    let isOver = false
    const ended = (error: unknown): void => {
      if (isOver) return
      isOver = true
      this.#ended(source, error)
    }
    source.once('end', () => ended(null))
    source.once('close', () => ended(null))
    // Stays: after the first failure of a socket another one may follow.
    source.on('error', ended)
    source.on('data', (chunk: Buffer) => this.#take(source, chunk))
  }

  #take(source: Readable, chunk: Buffer): void {
    if (this.#isStopped || source !== this.#source) {
      giveBack(chunk)
      return
    }
    const { bytes, doing } = this.#options
    this.#breaks = 0
    if (this.#read + chunk.length > bytes) {
      this.#fail(new LifeboatError('storage-failed', `${doing}: the server sent more than it was asked for`))
      giveBack(chunk)
      return
    }
    this.#read += chunk.length
    this.#pieces.push(chunk)
    this.#options.onMore()
  }

  #ended(source: Readable, error: unknown): void {
    if (this.#isStopped || source !== this.#source) return
    this.#source = null
    source.destroy()
    if (this.#read === this.#options.bytes) return
    this.#breaks += 1
    if (this.#breaks > mostBreaks) this.#fail(this.#cutShort(error))
    else void this.#open()
  }

  async #open(): Promise<void> {
    const { open, doing } = this.#options
    try {
      const source = await open(this.#read)
      if (this.#isStopped) source.destroy()
      else this.#attach(source)
    } catch (error) {
      this.#fail(s3Failure(doing, error))
    }
  }

  #fail(error: Error): void {
    if (this.#isStopped) return
    this.stop()
    this.#options.onFailure(error)
  }

  #cutShort(cause: unknown): LifeboatError {
    const { doing, bytes } = this.#options
    const message = `${doing}: the connection breaks off again and again after ${this.#read} of ${bytes} bytes`
    return new LifeboatError('storage-unreachable', message, {
      hint: 'look at the network, and at proxies between',
      ...(cause === null ? {} : { cause }),
    })
  }
}
