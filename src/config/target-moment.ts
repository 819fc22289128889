import { LifeboatError } from '../domain/errors.ts'
import { parseDuration } from './units.ts'
import { instantsOf, isZone } from './zones.ts'

/** A moment that somebody wants to have back. */
export interface TargetMoment {
  /** To the millisecond, rounded down. */
  readonly at: Date
  /** Microseconds after `at`, 0 to 999: PostgreSQL counts in them, and a Date does not. */
  readonly micros: number
  /** How it was taken, where it says less than it must; null: it said all. */
  readonly note: string | null
}

const form = 'e.g. 2026-11-26T03:10:00Z, "2026-11-26 03:10:00+01", "2026-11-26 03:10 Europe/Berlin" or "2h ago"'
const datePattern = /^(\d{4})-(\d{2})-(\d{2})/
const clockPattern = /^(\d{2}):(\d{2})(?::(\d{2})(?:\.(\d+))?)?/
const offsetPattern = /^([+-])(\d{2})(?::?(\d{2}))?$/
/** PostgreSQL takes these for moments. */
const words = /^(?:now|today|tomorrow|yesterday|epoch|[+-]?infinity|allballs)$/i

/**
 * A moment as people, logs and PostgreSQL write it: date and time of day, then an offset, `Z`, or the name of a time zone;
 * without any it is UTC, and said so. Or how long ago: `2h ago`, `-2h`. Up to a microsecond, which is kept.
 *
 * @throws LifeboatError `usage-invalid` for what is no moment, or may be more than one: the message names the readings
 */
export function parseTargetMoment(text: string, now: Date): TargetMoment {
  const wanted = text.trim()
  // A length limit before the patterns: what follows is then bounded, whatever comes in.
  if (wanted.length > 100) throw invalid(text.slice(0, 40), 'it is too long for a moment', form)
  if (words.test(wanted))
    throw invalid(text, 'a word is no moment', `for all that there is leave it out; or name one: ${form}`)
  const ago = /^-(\S+)$|^(\S+) ago$/i.exec(wanted)
  if (ago !== null) return before(now, (ago[1] ?? ago[2]) as string)
  const [date, year, month, day] = datePattern.exec(wanted) ?? []
  if (date === undefined) throw invalid(text, 'it is not a date with a year of four digits and a time of day', form)
  const rest = wanted.slice(date.length)
  const [clock, hour, minute, second = '00', fraction = ''] = clockPattern.exec(rest.replace(/^(?:[Tt]| +)/, '')) ?? []
  if (clock === undefined || !/^[Tt ]/.test(rest))
    throw invalid(text, 'the time of day is missing', `a day is many moments: ${form}`)
  const zone = rest.slice(rest.indexOf(clock) + clock.length).trim()
  const micros = microseconds(text, fraction)
  const wall = wallClock(text, [year, month, day, hour, minute, second].map(Number))
  const ms = Math.floor(micros / 1000)
  const found = inZone(text, { wall, zone, written: `${date} ${clock}` })
  return { at: new Date(found.at + ms), micros: micros % 1000, note: found.note }
}

/** Digits after the sixth would be lost. */
function microseconds(text: string, fraction: string): number {
  if (/[1-9]/.test(fraction.slice(6)))
    throw invalid(text, 'PostgreSQL counts no more than microseconds', 'give at most six digits after the point')
  return Number(fraction.slice(0, 6).padEnd(6, '0'))
}

/** The fields as milliseconds, as if they were UTC. */
function wallClock(text: string, fields: readonly number[]): number {
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = fields
  if (second === 60)
    throw invalid(text, 'the clocks of PostgreSQL have no leap seconds', 'name the second before it or after it')
  if (hour > 23 || minute > 59 || second > 59)
    throw invalid(text, 'there is no such time of day', 'from 00:00:00 to 23:59:59.999999')
  const date = new Date(0)
  date.setUTCFullYear(year, month - 1, day)
  // The 31st of February is taken for a day in March.
  if (date.getUTCMonth() !== month - 1 || date.getUTCDate() !== day || day === 0)
    throw invalid(text, 'there is no such day', form)
  return date.setUTCHours(hour, minute, second)
}

function inZone(
  text: string,
  { wall, zone, written }: { readonly wall: number; readonly zone: string; readonly written: string },
): { readonly at: number; readonly note: string | null } {
  if (zone === '') return { at: wall, note: 'it names no time zone, and was taken for UTC' }
  if (/^(?:z|utc|gmt)$/i.test(zone)) return { at: wall, note: null }
  const [, sign, hours, minutes = '00'] = offsetPattern.exec(zone) ?? []
  if (sign !== undefined) {
    // As far as PostgreSQL goes.
    if (Number(hours) > 15 || Number(minutes) > 59) throw invalid(text, 'no place is so far from UTC', form)
    const offset = (Number(hours) * 60 + Number(minutes)) * 60_000
    return { at: sign === '-' ? wall + offset : wall - offset, note: null }
  }
  if (/^\d/.test(zone))
    throw invalid(text, 'the sign of the offset is missing', 'in a URL the plus sign is written %2B')
  const name = zone.replace(/^\[(.*)\]$/, '$1')
  if (!/^[A-Za-z][\w+/-]*$/.test(name)) throw invalid(text, 'what follows the time of day is no time zone', form)
  // CET is a zone with summer time for some, and an offset for others.
  if (!name.includes('/'))
    throw invalid(
      text,
      `${JSON.stringify(name)} may mean more than one time zone`,
      `name an offset, or a zone by its place: ${form}`,
    )
  if (!isZone(name)) throw invalid(text, `there is no time zone ${JSON.stringify(name)}`, form)
  const { instants, isGap } = instantsOf(wall, name)
  const [only, other] = instants
  const readings = instants.map(({ at, offset }) => `${isGap ? utc(at) : `${written}${offset}`}`)
  if (isGap)
    throw invalid(
      text,
      `it does not exist in ${name}, where the clocks were set forward then`,
      `is ${readings.join(' or ')} meant?`,
    )
  if (only === undefined || other !== undefined)
    throw invalid(
      text,
      `it comes twice in ${name}, where the clocks were set back then`,
      `say which one: ${readings.join(' or ')}`,
    )
  return { at: only.at, note: null }
}

function before(now: Date, duration: string): TargetMoment {
  const at = new Date(now.getTime() - parseDuration(duration))
  if (Number.isNaN(at.getTime())) throw invalid(duration, 'it is too long ago', form)
  return { at, micros: 0, note: `it was taken for ${duration} before ${now.toISOString()}` }
}

function utc(at: number): string {
  return new Date(at).toISOString().replace('.000', '')
}

function invalid(text: string, why: string, hint: string): LifeboatError {
  return new LifeboatError('usage-invalid', `${JSON.stringify(text)} is not a moment that can be used: ${why}`, {
    hint,
  })
}
