import { Readable } from 'node:stream'
import { LifeboatError } from '../domain/errors.ts'
import { stopped } from './failures.ts'
import { s3Failure } from './s3-failures.ts'

/** How often in a row a read may break off without a byte in between. */
const mostBreaks = 4

export interface BodyOptions {
  /** What a whole read gives, bytes. */
  readonly bytes: number
  readonly doing: string
  /** Opens the same object again, from so many bytes after the start on; fails when it is not the same any more. */
  readonly reopen: (offset: number) => Promise<Readable>
  readonly signal: AbortSignal | undefined
}

/**
 * The bytes of an object. A connection that breaks off is made again where it ended, so that a download of hours
 * survives; one that ends early without an error counts as broken. What comes is as long as was promised, or an error.
 */
export class S3Body extends Readable {
  readonly #options: BodyOptions
  #source: Readable | null = null
  #read = 0
  #breaks = 0
  #wanted = false
  #opening = false

  constructor(first: Readable, options: BodyOptions) {
    super({ highWaterMark: 256 * 1024 })
    this.#options = options
    this.#attach(first)
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
    if (this.#source !== null) this.#source.resume()
    // It broke off while nobody wanted anything, as a server ends what is silent for long.
    else void this.#open()
  }

  #attach(source: Readable): void {
    this.#source = source
    let isOver = false
    const ended = (error: unknown): void => {
      if (isOver) return
      isOver = true
      this.#ended(source, error)
    }
    source.on('data', (chunk: Buffer) => this.#take(source, chunk))
    source.once('end', () => ended(null))
    source.once('close', () => ended(null))
    // Stays: after the first failure of a socket another one may follow.
    source.on('error', ended)
    if (!this.#wanted) source.pause()
  }

  #take(source: Readable, chunk: Buffer): void {
    if (this.destroyed || source !== this.#source) return
    this.#breaks = 0
    this.#read += chunk.length
    if (this.#read > this.#options.bytes) {
      this.destroy(
        new LifeboatError('storage-failed', `${this.#options.doing}: the server sent more than the object has`),
      )
      return
    }
    this.#wanted = this.push(chunk)
    if (!this.#wanted) source.pause()
  }

  #ended(source: Readable, error: unknown): void {
    if (this.destroyed || source !== this.#source) return
    this.#source = null
    source.destroy()
    if (this.#read === this.#options.bytes) {
      this.push(null)
      return
    }
    this.#breaks += 1
    if (this.#breaks > mostBreaks) this.destroy(this.#cutShort(error))
    else if (this.#wanted) void this.#open()
  }

  async #open(): Promise<void> {
    if (this.#opening || this.destroyed || this.#read === this.#options.bytes) return
    this.#opening = true
    try {
      const source = await this.#options.reopen(this.#read)
      this.#opening = false
      if (this.destroyed) source.destroy()
      else this.#attach(source)
    } catch (error) {
      this.destroy(s3Failure(this.#options.doing, error))
    }
  }

  #cutShort(cause: unknown): LifeboatError {
    const { doing, bytes } = this.#options
    const message = `${doing}: the connection breaks off again and again after ${this.#read} of ${bytes} bytes`
    return new LifeboatError('storage-unreachable', message, {
      hint: 'look at the network, and at proxies between',
      ...(cause === null ? {} : { cause }),
    })
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#options.signal?.removeEventListener('abort', this.#stop)
    this.#source?.destroy()
    this.#source = null
    done(error)
  }
}
