import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import { LifeboatError } from '../domain/errors.ts'
import type { History } from './history.ts'
import type { JobName, Run } from './job.ts'
import { ScheduleTimer } from './schedule.ts'
import { type Schedule, SlotLedger } from './slots.ts'

export interface SchedulerOptions {
  /** In the order in which those that were missed are made up for. */
  readonly schedules: readonly Schedule[]
  /** Whether what was missed is made up for. */
  readonly catchUp: boolean
  readonly history: Pick<History, 'fact' | 'keepFact' | 'newestEqual'>
  readonly clock: Clock
  readonly log: Logger
  /** Finds out what decides whether a run is refused. Never rejects. */
  readonly before?: () => Promise<void>
  /** Queues a run; throws as `Runner.trigger` does. */
  readonly trigger: (schedule: Schedule, trigger: 'schedule' | 'catch-up') => Run
  /** Resolves when the run has its verdict; rejects when the signal aborts. */
  readonly wait: (id: string, signal: AbortSignal) => Promise<unknown>
}

/** Whether somebody else has done what this slot of the job's schedule was for. */
export type IsDone = (job: JobName, slot: Date) => boolean

/** A run that could not be queued (state file locked, queue full) is tried again, this often and this many times. */
const retryMs = 30_000
const retries = 20

/** A slot that is seen later than this was missed: the machine slept, or its clock was set forward. */
const lateMs = 5 * 60_000

/** Triggers runs when their cron expressions are due. A run that is due while its equal is not over is skipped. */
export class Scheduler {
  readonly #options: SchedulerOptions
  readonly #armed: readonly { readonly schedule: Schedule; readonly timer: ScheduleTimer }[]
  readonly #slots: SlotLedger
  readonly #working = new Set<Promise<unknown>>()
  #catchingUp: Promise<void> = Promise.resolve()
  #isDone: IsDone = () => false

  /** @throws LifeboatError `config-invalid` when an expression is not valid. */
  constructor(options: SchedulerOptions) {
    this.#options = options
    this.#slots = new SlotLedger(options.history, options.clock)
    this.#armed = options.schedules.map((schedule) => ({
      schedule,
      timer: new ScheduleTimer(schedule.cron, options.clock),
    }))
  }

  /** Works until the signal aborts, then resolves; never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    for (const { schedule, timer } of this.#armed) {
      const seen = this.#attempt(schedule, () => this.#slots.arm(schedule))
      if (seen !== undefined) timer.skip(seen)
    }
    await Promise.all(
      this.#armed.map(({ schedule, timer }) =>
        timer.run((slot) => {
          const late = this.#options.clock.now().getTime() - slot.getTime()
          if (late > lateMs) this.catchUp(signal)
          else this.#track(this.#fire(schedule, slot, 'schedule', signal))
        }, signal),
      ),
    )
    await Promise.all(this.#working)
  }

  /** Makes up, one after another, for what was missed: each schedule once, however many of its slots have passed. */
  catchUp(signal: AbortSignal, isDone: IsDone = this.#isDone): void {
    this.#isDone = isDone
    this.#catchingUp = this.#catchingUp.then(() => this.#catchUp(signal))
    this.#track(this.#catchingUp)
  }

  /** Of the schedules of a job the one that comes next, and when; `at` is null while nothing is armed. */
  next(job: JobName): { cron: string; at: Date | null } | null {
    const due = (at: Date | null) => at?.getTime() ?? Number.POSITIVE_INFINITY
    const [first] = this.#armed
      .filter(({ schedule }) => schedule.job === job)
      .map(({ schedule: { cron }, timer }) => ({ cron, at: timer.next }))
      .toSorted((a, b) => (due(a.at) < due(b.at) ? -1 : 1))
    return first ?? null
  }

  #track(work: Promise<unknown>): void {
    this.#working.add(work)
    void work.finally(() => this.#working.delete(work))
  }

  async #catchUp(signal: AbortSignal): Promise<void> {
    const { catchUp, wait, log } = this.#options
    for (const { schedule } of this.#armed) {
      if (signal.aborted) return
      const missed = this.#attempt(schedule, () => this.#slots.missed(schedule))
      if (!missed) continue
      const { slot, because } = missed
      const about = { job: schedule.job, cron: schedule.cron, slot, because }
      if (schedule.madeUpFor === false) {
        log.info(about, 'a scheduled run was missed: the next one comes by the schedule')
        this.#attempt(schedule, () => this.#slots.seenTo(schedule, slot))
        continue
      }
      if (because === 'nothing ran' && this.#isDone(schedule.job, slot)) {
        log.info(about, 'a scheduled run was made by another lifeboat')
        this.#attempt(schedule, () => this.#slots.seenTo(schedule, slot))
        continue
      }
      if (!catchUp) {
        log.warn(about, 'a scheduled run was missed, and is not made up for: schedule.catchUp is off')
        if (because === 'nothing ran') this.#attempt(schedule, () => this.#slots.seenTo(schedule, slot))
        continue
      }
      log.warn(about, 'a scheduled run was missed: it is made up for now')
      const id = await this.#fire(schedule, slot, 'catch-up', signal)
      // What comes next looks at what this one leaves. Its verdict is its own affair.
      if (id !== null) await wait(id, signal).catch(() => undefined)
    }
  }

  /** The id of the run that was queued for this slot, or of the equal one that is not over; null: neither. Never rejects. */
  async #fire(
    schedule: Schedule,
    slot: Date,
    reason: 'schedule' | 'catch-up',
    signal: AbortSignal,
  ): Promise<string | null> {
    const { clock, log, trigger, before } = this.#options
    const { job, cron } = schedule
    const seen = () => this.#attempt(schedule, () => this.#slots.seenTo(schedule, slot))
    for (let attempt = 0; attempt <= retries && !signal.aborted; attempt += 1) {
      if (before !== undefined) await before()
      if (signal.aborted) return null
      try {
        const { id } = trigger(schedule, reason)
        seen()
        return id
      } catch (error) {
        if (error instanceof LifeboatError && error.code === 'conflict') {
          const { runId } = error.details ?? {}
          if (typeof runId !== 'string') {
            // Not seen to: when this one takes over, it asks whether the other one did it.
            log.info({ job, cron, err: error }, 'scheduled run left to another lifeboat')
            return null
          }
          log.warn({ job, cron, err: error }, 'scheduled run skipped: the one before is not over')
          seen()
          return runId
        }
        log.error({ job, cron, err: error }, 'scheduled run could not be queued')
      }
      await clock.sleep(retryMs, signal).catch(() => undefined)
    }
    return null
  }

  /** What cannot be noted just now keeps no run from being queued. */
  #attempt<T>({ job, cron }: Schedule, action: () => T): T | undefined {
    try {
      return action()
    } catch (error) {
      this.#options.log.error({ job, cron, err: error }, 'the slots of a schedule cannot be kept account of')
      return undefined
    }
  }
}
