import { LifeboatError } from '../domain/errors.ts'

const milliseconds = { w: 604_800_000, d: 86_400_000, h: 3_600_000, m: 60_000, s: 1000, ms: 1 } as const
type DurationUnit = keyof typeof milliseconds
const durationUnits = Object.keys(milliseconds) as DurationUnit[]

const bytes = {
  PiB: 2 ** 50,
  TiB: 2 ** 40,
  GiB: 2 ** 30,
  MiB: 2 ** 20,
  KiB: 2 ** 10,
  PB: 1e15,
  TB: 1e12,
  GB: 1e9,
  MB: 1e6,
  kB: 1e3,
  KB: 1e3,
  B: 1,
} as const
type SizeUnit = keyof typeof bytes
const sizeUnits = Object.keys(bytes) as SizeUnit[]

/**
 * A duration such as `30d`, `4h`, `1h30m`, `90s` or `500ms`, in milliseconds. Units are `w`, `d`, `h`, `m` (minutes), `s`
 * and `ms`, each a fixed number of seconds, largest first, each at most once. There is no number without a unit: `30` has
 * been read as seconds, minutes and days by different tools.
 *
 * Throws `usage-invalid`.
 */
export function parseDuration(text: string): number {
  const fail = (message: string, hint: string) =>
    new LifeboatError('usage-invalid', `${quote(text)} is not a duration: ${message}`, { hint })
  const form = 'Write a whole number with a unit (w, d, h, m, s or ms), or several, e.g. 30d, 4h, 1h30m or 90s.'
  if (/^\d+$/.test(text)) throw fail('it has no unit', `Add one, e.g. ${text.slice(0, 9)}s or ${text.slice(0, 9)}m.`)
  // A length limit before the pattern: what follows is then bounded, whatever comes in.
  if (text.length > 60 || !/^(?:\d+[a-z]+)+$/.test(text)) throw fail('it is not made of numbers and units', form)
  let total = 0
  let previous = -1
  for (const [, digits, unit] of text.matchAll(/(\d+)([a-z]+)/g)) {
    const index = durationUnits.indexOf(unit as DurationUnit)
    const factor = index === -1 ? undefined : milliseconds[durationUnits[index] as DurationUnit]
    if (factor === undefined) throw fail(`${unit} is not a unit of time`, form)
    if (index <= previous) throw fail('units go from the largest to the smallest, each once', form)
    previous = index
    total += Number(digits) * factor
  }
  if (!Number.isSafeInteger(total)) throw fail('it is too long', form)
  return total
}

/** Milliseconds as a duration that `parseDuration` reads back to the same number, e.g. `1d12h`. Takes whole numbers from 0. */
export function formatDuration(total: number): string {
  let rest = total
  let text = ''
  for (const unit of durationUnits) {
    // Weeks are read, but `30d` is what people write and expect to see again.
    if (unit === 'w') continue
    const count = Math.floor(rest / milliseconds[unit])
    rest -= count * milliseconds[unit]
    if (count > 0) text += `${count}${unit}`
  }
  return text === '' ? '0s' : text
}

/**
 * A size such as `64MiB`, `10GB` or `512` (bytes), in bytes. `KiB`, `MiB`, … are powers of 1024, `kB`, `MB`, … powers of
 * 1000 (IEC 80000-13). Note that PostgreSQL's own settings mean 1024 by `kB`.
 *
 * Throws `usage-invalid`.
 */
export function parseSize(text: string): number {
  const fail = (message: string, hint: string) =>
    new LifeboatError('usage-invalid', `${quote(text)} is not a size: ${message}`, { hint })
  const form = 'Write a whole number of bytes, or one with a unit, e.g. 512, 64MiB, 16GiB or 10GB.'
  const match = text.length > 60 ? null : /^(\d+) ?([A-Za-z]*)$/.exec(text)
  if (match === null) throw fail('it is not a whole number with a unit', form)
  const [, digits, unit = ''] = match
  const factor = unit === '' ? 1 : sizeUnits.includes(unit as SizeUnit) ? bytes[unit as SizeUnit] : undefined
  if (factor === undefined) {
    const meant = sizeUnits.filter((known) => known.toLowerCase().replace('i', '')[0] === unit[0]?.toLowerCase())
    const hint = meant.length > 0 ? `Write ${meant.join(' or ')}.` : form
    throw fail(`${unit} is not a unit of size`, hint)
  }
  const total = Number(digits) * factor
  if (!Number.isSafeInteger(total)) throw fail('it is too large', form)
  return total
}

/** Bytes as a size that `parseSize` reads back to the same number: in the largest unit that divides it, e.g. `64MiB`. */
export function formatSize(total: number): string {
  const unit = sizeUnits.find((candidate) => total >= bytes[candidate] && total % bytes[candidate] === 0)
  return unit === undefined || unit === 'B' ? String(total) : `${total / bytes[unit]}${unit}`
}

/** A value for a message: quoted, control characters escaped, cut where it gets long. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text)
}

/** `50%` as 0.5. @throws LifeboatError `usage-invalid` */
export function parsePercent(text: string): number {
  const match = /^(\d{1,5}(?:\.\d{1,3})?)%$/.exec(text)
  if (match === null) throw new LifeboatError('usage-invalid', 'must be a number with a percent sign, e.g. 50%')
  return Number(match[1]) / 100
}

export function formatPercent(share: number): string {
  return `${Math.round(share * 100_000) / 1000}%`
}
