import type { RetentionPolicy } from './retention.ts'
import type { Member } from './retention-plan.ts'

const dayMs = 86_400_000

/** A number for the period that a moment lies in; a later one has a larger number. UTC, weeks begin on Monday. */
const periodOf = {
  daily: (ms: number) => Math.floor(ms / dayMs),
  weekly: (ms: number) => Math.floor((Math.floor(ms / dayMs) + 3) / 7), // the first day of 1970 was a Thursday
  monthly: (ms: number) => {
    const at = new Date(ms)
    return at.getUTCFullYear() * 12 + at.getUTCMonth()
  },
  yearly: (ms: number) => new Date(ms).getUTCFullYear(),
} as const

export const periods = ['daily', 'weekly', 'monthly', 'yearly'] as const
export type Period = (typeof periods)[number]

/**
 * Grandfather, father, son: of each of the last periods that have backups the newest one. A period without a backup does
 * not count, so that a pause in the backups lets nothing go. The newest of a period only gives way to a newer one of the
 * same period, so what a rule will want in a year is never gone by then.
 */
export function newestOfPeriods(
  newestFirst: readonly Member[],
  policy: Pick<RetentionPolicy, Period>,
): (readonly [Period, Member])[] {
  // Of one day only the newest can be the newest of anything; those that follow it mostly are of the same day.
  const days = newestFirst.filter(
    ({ consistentMs }, index) =>
      periodOf.daily(consistentMs) !== periodOf.daily(newestFirst[index - 1]?.consistentMs ?? Number.NaN),
  )
  return periods.flatMap((period) => {
    const count = policy[period]
    if (count === 0) return []
    const newest = new Map<number, Member>()
    for (const member of days) {
      const number = periodOf[period](member.consistentMs)
      if (!newest.has(number)) newest.set(number, member)
    }
    return [...newest]
      .sort(([a], [b]) => b - a)
      .slice(0, count)
      .map(([, member]) => [period, member] as const)
  })
}
