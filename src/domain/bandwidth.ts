/** So many bytes a second, always or at some time of each day. */
export interface BandwidthRule {
  readonly direction: 'upload' | 'download'
  readonly bytesPerSecond: number
  /** Minutes after midnight in the time zone; `to` itself is not in it, and one before `from` is on the next day. Null: always. */
  readonly hours: { readonly from: number; readonly to: number; readonly timezone: string } | null
}

/** What is allowed at a moment, bytes a second: the least of what the rules say; null where none is in force. */
export function limitAt(rules: readonly BandwidthRule[], now: Date): number | null {
  const inForce = rules.filter(({ hours }) => hours === null || isWithin(hours, now))
  return inForce.length === 0 ? null : Math.min(...inForce.map(({ bytesPerSecond }) => bytesPerSecond))
}

function isWithin({ from, to, timezone }: NonNullable<BandwidthRule['hours']>, now: Date): boolean {
  const parts = timeIn(timezone).formatToParts(now)
  const [hour = 0, minute = 0] = ['hour', 'minute'].map((type) =>
    Number(parts.find((part) => part.type === type)?.value),
  )
  const at = hour * 60 + minute
  return from < to ? at >= from && at < to : at >= from || at < to
}

const formats = new Map<string, Intl.DateTimeFormat>()

function timeIn(timeZone: string): Intl.DateTimeFormat {
  const known = formats.get(timeZone)
  if (known !== undefined) return known
  const made = new Intl.DateTimeFormat('en-GB', { timeZone, hourCycle: 'h23', hour: '2-digit', minute: '2-digit' })
  formats.set(timeZone, made)
  return made
}
