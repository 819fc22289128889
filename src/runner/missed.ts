import type { Run } from './job.ts'
import { nextRun } from './schedule.ts'
import type { Schedule } from './scheduler.ts'

/** What was missed. */
export interface MissedSlot {
  /** When it was due. */
  readonly slot: Date
  readonly because: 'nothing ran' | 'it was cut off'
}

/**
 * Whether a scheduled run is to be made up for: a slot has passed since this very run last began, by whatever trigger; or
 * that one was cut off by the end of its process. One that was made up for and was cut off again is left to the
 * schedule: it may be what ends the process. Before the first run of a schedule nothing was missed.
 */
export function missedSlot({ cron }: Pick<Schedule, 'cron'>, last: Run | null, now: Date): MissedSlot | null {
  if (last?.startedAt == null) return null
  const begun = new Date(last.startedAt)
  const slot = nextRun(cron, begun)
  if (slot !== null && slot <= now) return { slot, because: 'nothing ran' }
  const wasCutOff = last.state === 'failed' && last.failure?.code === 'interrupted' && last.trigger === 'schedule'
  return wasCutOff ? { slot: begun, because: 'it was cut off' } : null
}
