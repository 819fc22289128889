import type { Head, PlainFile, SegmentQuestion, Whole } from './question.ts'
import type { WalReaders } from './readers.ts'
import type { Seal, SealedBody } from './seal.ts'

/** As many segments of the usual size are kept for the other repositories as fit; none of a larger one. */
const keptFiles = 8

/** The files of the archive, each read once for all repositories that want it at about the same time. */
export class Source {
  readonly #readers: WalReaders
  readonly #seal: Seal
  readonly #level: number
  readonly #signal: AbortSignal
  readonly #isShared: boolean
  readonly #kept = new Map<string, Promise<Whole>>()

  /** @param options.signal of the whole service: a repository that gives up ends no reading for the others */
  constructor(options: {
    readonly readers: WalReaders
    readonly seal: Seal
    readonly level: number
    readonly repositories: number
    readonly signal: AbortSignal
  }) {
    this.#readers = options.readers
    this.#seal = options.seal
    this.#level = options.level
    this.#isShared = options.repositories > 1
    this.#signal = options.signal
  }

  head(path: string, expected: SegmentQuestion): Promise<Head> {
    return this.#readers.head(path, expected, this.#signal)
  }

  plain(path: string): Promise<PlainFile> {
    return this.#readers.text(path, this.#signal)
  }

  /** Read, checked, hashed and compressed. `head` says which file was seen at that path. */
  whole(path: string, expected: SegmentQuestion, head: Head): Promise<Whole> {
    const key = `${path} ${head.identity}`
    const kept = this.#kept.get(key)
    if (kept !== undefined) return kept
    const reading = this.#readers.whole(path, expected, this.#level, this.#signal)
    if (!this.#isShared) return reading
    this.#kept.set(key, reading)
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= keptFiles) break
      this.#kept.delete(oldest)
    }
    reading.catch(() => this.#kept.delete(key))
    return reading
  }

  /** Read and hashed, nothing else. */
  hash(path: string, expected: SegmentQuestion): Promise<Whole> {
    return this.#readers.whole(path, expected, null, this.#signal)
  }

  unlink(path: string, identity: string): Promise<void> {
    return this.#readers.unlink(path, identity, this.#signal)
  }

  /** The bytes that a repository stores of what is in memory. */
  async compress(bytes: Uint8Array): Promise<SealedBody> {
    const { compressed } = await this.#readers.compress(bytes, this.#level, this.#signal)
    return this.#seal.bytes(compressed, this.#signal)
  }

  /** The bytes that a repository stores of a file. */
  body(path: string, whole: Whole): Promise<SealedBody> {
    return this.#seal.body(this.#readers.body(path, whole, this.#level), this.#signal)
  }
}
