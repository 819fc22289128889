import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import { LifeboatError, toFailure } from '../domain/errors.ts'
import { abortable } from './abortable.ts'
import type { Ending, History, ListOptions } from './history.ts'
import { beatMs } from './history-owners.ts'
import type { BackupFailure, Job, JobName, JobParams, JobSummary, Run, RunTrigger } from './job.ts'
import { summarize } from './job-summary.ts'
import { KeepAlive } from './keep-alive.ts'
import { Lane } from './lane.ts'
import { cancelledByRequest, RunTask } from './run-task.ts'
import { type IsDone, Scheduler } from './scheduler.ts'
import type { Schedule } from './slots.ts'

export type { Schedule } from './slots.ts'

export interface RunRequest {
  readonly job: JobName
  readonly params: JobParams
  readonly trigger: RunTrigger
  /** Who asked; null for the schedule. */
  readonly requestedBy: string | null
}

export interface RunnerOptions {
  readonly jobs: readonly Job[]
  readonly schedules: readonly Schedule[]
  readonly history: History
  readonly clock: Clock
  readonly log: Logger
  /** How many runs may wait for a lane. Default: any number. */
  readonly queueLimit?: number
  /** Called before a run is triggered by a schedule, to find out what `refuse` will say. Never rejects. */
  readonly beforeScheduled?: () => Promise<void>
  /** Why a run is not to be, just now: the error to refuse it with. */
  readonly refuse?: (request: RunRequest) => LifeboatError | null
  /** Why a job may not be there. Default: the names of those that are. */
  readonly unknownJobHint?: string
  /** Whether scheduled runs that were missed are made up for. Default: no. */
  readonly catchUp?: boolean
  /** How long a job may take to end after its signal aborted; so also the longest that `stop` takes. Default 30,000. */
  readonly abortGraceMs?: number
}

/** `isOurs` is false for a verdict that another process has given: of all processes, one is told of each with true. */
export type RunListener = (run: Run, isOurs: boolean) => void

/** How often to look again at what another process does. */
const pollMs = 1000
/**
 * When and how many: queues runs, executes those of one lane one after another, and keeps what became of each.
 *
 * Several processes may share a history: no two runs of one lane run at once, and no two equal runs are queued or running,
 * whichever process they are in. Every run gets exactly one verdict, also when its process is killed.
 */
export class Runner {
  readonly #options: RunnerOptions
  readonly #history: History
  readonly #clock: Clock
  readonly #log: Logger
  readonly #jobs: ReadonlyMap<JobName, Job>
  readonly #scheduler: Scheduler
  readonly #tasks = new Map<string, RunTask>()
  readonly #lanes: ReadonlyMap<string, Lane>
  readonly #listeners = new Set<RunListener>()
  readonly #keepAlive = new KeepAlive()
  readonly #stopping = new AbortController()
  #background: Promise<unknown> = Promise.resolve()
  #stopped: Promise<void> | undefined

