/** The value of each series of an exposition, by its name and labels as they are written there. */
export type Series = ReadonlyMap<string, number>

/** One series that has another value than before; null: it was not there, or is no more. */
export interface Change {
  readonly name: string
  readonly labels: readonly string[]
  readonly before: number | null
  readonly after: number | null
}

const line = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/
const label = /([a-z_]+)="((?:[^"\\]|\\.)*)"/g

/**
 * Reads what `/metrics` gives.
 * Source: https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
 */
export function parseSeries(exposition: string): Series {
  const series = new Map<string, number>()
  for (const text of exposition.split('\n')) {
    const match = line.exec(text)
    if (match !== null) series.set(`${match[1]}{${match[2] ?? ''}}`, Number(match[3]))
  }
  return series
}

/** The value of the series with this name and at least these labels; null when there is none. */
export function valueIn(series: Series, name: string, labels: Readonly<Record<string, string>>): number | null {
  for (const [key, value] of series) {
    if (!key.startsWith(`${name}{`)) continue
    const found = new Map(labelsOf(key))
    if (Object.entries(labels).every(([wanted, is]) => found.get(wanted) === is)) return value
  }
  return null
}

/** What is different in the series of the given names, in the order of the names. `cluster_name` goes without saying. */
export function changes(before: Series, after: Series, names: readonly string[]): readonly Change[] {
  const keys = [...new Set([...before.keys(), ...after.keys()])]
  return names.flatMap((name) =>
    keys
      .filter((key) => key.startsWith(`${name}{`) && before.get(key) !== after.get(key))
      .map((key) => ({
        name,
        labels: labelsOf(key).flatMap(([known, value]) => (known === 'cluster_name' || value === '' ? [] : [value])),
        before: before.get(key) ?? null,
        after: after.get(key) ?? null,
      })),
  )
}

function labelsOf(key: string): [string, string][] {
  return [...key.slice(key.indexOf('{')).matchAll(label)].map(([, name = '', value = '']) => [name, value])
}
