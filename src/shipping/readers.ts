import { createHash } from 'node:crypto'
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { Worker } from 'node:worker_threads'
import { createZstdCompress, constants as zlib } from 'node:zlib'
import { type Clock, withDeadline } from '../clock.ts'
import { LifeboatError } from '../domain/errors.ts'
import { scriptUrl } from '../scripts.ts'
import type { Answer, CompressedBytes, Head, PlainFile, Question, SegmentQuestion, Whole } from './question.ts'

/** A file of the archive that could not be read: `ENOENT` when it is not there, `CHANGED` when it was written to meanwhile. */
export class Unreadable extends Error {
  readonly code: string
  constructor(code: string, message: string) {
    super(message)
    this.code = code
  }
}

/** What is given to a repository. */
export interface Body {
  readonly body: Uint8Array | Readable
  /** How many bytes it has, or has given so far. */
  readonly bytes: () => number
}

/** Of a segment that is not read as a whole. */
const chunkBytes = 1024 * 1024

/** A disk that does not answer for so long counts as hanging: a whole segment of 1 GiB takes seconds. */
const longestReadMs = 120_000

/**
 * Threads that read, check, hash and compress, each for one file after the other. They are started when they are needed, and
 * keep no process alive. Methods fail with `Unreadable`, with `storage-failed` when the disk does not answer, and with
 * the signal's reason.
 */
export class WalReaders {
  readonly #clock: Clock
  readonly #most: number
  readonly #threads = new Set<Thread>()
  readonly #idle: Thread[] = []
  readonly #waiting: ((thread: Thread) => void)[] = []

  constructor({ clock, threads }: { readonly clock: Clock; readonly threads: number }) {
    this.#clock = clock
    this.#most = threads
  }

  async head(path: string, expected: SegmentQuestion, signal: AbortSignal): Promise<Head> {
    const answer = await this.#ask({ what: 'head', path, expected }, signal)
    if ('head' in answer) return answer.head
    throw failureOf(answer)
  }

  /** @param level null: not compressed */
  async whole(path: string, expected: SegmentQuestion, level: number | null, signal: AbortSignal): Promise<Whole> {
    const answer = await this.#ask({ what: 'whole', path, expected, level }, signal)
    if ('whole' in answer) return answer.whole
    throw failureOf(answer)
  }

  /** Removes a file if it is still the one that was looked at. */
  async unlink(path: string, identity: string, signal: AbortSignal): Promise<void> {
    const answer = await this.#ask({ what: 'unlink', path, identity }, signal)
    if (!('unlinked' in answer)) throw failureOf(answer)
  }

  async text(path: string, signal: AbortSignal): Promise<PlainFile> {
    const answer = await this.#ask({ what: 'text', path }, signal)
    if ('text' in answer) return answer.text
    throw failureOf(answer)
  }

  /** What is to be stored of a file that was read: the bytes at hand, or a stream that never holds much of it. */
  body(path: string, whole: Whole, level: number): Body {
    const { compressed } = whole
    return compressed === null ? streamed(path, whole, level) : { body: compressed, bytes: () => compressed.length }
  }

  async compress(bytes: Uint8Array, level: number, signal: AbortSignal): Promise<CompressedBytes> {
    return this.#compressed({ what: 'bytes', bytes, level }, signal)
  }

