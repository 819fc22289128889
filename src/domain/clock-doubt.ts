import { clockToleranceMs } from './backup.ts'
import type { RetentionRefusal } from './retention.ts'

/**
 * So much time may pass without a sign of it, milliseconds: eight days, that is a weekly run and a day of slack. A clock that
 * jumps by less lets backups go that much early, which the other rules (a minimum count, the last proven one) bear; a
 * machine that was off for longer is rare enough to ask.
 */
export const longestSilenceMs = 8 * 86_400_000

/**
 * Whether the clock can be trusted with what is to be removed. A clock that is behind only keeps more, one that is ahead
 * makes everything look old: so each moment from the last one noted to now must be covered, without a hole of over
 * `longestSilenceMs`, by moments of which there are traces. A jump leaves a hole, also when backups go on after it.
 *
 * @param noted the latest moment that this clock had shown before; null: never looked at
 * @param traces when the backups were finished, in any order; asked for only when they matter
 */
export function clockDoubt(noted: Date | null, traces: () => readonly Date[], now: Date): RetentionRefusal | null {
  const nowMs = now.getTime()
  const hint = 'set the clock right; if it is right, say so once: lifeboat expire --confirm-clock'
  if (noted !== null && noted.getTime() - nowMs > clockToleranceMs) {
    return {
      cause: 'clock-back',
      message: `the clock went back: it is ${now.toISOString()} now, and has been ${noted.toISOString()} before`,
      hint,
    }
  }
  if (noted !== null && nowMs - noted.getTime() <= longestSilenceMs) return null
  const seen = traces()
    .map((at) => at.getTime())
    .filter((ms) => ms <= nowMs)
    .sort((a, b) => a - b)
  let last = noted?.getTime() ?? seen.at(-1) ?? nowMs
  for (const ms of [...seen.filter((one) => one > last), nowMs]) {
    if (ms - last > longestSilenceMs) {
      const days = Math.floor((ms - last) / 86_400_000)
      return {
        cause: 'clock-forward',
        message: `the clock went forward by ${days} days that nothing bears witness to, from ${new Date(last).toISOString()} to ${new Date(ms).toISOString()}`,
        hint: `if Lifeboat was off and took no backups for so long, confirm the clock: lifeboat expire --confirm-clock; else set the clock right`,
      }
    }
    last = ms
  }
  return null
}
