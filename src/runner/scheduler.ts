import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import { LifeboatError } from '../domain/errors.ts'
import type { JobName, JobParams } from './job.ts'
import { ScheduleTimer } from './schedule.ts'

export interface Schedule {
  readonly job: JobName
  readonly params: JobParams
  /** See `nextRun`; UTC. */
  readonly cron: string
}

export interface SchedulerOptions {
  readonly schedules: readonly Schedule[]
  readonly clock: Clock
  readonly log: Logger
  /** Queues a run; throws as `Runner.trigger` does. */
  readonly trigger: (schedule: Schedule) => void
}

/** A run that could not be queued (the state file was locked) is tried again, this often and this many times. */
const retryMs = 30_000
const retries = 20

/** Triggers runs when their cron expressions are due. A run that is due while its equal is not over is skipped. */
export class Scheduler {
  readonly #options: SchedulerOptions
  readonly #armed: readonly (Schedule & { readonly timer: ScheduleTimer })[]

  /** @throws LifeboatError `config-invalid` when an expression is not valid. */
  constructor(options: SchedulerOptions) {
    this.#options = options
    this.#armed = options.schedules.map((schedule) => ({
      ...schedule,
      timer: new ScheduleTimer(schedule.cron, options.clock),
    }))
  }

  /** Works until the signal aborts, then resolves; never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const firing = new Set<Promise<void>>()
    await Promise.all(
      this.#armed.map(({ timer, ...schedule }) =>
        timer.run(() => {
          const fired = this.#fire(schedule, signal).finally(() => firing.delete(fired))
          firing.add(fired)
        }, signal),
      ),
    )
    await Promise.all(firing)
  }

  /** Of the schedules of a job the one that comes next, and when; `at` is null while nothing is armed. */
  next(job: JobName): { cron: string; at: Date | null } | null {
    const due = (at: Date | null) => at?.getTime() ?? Number.POSITIVE_INFINITY
    const [first] = this.#armed
      .filter((schedule) => schedule.job === job)
      .map(({ cron, timer }) => ({ cron, at: timer.next }))
      .toSorted((a, b) => (due(a.at) < due(b.at) ? -1 : 1))
    return first ?? null
  }

  async #fire(schedule: Schedule, signal: AbortSignal): Promise<void> {
    const { clock, log, trigger } = this.#options
    const { job, cron } = schedule
    for (let attempt = 0; attempt <= retries && !signal.aborted; attempt += 1) {
      try {
        trigger(schedule)
        return
      } catch (error) {
        if (error instanceof LifeboatError && error.code === 'conflict') {
          log.warn({ job, cron, err: error }, 'scheduled run skipped: the one before is not over')
          return
        }
        log.error({ job, cron, err: error }, 'scheduled run could not be queued')
      }
      await clock.sleep(retryMs, signal).catch(() => undefined)
    }
  }
}
