import { type StoredDashboard, type StoredPanel, settingsOf, shown } from '../grafana/shown.ts'
import type { Prometheus, Series } from '../support/prometheus.ts'
import { rangeOf, rateInterval, stepOf } from './steps.ts'

/** How a dashboard is looked at. */
export interface Look {
  readonly dashboard: StoredDashboard
  /** Regular expression of the clusters that are chosen. */
  readonly clusters: string
  /** Seconds since 1970. */
  readonly now: number
  /** Pixels that a panel of the whole width has. */
  readonly width: number
  /** Seconds between two scrapes. */
  readonly scrapeInterval: number
}

/** Results of a query of a panel, with the names that its legend gives them. */
export interface Result {
  readonly refId: string
  readonly name: string
  readonly labels: Series['labels']
  readonly points: Series['points']
}

/** A moment that is marked in every panel with a time axis. */
export interface Mark {
  readonly at: number
  readonly color: string
}

export const spanOf = ({ dashboard }: Look): number => rangeOf((dashboard.time as { from: string }).from)

/** What is put into a query, as Grafana does it. */
export function asked(expr: string, clusters: string, step: number, scrapeInterval: number): string {
  return expr
    .replaceAll('$cluster_name', clusters)
    .replaceAll('$__rate_interval', `${rateInterval(step, scrapeInterval)}s`)
}

/** Points that a panel asks for at most: its own number, or one for each pixel. */
export function pointsOf(panel: StoredPanel & { readonly maxDataPoints?: number }, width: number): number {
  return panel.maxDataPoints ?? Math.round((width * panel.gridPos.w) / 24)
}

/** Asks what a panel asks. The moments of a range are multiples of its step. */
export async function ask(prometheus: Prometheus, panel: StoredPanel, look: Look): Promise<readonly Result[]> {
  const { clusters, now, width, scrapeInterval } = look
  const step = stepOf(spanOf(look), pointsOf(panel, width), scrapeInterval)
  const results = (panel.targets ?? []).map(async ({ expr, refId, instant, legendFormat = '' }) => {
    const query = asked(expr, clusters, step, scrapeInterval)
    const to = Math.floor(now / step) * step
    const series = await (instant === true
      ? prometheus.instant(query, now)
      : prometheus.range(query, to - Math.ceil(spanOf(look) / step) * step, to, step))
    return series.map(({ labels, points }) => ({ refId, name: legend(legendFormat, labels), labels, points }))
  })
  return (await Promise.all(results)).flat()
}

function legend(format: string, labels: Series['labels']): string {
  return format
    .replaceAll(/\{\{(\w+)\}\}/g, (_, label: string) => labels[label] ?? '')
    .replaceAll(/ +/g, ' ')
    .trim()
}

interface Annotation {
  readonly name: string
  readonly expr: string
  readonly iconColor: string
  readonly enable: boolean
  readonly useValueForTime?: boolean
}

/** The marks of the annotations of the dashboard: where a value is the time, or a series begins. */
export async function marksOf(prometheus: Prometheus, look: Look): Promise<readonly Mark[]> {
  const from = look.now - spanOf(look)
  const marks = new Map<string, Mark>()
  const all = (look.dashboard.annotations as { list: Annotation[] }).list
  for (const { expr, iconColor, useValueForTime } of all.filter(({ enable }) => enable)) {
    const series = await prometheus.range(asked(expr, look.clusters, 60, look.scrapeInterval), from, look.now, 300)
    for (const { points } of series) {
      const times =
        useValueForTime === true
          ? points.map(([, value]) => value / 1_000)
          : points.filter(([time], index) => time - (points[index - 1]?.[0] ?? 0) > 300).map(([time]) => time)
      for (const at of times)
        if (at >= from && at <= look.now) marks.set(`${at} ${iconColor}`, { at, color: iconColor })
    }
  }
  return [...marks.values()]
}

/** A cell of a table, or a tile: what is written, and in which colour of Grafana. */
export interface Seen {
  readonly text: string
  readonly color: string
}

export type Writer = (value: number, unit: string, decimals?: number) => string

/** A value as a panel shows it. */
export function seen(panel: StoredPanel, refId: string, value: number | null, write: Writer): Seen {
  const settings = settingsOf(panel, refId) as ReturnType<typeof settingsOf> & { readonly decimals?: number }
  const { text, color } = shown(settings, value)
  return { color, text: text ?? (value === null ? '' : write(value, settings.unit ?? 'none', settings.decimals)) }
}
