import { longestGapSeconds } from './schedule.ts'
import { formatDuration } from './units.ts'
import type { ValidatedConfig } from './validated.ts'

/**
 * Says so when the schedule of dumps cannot hold the RPO even while all is well: the alert on it would fire between any
 * two dumps, and be switched off. With physical backups it is the WAL that holds it. A warning and no problem: dumps may also be started by hand or over HTTP. Null when
 * there is nothing to say.
 */
export function rpoWarning({ schedule, objectives }: Pick<ValidatedConfig, 'schedule' | 'objectives'>): string | null {
  if (schedule.dump === null || schedule.full !== null || schedule.incremental !== null) return null
  const gapSeconds = longestGapSeconds(schedule.dump)
  if (gapSeconds <= objectives.rpoSeconds) return null
  const [rpo, gap] = [objectives.rpoSeconds, gapSeconds].map((seconds) => formatDuration(seconds * 1000))
  return `dumps alone cannot hold an RPO of ${rpo}: the longest gap between dumps is ${gap}`
}

export const rpoHint =
  'set objectives.rpo, or dump more often; or archive the WAL, and schedule physical backups: schedule.full'
