import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import { LifeboatError } from '../domain/errors.ts'
import type { Ending, History } from './history.ts'
import type { Retries } from './history-running.ts'
import {
  type FailedAttempt,
  type HookResult,
  type Job,
  mostAttempts,
  type Progress,
  type Run,
  type RunItem,
} from './job.ts'
import { outcomeOf, outcomeOfStuck, succeeded } from './outcome.ts'
import { createStallWatch, stallMs } from './stall.ts'

export interface RunTaskOptions {
  readonly job: Job
  readonly run: Run
  readonly history: History
  readonly clock: Clock
  readonly log: Logger
  /** How long the job may go on after its signal aborted before the run gets its verdict without it. */
  readonly abortGraceMs: number
  /** Aborts when the runner stops: what cannot be written then is not tried again. */
  readonly stopping: AbortSignal
  /**
   * Called at each change of state, and when progress was made, at most once a second; `isOurs` is false for a verdict
   * that another process has given.
   */
  readonly changed: (run: Run, isOurs?: boolean) => void
}

/** What came of the work, and what the job threw. */
type Result = Pick<Ending, 'state' | 'failure'> & { readonly error?: unknown }

const tickMs = 1000
const saveEveryMs = 5000
const logEveryMs = 30_000

/** A run that this process answers for, from the queue to its verdict. */
export class RunTask {
  readonly id: string
  readonly lane: string
  readonly #options: RunTaskOptions
  readonly #log: Logger
  readonly #controller = new AbortController()
  readonly #verdict = Promise.withResolvers<Run>()
  readonly #unsavedItems: RunItem[] = []
  readonly #hooks: HookResult[] = []
  #retries: Retries = { retries: 0, attempts: [] }
  #progress: Progress | null = null
  #started = false
  #ended = false

  constructor(options: RunTaskOptions) {
    this.#options = options
    this.id = options.run.id
    this.lane = options.run.lane
    this.#log = options.log.child({ run: this.id, job: options.job.name })
    // Nobody has to wait for a verdict.
    this.#verdict.promise.catch(() => undefined)
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /** The run with its verdict; rejects when the verdict could not be written. */
  get verdict(): Promise<Run> {
    return this.#verdict.promise
  }

  /** True once `execute` was called. */
  get started(): boolean {
    return this.#started
  }

  /** True once there is a verdict, or none can be written. */
  get ended(): boolean {
    return this.#ended
  }

  /** The run with the progress that this process knows; the file has an older one. */
  withProgress(run: Run): Run {
    return run.state === 'running' && this.#progress !== null ? { ...run, progress: this.#progress } : run
  }

  /** Asks the job to end; the first reason counts. */
  abort(reason: LifeboatError): void {
    this.#controller.abort(reason)
  }

  /** Ends a task that was not started: its run has its verdict, or (null) none could be written. It will not be executed. */
  close(run: Run | null): void {
    this.#end(run)
    // Wakes whoever waits for the lane.
    this.#controller.abort(new LifeboatError('interrupted', 'the run ended in the queue'))
  }

  /**
   * Does the work of a claimed run, and frees its lane. The verdict comes when the job ends, or a grace after its signal
   * aborted; the lane is freed, and this resolves, only when the job has really ended: two jobs in one lane could destroy
   * each other's work. Never rejects.
   */
  async execute(): Promise<void> {
    const { clock, run, stopping } = this.#options
    if (this.#ended) {
      await this.#persist(() => this.#options.history.release(this.id))
      return
    }
    this.#started = true
    const begun = clock.monotonic()
    const over = new AbortController()
    this.#log.info({ lane: run.lane, trigger: run.trigger, requestedBy: run.requestedBy }, 'run started')
    this.#announce()
    const work = this.#work()
    const watching = this.#watch(over.signal)
    const result = await Promise.race([work, this.#stuck(over.signal)])
    over.abort()
    await watching
    const isStuck = result === null
    if (isStuck) {
      this.#log.error({ lane: run.lane }, 'job goes on after it was told to end: its lane stays taken until it does')
    }
    await this.#conclude(result ?? outcomeOfStuck(this.signal.reason), clock.monotonic() - begun, isStuck)
    if (!isStuck) return
    await work
    this.#log.warn({ lane: run.lane }, 'stuck job has ended')
    // The lane of a process that ends is freed by the next one; the file may be closed by now.
    if (!stopping.aborted) await this.#persist(() => this.#options.history.release(this.id))
  }

  #end(run: Run | null): void {
    if (this.#ended) return
    this.#ended = true
    if (run !== null) this.#verdict.resolve(run)
    else this.#verdict.reject(new LifeboatError('interrupted', `the verdict of run ${this.id} could not be written`))
  }

  /** Writes the verdict, frees the lane unless somebody still works in it, and tells everybody. */
  async #conclude({ error, ...outcome }: Result, durationMs: number, isStuck: boolean): Promise<void> {
    const { history, changed } = this.#options
    const written = await this.#persist(() => {
      this.#saveItems()
      if (this.#retries.retries > 0) history.saveRetries(this.id, this.#retries)
      const won = history.finish(this.id, 'running', {
        ...outcome,
        durationMs,
        progress: this.#progress,
        hooks: this.#hooks,
        isStuck,
      })
      return { won: won !== null, run: won ?? history.get(this.id) }
    })
    const line = { ...outcome, durationSeconds: durationMs / 1000, ...(error === undefined ? {} : { err: error }) }
    if (written?.won === false) this.#log.error(line, 'run ended, but another process had given it a verdict')
    else if (outcome.state === 'failed') this.#log.error(line, 'run failed')
    else this.#log.info(line, `run ${outcome.state}`)
    const run = written?.run ?? null
    this.#end(run)
    if (run !== null) changed(run, written?.won)
  }

  async #work(): Promise<Result> {
    const { job, run } = this.#options
    try {
      await job.run(run.params, {
        runId: this.id,
        trigger: run.trigger,
        signal: this.signal,
        log: this.#log,
        progress: (progress) => {
          if (!this.#ended) this.#progress = progress
        },
        item: (item) => {
          this.#unsavedItems.push(item)
          this.#attempt(() => this.#saveItems())
        },
        hook: (result) => this.#hooks.push(result),
        retried: (attempt) => this.#retried(attempt),
      })
      return succeeded
    } catch (error) {
      const outcome = outcomeOf(error, this.signal)
      return outcome.state === 'failed' ? { ...outcome, error } : outcome
    }
  }

  /** Resolves to null when the job has not ended within the grace after its signal aborted. */
  async #stuck(over: AbortSignal): Promise<null> {
    await new Promise<void>((resolve) => {
      this.signal.addEventListener('abort', () => resolve(), { once: true })
      if (this.signal.aborted) resolve()
    })
    await this.#options.clock.sleep(this.#options.abortGraceMs, over)
    return null
  }

