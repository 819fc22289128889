import { html, type Markup } from './html.ts'

const spans: readonly (readonly [seconds: number, unit: string])[] = [
  [86_400, 'd'],
  [3_600, 'h'],
  [60, 'min'],
  [1, 's'],
]

/** A duration in its two largest units: `3 d 4 h`, `12 min`, `4.2 s`. */
export function duration(seconds: number): string {
  if (seconds < 10) return `${Math.round(seconds * 10) / 10} s`
  let rest = Math.round(seconds)
  if (rest < 60) return `${rest} s`
  const parts: string[] = []
  for (const [size, unit] of spans) {
    const count = Math.floor(rest / size)
    rest -= count * size
    if (count > 0) parts.push(`${count} ${unit}`)
    else if (parts.length > 0) break
    if (parts.length === 2) break
  }
  return parts.join(' ')
}

const sizes = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const

/** A size with three digits at most: `1.4 GiB`. */
export function size(bytes: number): string {
  let value = bytes
  let unit = 0
  while (value >= 999.5 && unit < sizes.length - 1) {
    value /= 1024
    unit++
  }
  return `${value < 9.95 && unit > 0 ? value.toFixed(1) : Math.round(value)} ${sizes[unit]}`
}

/** A moment as a person reads it, `2026-03-01 02:00:14 UTC`, and how long ago it was or will be. */
export function moment(at: Date, now: Date): Markup {
  const iso = at.toISOString()
  const away = (now.getTime() - at.getTime()) / 1000
  const relative = Math.abs(away) < 1 ? 'just now' : away >= 0 ? `${duration(away)} ago` : `in ${duration(-away)}`
  return html`<time datetime="${iso}">${utc(at)}</time> <span class="ago">${relative}</span>`
}

/** `2026-03-01 02:00:14 UTC`. */
export function utc(at: Date): string {
  return `${at.toISOString().slice(0, 19).replace('T', ' ')} UTC`
}

/** `1 backup`, `2 backups`. */
export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`
}
