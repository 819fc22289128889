import { createHash, type Hash } from 'node:crypto'

/** S3 takes no more parts of one object. */
export const mostParts = 10_000

/** The parts of an object are of one size up to this number, twice as large up to the next thousand, and so on. */
const partsOfOneSize = 1_000

/** S3 takes no larger part. */
const largestPart = 5 * 1024 ** 3

/**
 * How large a part is, bytes, by its number (from 1 on). How much will come is not known when an upload begins: parts that
 * grow keep the buffers small for what is small, and still reach the largest object that S3 takes, 5 TiB, within its 10,000.
 */
export function partBytes(number: number, first: number): number {
  return Math.min(largestPart, first * 2 ** Math.floor((number - 1) / partsOfOneSize))
}

/** So many parts may be on their way at once: as many as are wanted of the first size, fewer of larger ones, never less than two. */
export function partsAtOnce(number: number, first: number, parallel: number): number {
  return Math.max(Math.min(2, parallel), Math.floor((parallel * first) / partBytes(number, first)))
}

/** Buffers that are used again: making them anew costs as much as filling them. */
export class BufferPool {
  readonly #free: Buffer[] = []
  readonly #bytes: number
  readonly #most: number

  /** Keeps at most `most` free buffers of this size; others are left to the garbage collector. */
  constructor(bytes: number, most: number) {
    this.#bytes = bytes
    this.#most = most
  }

  take(bytes: number): Buffer {
    const free = bytes === this.#bytes ? this.#free.pop() : undefined
    return free ?? Buffer.allocUnsafeSlow(bytes)
  }

  give(buffer: Buffer): void {
    if (buffer.length === this.#bytes && this.#free.length < this.#most) this.#free.push(buffer)
  }
}

/** A part in the making. It is hashed as it is filled: all at once at its end would hold up everything else. */
export class Part {
  readonly number: number
  readonly buffer: Buffer
  readonly #md5: Hash | null
  readonly #sha256: Hash | null
  #filled = 0

  /** The first part may be all there is: then its SHA-256 is of use in any case. */
  constructor(number: number, buffer: Buffer, checksum: 'sha256' | 'md5') {
    this.number = number
    this.buffer = buffer
    this.#md5 = checksum === 'md5' ? createHash('md5') : null
    this.#sha256 = number === 1 || checksum === 'sha256' ? createHash('sha256') : null
  }

  get isFull(): boolean {
    return this.#filled === this.buffer.length
  }

  get bytes(): Buffer {
    return this.buffer.subarray(0, this.#filled)
  }

  /** Takes what fits; returns how much that was. */
  fill(bytes: Uint8Array): number {
    const taken = bytes.subarray(0, this.buffer.length - this.#filled)
    this.buffer.set(taken, this.#filled)
    this.#md5?.update(taken)
    this.#sha256?.update(taken)
    this.#filled += taken.length
    return taken.length
  }

  /** May be called once, at the end. */
  digests(): Digests {
    return { md5: this.#md5?.digest('base64') ?? '', sha256: this.#sha256?.digest('hex') ?? '' }
  }
}

/** MD5 in Base64, as the header Content-MD5 has it, and SHA-256 in hexadecimal; empty where it was not asked for. */
export interface Digests {
  readonly md5: string
  readonly sha256: string
}

export function digestsOf(bytes: Uint8Array): Digests {
  return {
    md5: createHash('md5').update(bytes).digest('base64'),
    sha256: createHash('sha256').update(bytes).digest('hex'),
  }
}