  /** Once a second: the deadline, a cancel from another process, and the progress for whoever wants to know. */
  async #watch(over: AbortSignal): Promise<void> {
    const { clock, history, job } = this.#options
    const begun = clock.monotonic()
    const timeoutMs = job.timeoutSeconds * 1000
    const isStalled = createStallWatch(begun)
    let [announced, saved, logged] = [this.#progress, this.#progress, this.#progress]
    let [savedAt, loggedAt] = [begun, begun]
    while (!over.aborted) {
      const untilTimeout = begun + timeoutMs - clock.monotonic()
      // Sleeping until the deadline at once would not do: a timer takes 24 days at most.
      const wait = untilTimeout > 0 ? Math.min(tickMs, untilTimeout) : tickMs
      await clock.sleep(wait, over).catch(() => undefined)
      if (over.aborted) return
      const now = clock.monotonic()
      if (now - begun >= timeoutMs) {
        this.abort(
          new LifeboatError('timed-out', `${job.name} took longer than ${job.timeoutSeconds} s`, {
            hint: 'Allow it more time in the configuration, or look in the log for what it waited for.',
          }),
        )
      }
      const progress = this.#progress
      this.#attempt(() => {
        if (history.isCancelRequested(this.id)) this.abort(cancelledByRequest())
        if (progress !== null && progress !== saved && now - savedAt >= saveEveryMs) {
          history.saveProgress(this.id, progress)
          ;[saved, savedAt] = [progress, now]
        }
        if (progress !== announced) this.#announce()
        announced = progress
      })
      if (isStalled(progress, now)) {
        this.#log.warn({ progress, seconds: stallMs / 1000 }, 'run stands still: see what the server and the disks do')
      }
      if (progress !== logged && now - loggedAt >= logEveryMs) {
        this.#log.info({ progress }, 'run goes on')
        ;[logged, loggedAt] = [progress, now]
      }
    }
  }

  #announce(): void {
    this.#attempt(() => {
      const run = this.#options.history.get(this.id)
      if (run !== null) this.#options.changed(this.withProgress(run))
    })
  }

  #retried(attempt: FailedAttempt): void {
    const { retries, attempts } = this.#retries
    this.#retries = { retries: retries + 1, attempts: [...attempts, attempt].slice(-mostAttempts) }
    this.#attempt(() => this.#options.history.saveRetries(this.id, this.#retries))
    this.#announce()
  }

  #saveItems(): void {
    for (let item = this.#unsavedItems[0]; item !== undefined; item = this.#unsavedItems[0]) {
      if (!this.#options.history.item(this.id, item)) {
        this.#log.warn({ item }, 'item came after the verdict and is not kept')
      }
      this.#unsavedItems.shift()
    }
  }

  /** A history that cannot be written just now must not fail the work itself. */
  #attempt(action: () => void): void {
    try {
      action()
    } catch (error) {
      this.#log.error({ err: error }, 'run history cannot be used')
    }
  }

  /** Tries until the history takes it; undefined when the runner stops before that. */
  async #persist<T>(action: () => T): Promise<T | undefined> {
    for (;;) {
      try {
        return action()
      } catch (error) {
        this.#log.error({ err: error }, 'run history cannot be written')
        if (this.#options.stopping.aborted) return undefined
        await this.#options.clock.sleep(tickMs, this.#options.stopping).catch(() => undefined)
      }
    }
  }
}

/** The reason of a cancel that somebody asked for. */
export function cancelledByRequest(): LifeboatError {
  return new LifeboatError('cancelled', 'cancelled on request')
}
