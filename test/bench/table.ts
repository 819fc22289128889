import { setTimeout as delay } from 'node:timers/promises'

/** One line of docs/benchmarks.md. */
export interface Figure {
  readonly what: string
  readonly measured: string
  readonly goal: string
  readonly met: boolean
}

export function figuresTable(figures: readonly Figure[]): string {
  const rows = figures.map(
    ({ what, measured, goal, met }) => `| ${what} | ${measured} | ${goal} | ${met ? 'yes' : '**no**'} |`,
  )
  return ['| what | measured | goal | met |', '|---|---|---|---|', ...rows, ''].join('\n')
}

export function median(values: readonly number[]): number {
  return percentile(values, 0.5)
}

/** The value that the given part of all values does not exceed. */
export function percentile(values: readonly number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN
}

/** Seconds that something takes. */
export async function seconds(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now()
  await work()
  return (performance.now() - started) / 1000
}

export const mebibytes = (bytes: number) => `${(bytes / 1_048_576).toFixed(0)} MiB`

/** Milliseconds of each scrape, one after the other, as long as it is wanted. */
export async function scrape(url: string, signal: AbortSignal): Promise<readonly number[]> {
  const took: number[] = []
  while (!signal.aborted) {
    const begun = performance.now()
    await (await fetch(url)).text()
    took.push(performance.now() - begun)
    await delay(5)
  }
  return took
}
