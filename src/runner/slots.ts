import type { Clock } from '../clock.ts'
import type { History } from './history.ts'
import type { JobName, JobParams, Run } from './job.ts'
import { canonicalParams } from './params.ts'
import { previousRun } from './schedule.ts'

export interface Schedule {
  readonly job: JobName
  readonly params: JobParams
  /** See `nextRun`; UTC. */
  readonly cron: string
  /** False: what was missed is never made up for. */
  readonly madeUpFor?: boolean
}

/** What was missed. */
export interface MissedSlot {
  /** When it was due. */
  readonly slot: Date
  readonly because: 'nothing ran' | 'it was cut off'
}

/** Up to which moment the slots of a schedule were seen to. */
interface Mark {
  /** The expression that it is about: one that was changed begins anew. */
  readonly cron: string
  readonly at: string
}

/**
 * Remembers, beyond restarts, which slots of each schedule were seen to (a run was queued, or skipped for a reason), and so
 * which were missed. The runs alone cannot tell: a schedule whose slots all pass while nothing runs never has one.
 */
export class SlotLedger {
  readonly #history: Pick<History, 'fact' | 'keepFact' | 'newestEqual'>
  readonly #clock: Clock

  constructor(history: Pick<History, 'fact' | 'keepFact' | 'newestEqual'>, clock: Clock) {
    this.#history = history
    this.#clock = clock
  }

  /**
   * Begins the account of a schedule that is new, or was changed: what lies before now is none of its business. Gives the
   * moment up to which its slots were seen to, as it was noted; that may lie in the future, since the clock was set back.
   */
  arm(schedule: Schedule): Date {
    const mark = this.#mark(schedule)
    const now = this.#clock.now()
    if (mark === null || mark > now) this.seenTo(schedule, now)
    return mark ?? now
  }

  /** No slot up to this moment needs anything more. */
  seenTo(schedule: Schedule, at: Date): void {
    const mark: Mark = { cron: schedule.cron, at: at.toISOString() }
    this.#history.keepFact(factOf(schedule), JSON.stringify(mark))
  }

  /**
   * What is to be made up for: the newest slot that passed without being seen to, unless an equal run has begun since, by
   * whatever trigger; or an equal run that was queued or begun by the schedule and cut off by the end of its process. One
   * that was made up for, had begun and was cut off again is left to the schedule: it may be what ends the process.
   * Moments that lie in the future, since the clock was ahead once, are not believed.
   */
  missed(schedule: Schedule): MissedSlot | null {
    const newest = this.#history.newestEqual(schedule.job, schedule.params)
    const mark = this.#mark(schedule)
    const now = this.#clock.now()
    const slot = previousRun(schedule.cron, now)
    if (newest !== null && isCutOff(newest)) return { slot: slot ?? now, because: 'it was cut off' }
    if (mark === null || slot === null || slot <= mark) return null
    const begun = newest?.startedAt == null ? null : new Date(newest.startedAt)
    return begun !== null && begun >= slot && begun <= now ? null : { slot, because: 'nothing ran' }
  }

  /** Null for a schedule that was not known, or was another one, and for a note that cannot be read. */
  #mark(schedule: Schedule): Date | null {
    const text = this.#history.fact(factOf(schedule))
    if (text === null) return null
    try {
      const { cron, at } = JSON.parse(text) as Partial<Mark>
      const moment = new Date(at ?? Number.NaN)
      return cron === schedule.cron && !Number.isNaN(moment.getTime()) ? moment : null
    } catch {
      return null
    }
  }
}

function isCutOff({ state, failure, startedAt, trigger }: Run): boolean {
  if (state !== 'failed' || failure?.code !== 'interrupted') return false
  return trigger === 'schedule' || (trigger === 'catch-up' && startedAt === null)
}

function factOf({ job, params }: Schedule): string {
  return `schedule ${job} ${canonicalParams(params)}`
}
