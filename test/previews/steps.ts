/** Grafana's table of steps: below the first number of milliseconds the step is the second. */
const table = [
  ...[
    [1_500, 1_000],
    [3_500, 2_000],
    [7_500, 5_000],
    [12_500, 10_000],
    [17_500, 15_000],
    [25_000, 20_000],
  ],
  ...[
    [45_000, 30_000],
    [90_000, 60_000],
    [210_000, 120_000],
    [450_000, 300_000],
    [750_000, 600_000],
  ],
  ...[
    [1_050_000, 900_000],
    [1_500_000, 1_200_000],
    [2_700_000, 1_800_000],
    [5_400_000, 3_600_000],
  ],
  ...[
    [9_000_000, 7_200_000],
    [16_200_000, 10_800_000],
    [32_400_000, 21_600_000],
    [86_400_000, 43_200_000],
  ],
] as const

/** Seconds between the points of a panel that has room for so many of them, over so many seconds, as Grafana asks. */
export function stepOf(range: number, points: number, scrapeInterval: number): number {
  const wanted = (range * 1_000) / points
  const found = table.find(([below = 0]) => wanted < below)?.[1] ?? 86_400_000
  return Math.max(found / 1_000, scrapeInterval)
}

/** `$__rate_interval`, seconds. */
export function rateInterval(step: number, scrapeInterval: number): number {
  return Math.max(step + scrapeInterval, 4 * scrapeInterval)
}

/** `now-7d`, in seconds. */
export function rangeOf(from: string): number {
  const [, count, unit = ''] = /^now-(\d+)([hd])$/.exec(from) ?? []
  if (count === undefined) throw new Error(`not a range: ${from}`)
  return Number(count) * (unit === 'h' ? 3_600 : 86_400)
}
