import { spawnSync } from 'node:child_process'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { RuleGroup } from '../../src/alerts/render.ts'
import { secondsOf } from '../alerts/seconds.ts'
import type { Prometheus } from '../support/prometheus.ts'

/** What Prometheus scrapes and evaluates at, where nothing else is said, seconds. */
const [scraped, evaluated] = [15, 30]
const day = 86_400

/** Series that rules look back at. */
interface Remembered {
  readonly selector: string
  /** Seconds. */
  readonly range: number
  readonly step: number
}

/** Every selector with a range, with its longest one. */
function rememberedBy(groups: readonly RuleGroup[]): readonly Remembered[] {
  const steps = new Map(
    groups.flatMap(({ interval, rules }) => {
      const step = interval === undefined ? evaluated : secondsOf(interval)
      return rules.flatMap((rule) => ('record' in rule ? [[rule.record, step] as const] : []))
    }),
  )
  const longest = new Map<string, Remembered>()
  for (const { expr } of groups.flatMap(({ rules }) => rules)) {
    for (const [, selector = '', name = '', duration = ''] of expr.matchAll(
      /(([a-z][\w:]+)(?:\{[^}]*\})?)\[(\w+)(?::\w+)?\]/g,
    )) {
      const range = Math.max(secondsOf(duration), longest.get(selector)?.range ?? 0)
      longest.set(selector, { selector, range, step: steps.get(name) ?? scraped })
    }
  }
  return [...longest.values()]
}

/**
 * Blocks in `data` with all that the rules look back at, as often as it would have been stored: the series that a running
 * Prometheus has of each, as they are there now. Gives the number of samples.
 */
export async function remember(
  directory: string,
  groups: readonly RuleGroup[],
  running: Prometheus,
): Promise<{ readonly data: string; readonly samples: number }> {
  const now = Math.floor(Date.now() / 1000)
  const data = join(directory, 'data')
  await mkdir(data, { recursive: true })
  const families = await Promise.all(
    rememberedBy(groups).map(async (one) => ({ ...one, series: await running.instant(one.selector, now) })),
  )
  let samples = 0
  // Of each block promtool reads the whole file: one of a day is short.
  for (let from = now - 7 * day; from < now; from += day) {
    const lines: string[] = []
    const began = new Set<string>()
    for (const { range, step, series } of families.toSorted((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1))) {
      const first = Math.max(from, now - range)
      for (const { labels, points } of series) {
        const { __name__: name = '', ...rest } = labels
        // A type says that no suffix is missing; a family stands in one place.
        if (!began.has(name)) lines.push(`# TYPE ${name} unknown`)
        began.add(name)
        const key = `${name}{${Object.entries(rest)
          .map(([label, value]) => `${label}=${JSON.stringify(value)}`)
          .join(',')}}`
        for (let at = first; at < from + day; at += step) {
          lines.push(`${key} ${points.at(-1)?.[1] ?? 0} ${at}`)
          samples++
        }
      }
    }
    if (lines.length === 0) continue
    const text = join(directory, 'history.txt')
    await writeFile(text, `${lines.join('\n')}\n# EOF\n`)
    const made = spawnSync('promtool', ['tsdb', 'create-blocks-from', 'openmetrics', '--quiet', text, data])
    if (made.status !== 0) throw new Error(`promtool: ${String(made.stderr)}`)
    await rm(text)
  }
  return { data, samples }
}

const nameOf = ({ selector }: Remembered) => selector.replace(/\{.*/, '')
