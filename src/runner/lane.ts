import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import type { History } from './history.ts'
import type { RunTask } from './run-task.ts'

export interface LaneOptions {
  readonly history: History
  readonly clock: Clock
  readonly log: Logger
  /** Gives the runs of dead processes their verdict, which frees their lanes. */
  readonly sweep: () => void
  /** Called when a task turns out to have been ended by another process. */
  readonly ended: (task: RunTask) => void
}

/** How often to ask for the lane while another process holds it. */
const pollMs = 1000

/** The queue of this process for one lane: first in, first out, one at a time. The history keeps other processes out. */
export class Lane {
  readonly #options: LaneOptions
  readonly #queue: RunTask[] = []
  #isDraining = false

  constructor(options: LaneOptions) {
    this.#options = options
  }

  /** Executes the task when those before it have left the lane. */
  push(task: RunTask): void {
    this.#queue.push(task)
    // Nothing to catch: it never rejects. Nothing to wait for: each task has its own promise.
    if (!this.#isDraining) void this.#drain()
  }

  async #drain(): Promise<void> {
    this.#isDraining = true
    // Whoever triggered the run has it in hand, still queued, before anything happens to it.
    await Promise.resolve()
    for (let task = this.#queue.shift(); task !== undefined; task = this.#queue.shift()) {
      if (await this.#claim(task)) await task.execute()
    }
    this.#isDraining = false
  }

  /** Waits for the lane; false when the task ended meanwhile. */
  async #claim(task: RunTask): Promise<boolean> {
    const { history, clock, log, sweep, ended } = this.#options
    let isWaiting = false
    while (!task.ended) {
      try {
        sweep()
        const answer = history.claim(task.id)
        if (answer === 'claimed') return true
        if (answer === 'gone') {
          ended(task)
          return false
        }
        if (!isWaiting) log.info({ run: task.id, lane: task.lane }, 'another process works in the lane: waiting')
        isWaiting = true
      } catch (error) {
        log.error({ err: error, run: task.id }, 'run history cannot be used')
      }
      await clock.sleep(pollMs, task.signal).catch(() => undefined)
    }
    return false
  }
}
