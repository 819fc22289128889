import { Worker } from 'node:worker_threads'
import { type Failure, LifeboatError } from '../domain/errors.ts'
import { scriptUrl } from '../scripts.ts'
import type { NamedSegment } from './segment-check.ts'
import type { WriteQuestion } from './segment-thread.ts'

/** What a thread answers. */
export type Written =
  | { readonly size: number | null }
  | { readonly failure: Failure; readonly systemCode: string | null }

/**
 * Threads that write segments (`writeWhole`). The buffers of a whole segment make V8 collect garbage after each few: on the
 * main thread, with all that is loaded there, that takes as long as to decompress them.
 */
export class SegmentWriters {
  readonly #count: number
  readonly #alive = new Set<Worker>()
  readonly #idle = new Set<Worker>()
  readonly #waiting: (() => void)[] = []

  /** @param count of threads, each started when it is needed */
  constructor(count: number) {
    this.#count = count
  }

  /** One that has gone is never given to anybody, who would wait for its answer for ever. */
  #start(): Worker {
    const worker = new Worker(scriptUrl('fetch/segment-thread'), { name: 'lifeboat-segment', execArgv: [], env: {} })
    worker.on('error', () => {}) // who waits for it is told below
    worker.once('exit', () => {
      this.#alive.delete(worker)
      this.#idle.delete(worker)
    })
    worker.unref()
    this.#alive.add(worker)
    return worker
  }

  /** See `writeWhole`. */
  async write(object: NamedSegment, stored: Uint8Array, path: string): Promise<number | null> {
    while (this.#idle.size === 0 && this.#alive.size >= this.#count)
      await new Promise<void>((resolve) => this.#waiting.push(resolve))
    const [idle] = this.#idle
    const worker = idle ?? this.#start()
    this.#idle.delete(worker)
    try {
      const { name, systemIdentifier, hash } = object
      const question: WriteQuestion = { object: { name, systemIdentifier, hash }, stored, path }
      const written = await ask(worker, question)
      if ('size' in written) return written.size
      const { code, message, hint } = written.failure
      if (written.systemCode !== null) throw Object.assign(new Error(message), { code: written.systemCode })
      throw new LifeboatError(code, message, hint === undefined ? {} : { hint })
    } finally {
      if (this.#alive.has(worker)) this.#idle.add(worker)
      this.#waiting.shift()?.()
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#alive].map((worker) => worker.terminate()))
  }
}

async function ask(worker: Worker, question: WriteQuestion): Promise<Written> {
  const { promise, resolve, reject } = Promise.withResolvers<Written>()
  const gone = (code: number) =>
    reject(new LifeboatError('storage-failed', `the thread that writes WAL ended with ${code}`))
  worker.once('message', resolve).once('error', reject).once('exit', gone)
  worker.ref() // else a process that waits for nothing but the answer would end
  worker.postMessage(question)
  try {
    return await promise
  } finally {
    worker.unref()
    worker.off('message', resolve).off('error', reject).off('exit', gone)
  }
}
