import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type Question, questions } from '../grafana/stored.ts'
import { asked, pointsOf } from '../previews/asked.ts'
import { type Span, writeHistory } from '../previews/history.ts'
import { day, type Story } from '../previews/past.ts'
import { rangeOf, stepOf } from '../previews/steps.ts'
import { type Prometheus, startConfigured } from '../support/prometheus.ts'
import type { Figure } from './table.ts'

const to = Date.UTC(2026, 2, 17, 9, 40) / 1_000
const scrapeInterval = 60
/** Pixels of a panel of the whole width: a wide screen. */
const width = 1_000
const rounds = 5
/** Blocks are merged a minute after the start, which takes a minute; they are in one that has run for long, */
const settled = 150_000
/** up to a tenth of what it keeps, here a month. */
const merged = '--storage.tsdb.max-block-duration=74h'

function storiesOf(clusters: number): readonly Story[] {
  return Array.from({ length: clusters }, (_, index) => ({
    cluster: `cluster-${index}`,
    databases: ['app', 'crm'].map((name, of) => ({ name, bytes: (20 + 7 * index + 40 * of) * 1e9 })),
  }))
}

/** Written in parts that are one block each, since the text of all would be many gigabytes. */
function spansOf(days: number): readonly Span[] {
  const block = 18 * 3_600
  const spans: Span[] = []
  for (let from = to - days * day; from <= to; ) {
    const end = Math.min((Math.floor(from / block) + 1) * block, to + 1)
    spans.push({ from, to: end, step: scrapeInterval })
    from = from + Math.ceil((end - from) / scrapeInterval) * scrapeInterval
  }
  return spans
}

interface Variable {
  readonly name: string
  readonly includeAll?: boolean
}

/** The clusters that a dashboard chooses at first: all, or one. */
function chosenOf({ dashboard }: Question): string {
  const { list } = dashboard.templating as { list: readonly Variable[] }
  return list.find(({ name }) => name === 'cluster_name')?.includeAll === true ? '.*' : 'cluster-0'
}

/** Milliseconds of a query as its dashboard asks it, the best of a few rounds. */
async function timed(prometheus: Prometheus, question: Question, range: number): Promise<number> {
  const { panel, target } = question
  const step = stepOf(range, pointsOf(panel, width), scrapeInterval)
  const query = asked(target.expr, chosenOf(question), step, scrapeInterval)
  const end = Math.floor(to / step) * step
  const times: number[] = []
  for (let round = 0; round < rounds; round += 1) {
    const begun = performance.now()
    await (target.instant === true
      ? prometheus.instant(query, to)
      : prometheus.range(query, end - Math.ceil(range / step) * step, end, step))
    times.push(performance.now() - begun)
  }
  return Math.min(...times)
}

/**
 * What Prometheus takes for each query of the dashboards, over so many days of so many clusters that are scraped every minute
 * (each with two repositories, two databases, physical backups, WAL, a bucket), with those chosen that a dashboard chooses at
 * first.
 */
export async function benchDashboards(base: string, clusters: number, days: number): Promise<readonly Figure[]> {
  const directory = join(base, 'dashboards')
  await mkdir(join(directory, 'data'), { recursive: true })
  await writeHistory(join(directory, 'data'), storiesOf(clusters), spansOf(days))
  const prometheus = await startConfigured(directory, {}, [merged])
  try {
    await delay(settled)
    const figures: Figure[] = []
    for (const wish of [null, days * day]) {
      const found: { readonly name: string; readonly ms: number }[] = []
      for (const question of questions) {
        const own = rangeOf((question.dashboard.time as { from: string }).from)
        if (wish !== null && question.target.instant === true) continue
        found.push({ name: question.name, ms: await timed(prometheus, question, wish ?? own) })
      }
      const slowest = found.toSorted((a, b) => b.ms - a.ms)
      const worst = slowest[0]?.ms ?? Number.NaN
      for (const { name, ms } of slowest.slice(0, 8)) console.log(`${ms.toFixed(0)} ms: ${name}`)
      const which = wish === null ? 'over the time that its dashboard shows first' : `over ${days} days`
      figures.push({
        what: `the slowest of ${found.length} dashboard queries ${which}, ${clusters} clusters with ${days} days of history: ${slowest[0]?.name}`,
        measured: `${worst.toFixed(0)} ms`,
        goal: '50 ms',
        met: worst <= 50,
      })
    }
    return figures
  } finally {
    await prometheus.stop()
  }
}
