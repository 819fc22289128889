import process from 'node:process'
import { Readable } from 'node:stream'
import { SHARE_ENV, Worker } from 'node:worker_threads'
import type { Clock } from '../clock.ts'
import { LifeboatError } from '../domain/errors.ts'
import { scriptUrl } from '../scripts.ts'
import { giveBack, lend } from './lent.ts'
import type { FromThread, Head, Network, SignedRequest, ToThread, Trouble } from './s3-apart-messages.ts'

/** A thread that was not asked for so long, at most twice that, is ended: it has its own heap. */
const idleMs = 5_000

export interface Answer extends Head {
  /** Gives lent memory (see lent.ts), and is never held up: it is no longer than what was asked for. */
  readonly body: Readable
}

/**
 * Sends requests from a thread of its own, and takes their answers into memory that is used again and again: otherwise each
 * few megabytes that are received have V8 search the heap of the whole process for what it could free (docs/decisions/0040-downloads.md).
 *
 * The thread is started when it is needed and ended when it is not. It does not keep the process alive, but requests do.
 */
export class Apart {
  readonly #network: Network
  readonly #clock: Clock
  /** By the id of the request. */
  readonly #running = new Map<number, Exchange>()
  #worker: Worker | null = null
  #wasUsed = false
  #lastId = 0

  constructor(network: Network, clock: Clock) {
    this.#network = network
    this.#clock = clock
  }

  /** Fails as node:http does, and with an `AbortError` as soon as the signal aborts, as long as there is no answer. */
  async send(request: SignedRequest, signal: AbortSignal): Promise<Answer> {
    if (signal.aborted) throw aborted(signal)
    this.#worker ??= this.#start()
    this.#wasUsed = true
    const worker = this.#worker
    const id = ++this.#lastId
    const tell = (told: ToThread): void => worker.postMessage(told)
    const over = (): boolean => {
      const wasRunning = this.#running.delete(id)
      if (this.#running.size === 0) worker.unref()
      return wasRunning
    }
    const stop = (): void => {
      if (over()) tell({ id, request: null })
    }
    const exchange = new Exchange({ over, stop, free: (memory) => tell({ free: memory }) })
    if (this.#running.size === 0) worker.ref()
    this.#running.set(id, exchange)
    tell({ id, request })
    const abort = (): void => {
      stop()
      exchange.fail(aborted(signal))
    }
    signal.addEventListener('abort', abort)
    return exchange.answer.finally(() => signal.removeEventListener('abort', abort))
  }

  #start(): Worker {
    const worker = new Worker(scriptUrl('storage/s3-apart-thread'), {
      name: 'lifeboat-s3',
      workerData: this.#network,
      // What it receives is outside its heap.
      resourceLimits: { maxYoungGenerationSizeMb: 1, maxOldGenerationSizeMb: 32 },
      // It trusts the servers that the process does, and needs nothing else of what was meant for that.
      execArgv: process.execArgv.filter((one) => one === '--use-system-ca'),
      env: SHARE_ENV,
    })
    const ended = (cause: unknown): void => {
      if (this.#worker !== worker) return
      this.#worker = null
      const why = cause instanceof Error ? cause.message : String(cause)
      const failure = new LifeboatError('storage-failed', `the thread that downloads ended: ${why}`, { cause })
      for (const exchange of [...this.#running.values()]) exchange.fail(failure)
    }
    worker.on('message', (told: FromThread) => {
      const exchange = this.#running.get(told.id)
      if (exchange !== undefined) exchange.take(told)
      // Nobody wants it any more.
      else if ('memory' in told) worker.postMessage({ free: told.memory } satisfies ToThread)
    })
    worker.on('error', ended)
    worker.on('exit', (code) => ended(new Error(`exit code ${code}`)))
    void this.#endWhenIdle(worker)
    return worker
  }

  async #endWhenIdle(worker: Worker): Promise<void> {
    do {
      this.#wasUsed = false
      await this.#clock.sleep(idleMs)
      if (this.#worker !== worker) return
    } while (this.#wasUsed || this.#running.size > 0)
    this.#worker = null
    await worker.terminate()
  }
}

interface Ways {
  /** Nothing more comes. */
  readonly over: () => void
  /** Nothing more is wanted. */
  readonly stop: () => void
  /** Memory may be filled again. */
  readonly free: (memory: SharedArrayBuffer) => void
}

/** One request and its answer. */
class Exchange {
  readonly #ways: Ways
  readonly #answer = Promise.withResolvers<Answer>()
  #body: Readable | null = null

  constructor(ways: Ways) {
    this.#ways = ways
  }

  get answer(): Promise<Answer> {
    return this.#answer.promise
  }

  take(told: FromThread): void {
    if ('head' in told) {
      this.#body = new Readable({
        read: () => {},
        destroy: (error, done) => {
          this.#ways.stop()
          done(error)
        },
      })
      this.#answer.resolve({ ...told.head, body: this.#body })
    } else if ('memory' in told) {
      const piece = lend(told.memory, told.bytes, () => this.#ways.free(told.memory))
      if (this.#body === null) giveBack(piece)
      else this.#body.push(piece)
    } else if (told.trouble === null) {
      this.#ways.over()
      this.#body?.push(null)
    } else {
      this.fail(errorOf(told.trouble))
    }
  }

  fail(error: Error): void {
    this.#ways.over()
    if (this.#body === null) this.#answer.reject(error)
    else this.#body.destroy(error)
  }
}

function errorOf({ name, message, code }: Trouble): Error {
  return Object.assign(new Error(message), { name }, code === null ? {} : { code })
}

/** As the SDK's own way to send has it. */
function aborted({ reason }: AbortSignal): Error {
  return Object.assign(new Error('Request aborted', { cause: reason }), { name: 'AbortError' })
}
