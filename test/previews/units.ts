/** Values as Grafana writes them, for the units that the dashboards have. Another unit throws. */
export function written(value: number, unit: string, now: number, decimals?: number): string {
  const scale = scales[unit]
  if (unit === 'dateTimeFromNow') return fromNow(value / 1_000 - now)
  if (unit === 'none') return fixed(value, decimals)
  if (unit === 'percentunit') return `${fixed(value * 100, decimals)}%`
  if (scale === undefined) throw new Error(`the previews do not know the unit ${unit}`)
  const size = Math.abs(value)
  const step = scale.steps.findLast(([from]) => size >= from) ?? scale.steps[0]
  const [from, name] = step ?? [1, '']
  const text = `${scale.before ?? ''}${fixed(value / (from === 0 ? 1 : from), decimals)}`
  return name === '' ? text : `${text} ${name}`
}

interface Scale {
  readonly before?: string
  /** From which value on, and what it is counted in then. 0 counts in ones. */
  readonly steps: readonly (readonly [from: number, name: string])[]
}

const counted = (name: string): Scale['steps'] => [
  [0, name],
  [1e3, `K${name === '' ? '' : ` ${name}`}`],
  [1e6, `Mil${name === '' ? '' : ` ${name}`}`],
]

const scales: Readonly<Record<string, Scale>> = {
  short: { steps: counted('') },
  cps: { steps: counted('c/s') },
  reqps: { steps: counted('req/s') },
  currencyUSD: { before: '$', steps: counted('') },
  bytes: {
    steps: [
      [0, 'B'],
      [1_024, 'KiB'],
      [1_024 ** 2, 'MiB'],
      [1_024 ** 3, 'GiB'],
      [1_024 ** 4, 'TiB'],
    ],
  },
  s: {
    steps: [
      [1e-3, 'ms'],
      [1, 's'],
      [60, 'mins'],
      [3_600, 'hours'],
      [86_400, 'days'],
      [604_800, 'weeks'],
    ],
  },
}

/** About three digits, and none behind the point of a whole number. */
function fixed(value: number, decimals?: number): string {
  if (decimals !== undefined) return value.toFixed(decimals)
  if (value === 0 || Number.isInteger(value)) return String(value)
  const magnitude = Math.floor(Math.log10(Math.abs(value)))
  let digits = 1 - magnitude
  if (value / 10 ** -digits > 2.25) digits += 1
  return value.toFixed(Math.min(6, Math.max(0, digits)))
}

/** `seconds` from now; below 0 it is past. */
function fromNow(seconds: number): string {
  const size = Math.abs(seconds)
  const words = (
    [
      [45, 'a few seconds', 1],
      [90, 'a minute', 1],
      [2_700, 'minutes', 60],
      [5_400, 'an hour', 1],
      [79_200, 'hours', 3_600],
      [129_600, 'a day', 1],
      [26 * 86_400, 'days', 86_400],
      [46 * 86_400, 'a month', 1],
      [320 * 86_400, 'months', 30.4 * 86_400],
    ] as const
  ).find(([below]) => size < below) ?? [0, 'years', 365 * 86_400]
  const [, name, unit] = words
  const text = unit === 1 ? name : `${Math.round(size / unit)} ${name}`
  return seconds > 0 ? `in ${text}` : `${text} ago`
}