  /** @throws LifeboatError `config-invalid` for a schedule of an unknown job or with an invalid expression. */
  constructor(options: RunnerOptions) {
    this.#options = options
    this.#history = options.history
    this.#clock = options.clock
    this.#log = options.log
    this.#jobs = new Map(options.jobs.map((job) => [job.name, job]))
    for (const { job } of options.schedules) {
      if (!this.#jobs.has(job)) throw new LifeboatError('config-invalid', `there is no job ${JSON.stringify(job)}`)
    }
    const { history, clock, log } = options
    this.#scheduler = new Scheduler({
      schedules: options.schedules,
      catchUp: options.catchUp ?? false,
      history,
      clock,
      log,
      trigger: ({ job, params }, trigger) => this.trigger({ job, params, trigger, requestedBy: null }),
      wait: (id, signal) => this.wait(id, signal),
      ...(options.beforeScheduled ? { before: options.beforeScheduled } : {}),
    })
    const sweep = () => this.#sweep()
    const ended = (task: RunTask) => this.#ended(task)
    this.#lanes = new Map(options.jobs.map(({ lane }) => [lane, new Lane({ history, clock, log, sweep, ended })]))
  }

  /** Fails, as `interrupted`, the runs of processes that died, then arms the schedules. To be called once. */
  async start(): Promise<void> {
    this.#sweep()
    const { signal } = this.#stopping
    this.#background = Promise.all([this.#scheduler.run(signal), this.#patrol(signal)])
  }

  /**
   * Makes up, in the background, for what the schedules missed: while no process kept them, or another one was to. To be
   * called after `start`. `isDone` is kept: it says whether somebody else has done what a slot was for.
   */
  catchUp(isDone?: IsDone): void {
    this.#scheduler.catchUp(this.#stopping.signal, isDone)
  }

  /**
   * Disarms the schedules, takes no new runs, fails the queued ones and aborts the running ones, all as `interrupted`, and
   * resolves when each has its verdict: a job that does not end gets it after `abortGraceMs`. Safe to call again.
   */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  /**
   * Queues a run and returns it at once, in state `queued`.
   * @throws LifeboatError `usage-invalid` for an unknown job or params that are not plain JSON values; `conflict` with
   * `details.runId` when a run of the same job with equal params is queued or running; `queue-full`; `interrupted` after `stop`.
   */
  trigger(request: RunRequest): Run {
    if (this.#stopping.signal.aborted) throw shuttingDown()
    const job = this.#jobs.get(request.job)
    if (job === undefined) {
      throw new LifeboatError('usage-invalid', `there is no job ${JSON.stringify(request.job)}`, {
        hint: this.#options.unknownJobHint ?? `Jobs are: ${[...this.#jobs.keys()].join(', ')}.`,
      })
    }
    const refusal = this.#options.refuse?.(request) ?? null
    if (refusal !== null) throw refusal
    this.#sweep()
    const run = this.#history.insert({ ...request, lane: job.lane }, this.#options.queueLimit)
    const task = new RunTask({
      job,
      run,
      history: this.#history,
      clock: this.#clock,
      log: this.#log,
      abortGraceMs: this.#options.abortGraceMs ?? 30_000,
      stopping: this.#stopping.signal,
      changed: (changed, isOurs) => this.#changed(changed, isOurs),
    })
    this.#track(task)
    this.#changed(run)
    this.#lanes.get(job.lane)?.push(task)
    return run
  }

  /**
   * Cancels a run: a queued one at once, a running one by aborting its signal (returned as it is now; wait for its end). A
   * run of another process is told by way of the history, within a second or so.
   * @throws LifeboatError `not-found`; `conflict` when it has its verdict already.
   */
  cancel(id: string): Run {
    const run = this.#history.get(id)
    if (run === null) throw notFound(id)
    if (run.finishedAt !== null) {
      throw new LifeboatError('conflict', `run ${id} is over: it ${run.state}`, { details: { runId: id } })
    }
    const reason = cancelledByRequest()
    const unstarted = this.#finishQueued(id, { state: 'cancelled', failure: toFailure(reason), durationMs: null })
    if (unstarted !== null) return unstarted
    const task = this.#tasks.get(id)
    if (task === undefined) this.#history.requestCancel(id)
    else task.abort(reason)
    return this.get(id) ?? run
  }

  /**
   * The run with its verdict, as soon as it has one; runs of other processes too.
   * @throws LifeboatError `not-found`; the signal's reason when that aborts first: the run goes on.
   */
  async wait(id: string, signal?: AbortSignal): Promise<Run> {
    signal?.throwIfAborted()
    const task = this.#tasks.get(id)
    if (task !== undefined) return abortable(task.verdict, signal)
    const release = this.#keepAlive.hold()
    try {
      for (;;) {
        const run = this.#history.get(id)
        if (run === null) throw notFound(id)
        if (run.finishedAt !== null) return run
        await this.#clock.sleep(pollMs, signal)
        this.#sweep()
      }
    } finally {
      release()
    }
  }

  get(id: string): Run | null {
    const run = this.#history.get(id)
    return run === null ? null : this.#withProgress(run)
  }

  /** Runs, newest first. @throws LifeboatError `usage-invalid` when `before` is not a run id. */
  list(options: ListOptions = {}): readonly Run[] {
    return this.#history.list(options).map((run) => this.#withProgress(run))
  }

  /** What is known of each job, in the order in which the jobs were given. */
  jobs(): readonly JobSummary[] {
    return [...this.#jobs.values()].map((job) => {
      const [running] = this.list({ job: job.name, state: 'running', limit: 1 })
      return summarize(job, this.#history.totals(job.name), this.#scheduler.next(job.name), running)
    })
  }

  /** Newest failed attempt at each backup, over the whole history. */
  backupFailures(): readonly BackupFailure[] {
    return this.#history.backupFailures()
  }

  /**
   * Calls the listener with the run at each change of state, and at progress at most once a second for each run: runs of
   * this process, and those of dead ones that get their verdict here. Returns the function that ends it.
   */
  onChange(listener: RunListener): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  async #stop(): Promise<void> {
    this.#stopping.abort(shuttingDown())
    const tasks = [...this.#tasks.values()]
    for (const task of tasks) this.#interrupt(task)
    await Promise.allSettled([...tasks.map((task) => task.verdict), this.#background])
  }

  #interrupt(task: RunTask): void {
    const reason = shuttingDown()
    try {
      const ending: Ending = { state: 'failed', failure: toFailure(reason), durationMs: null }
      if (this.#finishQueued(task.id, ending) === null) task.abort(reason)
    } catch (error) {
      this.#log.error({ err: error, run: task.id }, 'run history cannot be written')
      if (task.started) task.abort(reason)
      else task.close(null)
    }
  }

  /** Gives a queued run its verdict; null when it is not queued any more. */
  #finishQueued(id: string, ending: Ending): Run | null {
    const run = this.#history.finish(id, 'queued', ending)
    if (run === null) return null
    this.#log.info({ run: id, job: run.job, state: run.state, failure: run.failure }, 'run ended in the queue')
    this.#tasks.get(id)?.close(run)
    this.#changed(run)
    return run
  }

  #track(task: RunTask): void {
    const release = this.#keepAlive.hold()
    this.#tasks.set(task.id, task)
    const forget = () => {
      this.#tasks.delete(task.id)
      release()
    }
    task.verdict.then(forget, forget)
  }

  /** Another process has ended the run while it was queued here. */
  #ended(task: RunTask): void {
    const run = this.#history.get(task.id)
    task.close(run)
    if (run !== null) this.#changed(run, false)
  }

  /** Shows that this process lives, and looks for runs whose process has died. */
  async #patrol(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#clock.sleep(beatMs, signal).catch(() => undefined)
      if (signal.aborted) return
      try {
        this.#history.heartbeat()
        this.#sweep()
      } catch (error) {
        this.#log.error({ err: error }, 'run history cannot be used')
      }
    }
  }

  #sweep(): void {
    for (const run of this.#history.sweep()) {
      this.#log.error({ run: run.id, job: run.job, failure: run.failure }, 'run was interrupted')
      this.#changed(run)
    }
  }

  #changed(run: Run, isOurs = true): void {
    for (const listener of this.#listeners) {
      try {
        listener(run, isOurs)
      } catch (error) {
        this.#log.error({ err: error, run: run.id }, 'listener of run changes failed')
      }
    }
  }

  #withProgress(run: Run): Run {
    return this.#tasks.get(run.id)?.withProgress(run) ?? run
  }
}

function notFound(id: string): LifeboatError {
  return new LifeboatError('not-found', `there is no run ${JSON.stringify(id)}`)
}

function shuttingDown(): LifeboatError {
  return new LifeboatError('interrupted', 'lifeboat is shutting down', { hint: 'Start the run again afterwards.' })
}