  /** Ends the threads; what is asked fails. */
  async close(): Promise<void> {
    await Promise.all([...this.#threads].map((thread) => thread.end()))
  }

  async #compressed(question: Question, signal: AbortSignal): Promise<CompressedBytes> {
    const answer = await this.#ask(question, signal)
    if ('compressed' in answer) return answer.compressed
    throw failureOf(answer)
  }

  async #ask(question: Question, signal: AbortSignal): Promise<Answer> {
    const thread = await this.#take(signal)
    // Free again when it has answered, not when somebody has given up on it.
    const answered = thread.ask(question).finally(() => this.#give(thread))
    answered.catch(() => {})
    const reason = new LifeboatError('storage-failed', 'the WAL archive did not answer for two minutes', {
      hint: 'see whether its disk is in order: what is read from it now waits',
    })
    return withDeadline(this.#clock, { ms: longestReadMs, reason, signals: [signal] }, (late) =>
      orAborted(answered, late),
    )
  }

  async #take(signal: AbortSignal): Promise<Thread> {
    signal.throwIfAborted()
    for (let idle = this.#idle.pop(); idle !== undefined; idle = this.#idle.pop())
      if (this.#threads.has(idle)) return idle
    if (this.#threads.size < this.#most) {
      const made = new Thread(() => this.#threads.delete(made))
      this.#threads.add(made)
      return made
    }
    const free = Promise.withResolvers<Thread>()
    this.#waiting.push(free.resolve)
    try {
      return await orAborted(free.promise, signal)
    } catch (error) {
      const index = this.#waiting.indexOf(free.resolve)
      // Given in the same instant: to the next one.
      if (index === -1) free.promise.then((thread) => this.#give(thread)).catch(() => {})
      else this.#waiting.splice(index, 1)
      throw error
    }
  }

  #give(thread: Thread): void {
    const next = this.#waiting.shift()
    const usable = this.#threads.has(thread) ? thread : null
    if (next === undefined) {
      if (usable !== null) this.#idle.push(usable)
      return
    }
    if (usable !== null) {
      next(usable)
      return
    }
    const made = new Thread(() => this.#threads.delete(made))
    this.#threads.add(made)
    next(made)
  }
}

/**
 * One frame in any case: Node.js reads no more than the first of several. Its content is hashed once more, and the stream
 * fails before its end when that is not what was read the first time.
 */
function streamed(path: string, { bytes, sha256 }: Whole, level: number): Body {
  const frame = createZstdCompress({
    chunkSize: chunkBytes,
    pledgedSrcSize: bytes,
    params: { [zlib.ZSTD_c_compressionLevel]: level, [zlib.ZSTD_c_checksumFlag]: 1 },
  })
  let count = 0
  frame.on('data', (chunk: Buffer) => {
    count += chunk.length
  })
  frame.pause()
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
  const read = async function* () {
    const handle = await open(path, flags)
    const found = createHash('sha256')
    try {
      for await (const chunk of handle.createReadStream({ highWaterMark: chunkBytes, autoClose: false })) {
        found.update(chunk as Buffer)
        yield chunk as Buffer
      }
    } finally {
      await handle.close()
    }
    if (found.digest('hex') !== sha256) throw new Unreadable('CHANGED', 'it is not what it was any more')
  }
  pipeline(read(), frame).catch(() => {}) // whoever reads the frame is told
  return { body: frame, bytes: () => count }
}

function failureOf(answer: Answer): Error {
  return 'code' in answer ? new Unreadable(answer.code, answer.message) : new Error('an answer to another question')
}

/** What the promise gives, or the signal's reason as soon as it aborts. */
export async function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted()
  const stopped = Promise.withResolvers<never>()
  const stop = () => stopped.reject(signal.reason)
  signal.addEventListener('abort', stop, { once: true })
  try {
    return await Promise.race([promise, stopped.promise])
  } finally {
    signal.removeEventListener('abort', stop)
  }
}

class Thread {
  readonly #worker: Worker
  /** Who waits for the answer. A race with one lasting promise would keep every answer in memory. */
  #asking: PromiseWithResolvers<Answer> | null = null
  #end: Error | null = null
  #isEnding = false

  constructor(onEnd: () => void) {
    this.#worker = new Worker(scriptUrl('shipping/thread'), {
      name: 'lifeboat-wal',
      execArgv: [],
      env: {},
    })
    const end = (error: Error) => {
      onEnd()
      this.#end ??= error
      this.#asking?.reject(error)
    }
    this.#worker.on('message', (answer: Answer) => this.#asking?.resolve(answer))
    this.#worker.on('error', end)
    this.#worker.once('exit', (code) =>
      end(new LifeboatError('storage-failed', `the thread that reads WAL ended with ${code}`)),
    )
    this.#worker.unref()
  }

  async ask(question: Question): Promise<Answer> {
    if (this.#end !== null) throw this.#end
    const asking = Promise.withResolvers<Answer>()
    this.#asking = asking
    // Held while it works: else a process that waits for nothing but the answer would end.
    this.#worker.ref()
    this.#worker.postMessage(question)
    try {
      return await asking.promise
    } finally {
      this.#asking = null
      if (!this.#isEnding) this.#worker.unref()
    }
  }

  async end(): Promise<void> {
    this.#isEnding = true
    this.#worker.ref() // else a process that waits for nothing but this would end before
    await this.#worker.terminate()
  }
}
