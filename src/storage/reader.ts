import { closeSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import type { Clock } from '../clock.ts'
import { LifeboatError } from '../domain/errors.ts'
import { scriptUrl } from '../scripts.ts'
import { stopped } from './failures.ts'
import {
  type Answer,
  type Answered,
  type Comparison,
  type Found,
  type Name,
  type Opened,
  type Question,
  type Request,
  toError,
} from './reader-messages.ts'
import type { FileDeviation } from './storage.ts'

/** A thread that was not asked for so long, at most twice that, is ended: it has its own heap. */
const idleMs = 5_000

/** Requests that a thread is given before it has answered: a disk that hangs must not fill the memory. */
const mostUnanswered = 1_024

/** Someone who waits for an answer. */
interface Waiting {
  readonly request: Request
  readonly resolve: (found: Answered) => void
  readonly reject: (error: unknown) => void
  readonly signal: AbortSignal | undefined
  readonly stop: () => void
}

interface Thread {
  readonly worker: Worker
  /** How many requests it was sent and has not answered. */
  unanswered: number
  /** Asked for anything since the last look at it. */
  used: boolean
}

/**
 * Looks at files and reads small ones in a thread of its own, one for each storage, with synchronous calls into the
 * system: a trip to a thread of libuv for each call would cost several times the call. Requests of one turn of the
 * event loop go there in one message.
 *
 * The thread is started when it is needed and ended when it is not. It does not keep the process alive, but what waits
 * for it does. A disk that hangs holds up this thread alone; a request then waits until its signal aborts.
 */
export class Reader {
  readonly #clock: Clock
  readonly #script: URL
  #thread: Thread | null = null
  /** By the id of the request, in the order of the calls. */
  readonly #waiting = new Map<number, Waiting>()
  /** Those of `#waiting` that have not been sent yet. */
  readonly #unsent = new Map<number, Request>()
  #lastId = 0
  #sending = false

  /** `script`: what runs in the thread. */
  constructor(clock: Clock, script: URL = scriptUrl('storage/reader-thread')) {
    this.#clock = clock
    this.#script = script
  }

  /**
   * Asks the thread; see Question and Found. Null: there is no such object. Fails as `openFile` does, with
   * `storage-failed` if the thread dies, and with `stopped` as soon as the signal aborts.
   */
  ask(question: Name<'entry' | 'head'>, root: string, signal: AbortSignal | undefined): Promise<Found | null>
  ask(question: Name<'body'>, root: string, signal: AbortSignal | undefined): Promise<Opened | null>
  ask(question: Comparison, root: string, signal: AbortSignal | undefined): Promise<readonly FileDeviation[]>
  ask(question: Question, root: string, signal: AbortSignal | undefined): Promise<Answered> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(stopped(signal))
        return
      }
      const request = { ...question, id: ++this.#lastId, root }
      const stop = (): void => {
        this.#settle(request.id)
        if (signal) reject(stopped(signal))
      }
      signal?.addEventListener('abort', stop)
      this.#waiting.set(request.id, { request, resolve, reject, signal, stop })
      this.#unsent.set(request.id, request)
      if (this.#waiting.size === 1) this.#thread?.worker.ref()
      this.#sendSoon()
    })
  }

  /** Takes out one that waits, if it still does. */
  #settle(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id)
    if (waiting === undefined) return undefined
    waiting.signal?.removeEventListener('abort', waiting.stop)
    this.#waiting.delete(id)
    this.#unsent.delete(id)
    if (this.#waiting.size === 0) this.#thread?.worker.unref()
    return waiting
  }

  /** At the end of this turn of the event loop. Not before: then a fast thread would keep the loop from ever turning. */
  #sendSoon(): void {
    if (this.#sending) return
    this.#sending = true
    setImmediate(() => {
      this.#sending = false
      this.#send()
    })
  }

  #send(): void {
    if (this.#unsent.size === 0) return
    try {
      this.#thread ??= this.#start()
    } catch (error) {
      this.#fail(error)
      return
    }
    if (this.#thread.unanswered >= mostUnanswered) return
    const requests = [...this.#unsent.values()]
    this.#unsent.clear()
    this.#thread.unanswered += requests.length
    this.#thread.used = true
    this.#thread.worker.postMessage(requests)
  }

  #start(): Thread {
    const worker = new Worker(this.#script, {
      name: 'lifeboat-reader',
      // Descriptors that are handed over stay open when the thread ends.
      trackUnmanagedFds: false,
      // What it reads is outside its heap.
      resourceLimits: { maxYoungGenerationSizeMb: 1, maxOldGenerationSizeMb: 16 },
      // Nothing that was meant for the process, such as a module to load first: it would only make the start slow.
      execArgv: [],
      env: {},
    })
    const thread: Thread = { worker, unanswered: 0, used: true }
    const ended = (error: unknown): void => {
      if (this.#thread !== thread) return
      this.#thread = null
      this.#fail(error)
    }
    worker.on('message', (answers: readonly Answer[]) => {
      thread.unanswered -= answers.length
      for (const answer of answers) this.#receive(answer)
      if (this.#unsent.size > 0) this.#sendSoon()
    })
    worker.on('error', ended)
    worker.on('exit', (code) => ended(new Error(`exit code ${code}`)))
    void this.#endWhenIdle(thread)
    return thread
  }

  #receive(answer: Answer): void {
    const waiting = this.#settle(answer.id)
    if ('fault' in answer) {
      waiting?.reject(toError(answer.fault))
    } else if (waiting !== undefined) {
      waiting.resolve(answer.found)
    } else if (answer.found !== null && 'body' in answer.found && typeof answer.found.body === 'number') {
      // Nobody wants it any more.
      closeSync(answer.found.body)
    }
  }

  /** The thread has died, or cannot be started. */
  #fail(cause: unknown): void {
    const why = cause instanceof Error ? cause.message : String(cause)
    for (const id of [...this.#waiting.keys()]) {
      this.#settle(id)?.reject(
        new LifeboatError('storage-failed', `the thread that reads files ended: ${why}`, { cause }),
      )
    }
  }

  async #endWhenIdle(thread: Thread): Promise<void> {
    do {
      thread.used = false
      await this.#clock.sleep(idleMs)
      if (this.#thread !== thread) return
      // One that still owes answers would not end either: each thread started in its place would be stuck as well.
    } while (thread.used || thread.unanswered > 0 || this.#waiting.size > 0)
    this.#thread = null
    await thread.worker.terminate()
  }
}
