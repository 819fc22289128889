import t from 'tap'
import { metricDefinitions } from '../../src/metrics/names.ts'
import { createProcessMetrics } from '../../src/metrics/process.ts'
import { now, openMetrics } from '../grafana/scenarios.ts'
import type { StoredDashboard } from '../grafana/shown.ts'
import { stored } from '../grafana/stored.ts'
import { parseExposition } from '../support/exposition.ts'
import { startPrometheus } from '../support/prometheus.ts'
import { domOf } from './chromium.ts'
import { pageOf } from './page.ts'
import { painters } from './panels.ts'
import { pastOf, processOf } from './past.ts'
import { rangeOf, rateInterval, stepOf } from './steps.ts'
import { failed, healthy, now as taken } from './stories.ts'
import { colour } from './theme.ts'
import { written } from './units.ts'

const panels = stored.flatMap((dashboard) => dashboard.panels)

await t.test('no dashboard has what the previews cannot draw', async (t) => {
  const kinds = new Set(panels.map(({ type }) => type).filter((type) => type !== 'row'))
  t.same(kinds, new Set(Object.keys(painters)))
  const text = JSON.stringify(stored)
  const units = new Set(
    [...text.matchAll(/"unit":"(\w+)"|"id":"unit","value":"(\w+)"/g)].map(([, one, other]) => one ?? other),
  )
  for (const unit of units) t.match(written(1_234_567, unit ?? '', now), /\S/)
  const colours = new Set([...text.matchAll(/"(?:color|fixedColor|iconColor)":"(\w+)"/g)].map(([, name]) => name))
  for (const name of colours) t.match(colour(name ?? ''), /^#/)
})

await t.test('each kind is drawn, in a real browser', async (t) => {
  const kinds = Object.keys(painters)
  const chosen = kinds.flatMap((kind, index) => {
    const panel = panels.find(({ type }) => type === kind)
    return panel === undefined ? [] : [{ ...panel, id: index + 1, gridPos: { x: 0, y: index * 8, w: 24, h: 8 } }]
  })
  const [overview] = stored
  if (overview === undefined) throw new Error('no dashboard')
  const dashboard: StoredDashboard = { ...overview, time: { from: 'now-1h' }, panels: chosen }
  const prometheus = await startPrometheus(t.testdir({}), await openMetrics())
  t.teardown(() => prometheus.stop())
  const look = { dashboard, clusters: 'healthy|failed', now, width: 1_000, scrapeInterval: 60 }
  const dom = await domOf(await pageOf(prometheus, look))
  const drawn = dom.split('<section').slice(1)
  t.equal(drawn.length, kinds.length)
  for (const html of drawn) {
    const [, kind = ''] = /data-kind="([\w-]+)"/.exec(html) ?? []
    const seen: Readonly<Record<string, RegExp>> = {
      stat: /class="tile"[^>]*>.*healthy.*yes/,
      table: /<td class="number" style="background: #f2495c[^>]*>critical</,
      'state-timeline': /<rect [^>]*fill="#f2495c"/,
      // As many pixels as a chart has that is more than its axes.
      timeseries: /data-coloured="\d{4,}"/,
    }
    t.match(html, seen[kind] ?? /never/, kind)
  }
  t.match(dom, /data-charts="1"/, 'the script of the page came to its end')
  t.match(dom, /A preview, drawn by our preview renderer, not by Grafana/)
})

await t.test('the past that is made up is one that sidecars could serve', async (t) => {
  const definitions: Readonly<Record<string, { readonly labels: readonly string[] }>> = metricDefinitions
  const own = new Set(parseExposition(await createProcessMetrics().text()).map(({ name }) => name))
  for (const story of [...healthy, ...failed]) {
    const past = [...pastOf(story), ...processOf(story)]
    const strange = past.filter(({ name, labels }) => {
      const wanted = name === 'lifeboat_build_info' ? [] : ['cluster_name']
      const all = [...wanted, ...(definitions[name]?.labels ?? [])].toSorted()
      return own.has(name) ? Object.keys(labels).length > 0 : String(Object.keys(labels).toSorted()) !== String(all)
    })
    t.same(strange, [], `${story.cluster}: names and labels are those of docs/metrics.md`)
    const identities = past.map(({ name, labels }) => JSON.stringify([name, labels]))
    t.equal(new Set(identities).size, identities.length, 'each series once')
    for (const { name, at } of past) {
      const values = [2, 1, 0].map((days) => at(taken - days * 86_400)).filter((value) => value !== null)
      if (!values.every(Number.isFinite)) t.fail(`${name} has numbers`)
      if (name.endsWith('_total') && String(values) !== String(values.toSorted((a, b) => a - b)))
        t.fail(`${name} only grows`)
    }
  }
})

await t.test('texts and steps are those of Grafana', async (t) => {
  t.same(
    [
      written(0.069, 'percentunit', 0),
      written(12.98, 'percentunit', 0, 0),
      written(90, 's', 0),
      written(5.5 * 3_600, 's', 0),
      written(1_536, 'bytes', 0),
      written(15.5, 'currencyUSD', 0),
      written(0, 'short', 0),
      written(1_000_000 - 7_200_000, 'dateTimeFromNow', 1_000),
      written(4_600_000, 'dateTimeFromNow', 1_000),
    ],
    ['6.90%', '1298%', '1.50 mins', '5.50 hours', '1.50 KiB', '$15.5', '0', '2 hours ago', 'in an hour'],
  )
  t.throws(() => written(1, 'parsec', 0), /unit parsec/)
  t.same([stepOf(86_400, 1_000, 15), stepOf(7 * 86_400, 1_000, 15), stepOf(30 * 86_400, 1_000, 15)], [60, 600, 1_800])
  t.equal(stepOf(3_600, 1_000, 60), 60, 'not below what is scraped')
  t.same([rateInterval(60, 15), rateInterval(15, 60)], [75, 240])
  t.same([rangeOf('now-24h'), rangeOf('now-7d')], [86_400, 604_800])
  t.throws(() => rangeOf('yesterday'), /not a range/)
})
