/* Time zones by their IANA names, as the runtime knows them. */

/** A moment, and the offset of the zone then, e.g. `+02:00`. */
export interface Instant {
  /** Milliseconds since 1970. */
  readonly at: number
  readonly offset: string
}

const dayMs = 86_400_000

export function isZone(name: string): boolean {
  try {
    clockOf(name)
    return true
  } catch {
    return false
  }
}

/**
 * The moments at which clocks of a zone show a time, the earliest first: one; two where clocks were set back. Where they were
 * set forward and never showed it (`isGap`) it is the moments that are meant by the offsets before and after.
 *
 * @param wall the time, in milliseconds as if it were UTC
 */
export function instantsOf(
  wall: number,
  zone: string,
): { readonly instants: readonly Instant[]; readonly isGap: boolean } {
  const clock = clockOf(zone)
  const offsets = new Set([wall - dayMs, wall, wall + dayMs].map((at) => offsetAt(clock, at)))
  const all = [...offsets].map((offset) => ({ at: wall - offset, offset })).sort((a, b) => a.at - b.at)
  const real = all.filter(({ at, offset }) => offsetAt(clock, at) === offset)
  const instants = (real.length > 0 ? real : all).map(({ at, offset }) => ({ at, offset: formatOffset(offset) }))
  return { instants, isGap: real.length === 0 }
}

function clockOf(timeZone: string): Intl.DateTimeFormat {
  const two = '2-digit'
  return new Intl.DateTimeFormat('en-US', {
    ...{ timeZone, calendar: 'iso8601', hourCycle: 'h23', era: 'short' },
    ...{ year: 'numeric', month: two, day: two, hour: two, minute: two, second: two },
  })
}

/** Milliseconds that clocks of the zone are ahead of UTC. */
function offsetAt(clock: Intl.DateTimeFormat, at: number): number {
  const whole = Math.floor(at / 1000) * 1000
  const part = new Map(clock.formatToParts(whole).map(({ type, value }) => [type, Number(value)]))
  const shown = new Date(0)
  shown.setUTCFullYear(part.get('year') ?? 0, (part.get('month') ?? 1) - 1, part.get('day') ?? 1)
  return shown.setUTCHours(part.get('hour') ?? 0, part.get('minute') ?? 0, part.get('second') ?? 0) - whole
}

function formatOffset(ms: number): string {
  const seconds = Math.abs(ms) / 1000
  const parts = [seconds / 3600, (seconds / 60) % 60, ...(seconds % 60 === 0 ? [] : [seconds % 60])]
  return `${ms < 0 ? '-' : '+'}${parts.map((part) => String(Math.floor(part)).padStart(2, '0')).join(':')}`
}
