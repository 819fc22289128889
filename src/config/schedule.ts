import { Cron } from 'croner'
import { LifeboatError } from '../domain/errors.ts'
import { quote } from './units.ts'

const dayMs = 86_400_000
const hourSeconds = 3600
// The last second before a year that is not a leap year: the gaps of a schedule are looked for from a fixed moment on, so that the limit
// that follows from a schedule does not depend on the day on which the process was started.
const anchor = Date.UTC(2001, 0, 1) - 1000
const horizon = Date.UTC(2061, 0, 1)

/**
 * Checks a cron expression: five fields (minute, hour, day of month, month, day of week), UTC. Besides numbers, lists,
 * ranges and steps it may hold names (`mon`, `jan`), `L` and `#`.
 *
 * Throws `usage-invalid`, also for one that never fires, such as 30 February.
 */
export function parseCron(expression: string): Cron {
  const fail = (message: string, hint: string, cause?: unknown) =>
    new LifeboatError('usage-invalid', `${quote(expression)} is not a schedule: ${message}`, { hint, cause })
  const form = 'Write minute, hour, day of month, month and day of week, in UTC, e.g. "0 2 * * *".'
  const fields = expression.trim().split(/\s+/)
  if (fields.length !== 5) throw fail(`it has ${fields.length} of the five fields of a cron expression`, form)
  // croner replaces `?` by the moment of the start: every restart would change the schedule.
  if (expression.includes('?') || expression.length > 200) throw fail('it is not a plain cron expression', form)
  let cron: Cron
  try {
    // Not `timezone`, which asks the tables of all zones: that takes longer than to read the whole configuration.
    cron = new Cron(expression, { utcOffset: 0, mode: '5-part', paused: true })
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.replace(/^CronPattern: /, '') : 'it cannot be read'
    throw fail(reason.charAt(0).toLowerCase() + reason.slice(1, 120), form, cause)
  }
  if (cron.nextRun(new Date(anchor)) === null) {
    throw fail('it never fires', 'Choose a day that exists in the months given.')
  }
  return cron
}

/**
 * The longest time between two runs of a schedule, seconds. In UTC every firing day fires at the same times, so that it is
 * enough to look at the times of one day and at the first run of each firing day.
 */
export function longestGapSeconds(expression: string): number {
  const cron = parseCron(expression)
  // With nothing but days of the week given, every week is like the first. Else: more than a year of daily runs, and
  // schedules that fire less often reach further.
  const firingDays = /^\S+\s+\S+\s+\*\s+\*\s+[\w,*-]+$/.test(expression.trim()) && !/l/i.test(expression) ? 8 : 400
  let run = cron.nextRun(new Date(anchor))
  let longest = 0
  let previousLast: number | null = null
  let span: number | null = null
  for (let day = 0; run !== null && day < firingDays; day += 1) {
    const first = run.getTime()
    // Beyond the horizon only a schedule that has shown no gap yet is followed.
    if (first > horizon && longest > 0) break
    const midnight = Math.floor(first / dayMs) * dayMs + dayMs
    if (span === null) {
      const times = runsBefore(cron, first, midnight)
      span = (times.at(-1) ?? first) - first
      for (const [index, time] of times.entries()) longest = Math.max(longest, time - (times[index - 1] ?? time))
    }
    if (previousLast !== null) longest = Math.max(longest, first - previousLast)
    previousLast = first + span
    run = cron.nextRun(new Date(midnight - 1000))
  }
  return longest / 1000
}

/** All runs from the first one given until the end of its day, milliseconds since the epoch; at most 1,440. */
function runsBefore(cron: Cron, first: number, end: number): number[] {
  const times: number[] = []
  for (let at: number | undefined = first; at !== undefined && at < end; at = cron.nextRun(new Date(at))?.getTime()) {
    times.push(at)
  }
  return times
}

/** How often a schedule fires in the mean: over its next thousand runs, or sixty years. */
export function runsPerSecond(expression: string): number {
  const cron = parseCron(expression)
  const first = cron.nextRun(new Date(anchor))?.getTime() ?? horizon
  let [last, runs]: [number, number] = [first, 0]
  for (let run = cron.nextRun(new Date(first)); run !== null && runs < 1000; run = cron.nextRun(run)) {
    if (run.getTime() > horizon) break
    last = run.getTime()
    runs += 1
  }
  return runs === 0 ? 1000 / (horizon - anchor) : (1000 * runs) / (last - first)
}

/** The age at which the newest result of a schedule is too old, seconds: its longest gap, and slack. */
export function maxAgeSeconds(expression: string): number {
  return withSlack(longestGapSeconds(expression))
}

/**
 * The age at which the newest of what comes at most so many seconds apart is too old: a quarter more, at least one hour and
 * at most twelve. Without slack the limit of a daily job would be about to be passed every day.
 */
export function withSlack(gapSeconds: number): number {
  return Math.round(gapSeconds + Math.min(Math.max(gapSeconds / 4, hourSeconds), 12 * hourSeconds))
}
