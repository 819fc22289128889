import { readFile } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import type { Clock } from '../clock.ts'

/** How often to look how far a program has read. */
const lookEveryMs = 500

/** Counts how much of an artifact has been read. */
export class ByteCount {
  readonly #clock: Clock
  readonly #onBytes: (bytes: number) => void
  #bytes = 0

  /** @param onBytes gets what has come since; negative when it was in vain */
  constructor({ clock, onBytes }: { readonly clock: Clock; readonly onBytes: (bytes: number) => void }) {
    this.#clock = clock
    this.#onBytes = onBytes
  }

  set(bytes: number): void {
    const more = bytes - this.#bytes
    this.#bytes = bytes
    if (more !== 0) this.#onBytes(more)
  }

  /** Counts what flows out of a stream that has no reader yet. */
  follow(source: Readable): () => void {
    source.pause() // else it would begin to flow, and its reader miss the beginning
    source.on('data', (chunk: Buffer) => this.set(this.#bytes + chunk.length))
    // Of what lends its bytes (see Lender).
    source.on('used', (bytes: number) => this.set(this.#bytes + bytes))
    return () => {}
  }

  /** Looks how far a program has read an open file, where the kernel tells; gives what ends it. */
  watch(descriptor: number): () => void {
    const over = new AbortController()
    const looking = async () => {
      for (;;) {
        await this.#clock.sleep(lookEveryMs, over.signal)
        const [, place] = /^pos:\s*(\d+)/.exec(await readFile(`/proc/self/fdinfo/${descriptor}`, 'utf8')) ?? []
        if (over.signal.aborted || place === undefined) return
        this.set(Number(place))
      }
    }
    looking().catch(() => {}) // over, or nobody tells
    return () => over.abort()
  }
}
