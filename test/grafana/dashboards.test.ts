import { readdir, readFile } from 'node:fs/promises'
import t from 'tap'
import { parse } from 'yaml'
import { dashboards, fileOf, render } from '../../grafana/generate.ts'
import { uids } from '../../grafana/src/frame.ts'
import { createProcessMetrics } from '../../src/metrics/process.ts'
import { conditions } from '../../src/metrics/queries.ts'
import { parseExposition } from '../support/exposition.ts'
import { type FieldSettings, settingsOf } from './shown.ts'
import { questions, stored } from './stored.ts'

const grafana = new URL('../../grafana/', import.meta.url)
const read = (path: string) => readFile(new URL(path, grafana), 'utf8')

await t.test('what is stored is as the code says', async (t) => {
  for (const dashboard of dashboards)
    t.equal(await readFile(fileOf(dashboard), 'utf8'), render(dashboard), `${dashboard.uid}: npm run dashboards`)
  const files = (await readdir(new URL('dashboards/', grafana))).filter((name) => name.endsWith('.json'))
  t.same(
    files.toSorted(),
    Object.values(uids)
      .map((uid) => `${uid}.json`)
      .toSorted(),
    'and nothing else is there',
  )
})

await t.test('each can be linked to, and links lead somewhere', async (t) => {
  t.same(
    stored.map(({ uid }) => uid),
    Object.values(uids),
  )
  for (const { uid, panels, ...rest } of stored) {
    const ids = panels.map(({ id }) => id)
    t.ok(ids.every(Number.isInteger), `${uid}: each panel has an id`)
    t.equal(new Set(ids).size, ids.length, `${uid}: of its own`)
    for (const [, target] of JSON.stringify(panels).matchAll(/\/d\/([\w-]+)/g))
      t.ok(
        stored.some((other) => other.uid === target),
        `${uid} leads to ${target}`,
      )
    t.match(rest, {
      tags: ['lifeboat'],
      links: [{ type: 'dashboards', tags: ['lifeboat'], includeVars: true, keepTime: true }],
    })
  }
})

await t.test('fits a wide screen, and a narrow one', async (t) => {
  for (const { uid, panels } of stored) {
    const taken = new Set<string>()
    for (const {
      title,
      type,
      gridPos: { x, y, w, h },
      options,
    } of panels) {
      t.ok(x + w <= 24, `${uid}: ${title} ends at the edge`)
      for (let column = x; column < x + w; column++)
        for (let line = y; line < y + h; line++) {
          if (taken.has(`${column} ${line}`)) t.fail(`${uid}: ${title} is over another panel`)
          taken.add(`${column} ${line}`)
        }
      // On a phone each panel has the width to itself, in this order, and keeps its height.
      if (type !== 'row') t.ok(h >= 5 && h <= 10, `${uid}: ${title} is neither flat nor a page`)
      if (options?.legend !== undefined) t.equal(options.legend.placement, 'bottom', `${uid}: ${title}`)
    }
    const order = panels.map(({ gridPos }) => gridPos.y * 24 + gridPos.x)
    t.same(
      order,
      order.toSorted((a, b) => a - b),
      `${uid}: the order is that of the page`,
    )
    for (let line = 0; line < Math.max(...panels.map(({ gridPos }) => gridPos.y)); line++)
      t.ok(taken.has(`0 ${line}`), `${uid}: line ${line} is used`)
  }
})

await t.test('on a phone the verdict and what is wrong are on the first screen', (t) => {
  const [overview] = stored.filter(({ uid }) => uid === 'lifeboat-overview')
  const first = (overview?.panels ?? []).slice(0, 2)
  t.same(
    first.map(({ title }) => title),
    ['Can we recover?', 'What is wrong'],
  )
  // A line is 30 pixels and a gap of 8, the head takes about 100; a small phone shows 750.
  t.ok(100 + first.reduce((sum, { gridPos }) => sum + gridPos.h * 38, 0) <= 750)
  t.end()
})

await t.test('what is not known has a word and a colour of its own', async (t) => {
  for (const { name, panel, target } of questions) {
    const settings = settingsOf(panel, target.refId)
    const whole: FieldSettings = panel.fieldConfig?.defaults ?? {}
    t.match(whole.noValue, /unknown$|^nothing$|^no rules are loaded$/, name)
    const steps = settings.thresholds?.steps ?? []
    t.equal(steps[0]?.value, null, name)
    t.match(steps[0]?.color, /^(purple|text)$/, `${name}: what is below all limits is not good`)
    // Limits come from the configuration, and are in the queries.
    for (const { value } of steps.slice(1)) t.ok(value === 0 || value === 1, `${name}: ${value} is no limit of ours`)
  }
})

const golden = parseExposition(await readFile(new URL('../golden/metrics.txt', import.meta.url), 'utf8'))
const own = parseExposition(await createProcessMetrics().text())
const exposed = [...golden, ...own]

/** Texts with queries in them: of panels, annotations and variables. */
const texts: readonly (readonly [name: string, query: string])[] = [
  ...questions.map(({ name, target }) => [name, target.expr] as const),
  ...stored.flatMap(({ annotations, templating }) => [
    ...(annotations as { list: { name: string; expr: string }[] }).list.map(({ name, expr }) => [name, expr] as const),
    ...(templating as { list: { name: string; query: string | { query: string } }[] }).list.flatMap(
      ({ name, query }) => (typeof query === 'string' ? [] : [[name, query.query] as const]),
    ),
  ]),
]
const metricsIn = (query: string) => [...query.matchAll(/\b(?:lifeboat|process|nodejs)_\w+/g)].map(([name]) => name)

await t.test('every metric and label that is used is exposed', async (t) => {
  for (const [name, query] of texts) {
    const used = metricsIn(query)
    for (const metric of used)
      t.ok(
        exposed.some((sample) => sample.name === metric),
        `${name}: ${metric} exists`,
      )
    for (const [, metric, inside = ''] of query.matchAll(/\b(lifeboat_\w+)\{([^}]*)\}/g)) {
      for (const [, label = '', operator, value] of inside.matchAll(/(\w+)(=~|!~|!=|=)"([^"]*)"/g)) {
        const samples = exposed.filter((sample) => sample.name === metric)
        t.ok(
          samples.some(({ labels }) => label in labels),
          `${name}: ${metric} has ${label}`,
        )
        const values =
          operator === '=' ? [value] : operator === '=~' && label !== 'cluster_name' ? value?.split('|') : []
        for (const one of values ?? [])
          t.ok(
            samples.some(({ labels }) => labels[label] === one),
            `${name}: ${metric} has ${label} ${one}`,
          )
      }
    }
    // What Prometheus adds, and what the queries make.
    const made = ['job', 'instance', 'alertname', 'severity', 'alertstate', 'problem', 'where', 'cluster_name']
    const known = new Set([
      ...made,
      ...exposed.filter((one) => used.includes(one.name)).flatMap(({ labels }) => Object.keys(labels)),
    ])
    for (const [, list = ''] of query.matchAll(/\b(?:by|on|group_left|group_right|ignoring) \(([^()]*)\)/g))
      for (const label of list.split(', ').filter((one) => one !== ''))
        t.ok(known.has(label), `${name}: ${label} exists`)
  }
})

await t.test('which metrics no dashboard shows', async (t) => {
  const used = new Set(texts.flatMap(([, query]) => metricsIn(query)))
  const unused = new Set(golden.map(({ name }) => name).filter((name) => !used.has(name)))
  t.same([...unused], [])
})

await t.test('the table of problems has every condition', async (t) => {
  const table = questions.filter(({ name }) => name.startsWith('overview: What is wrong'))
  for (const { name } of conditions)
    t.equal(table.filter(({ target }) => target.expr.includes(`"problem", "${name}"`)).length, 1, name)
  // Prometheus looks for all that a query asks for as far back as any part of it does.
  for (const { name, target } of table) {
    const ranges = [...target.expr.matchAll(/\w\{[^}]*\}(\[\w+\])?/g)].map(([, range]) => range)
    if (ranges.some((range) => range !== undefined)) t.ok(ranges.length <= 3, `${name}: little is asked of the past`)
  }
})

await t.test('files for provisioning', async (t) => {
  t.match(parse(await read('provisioning/dashboards/lifeboat.yaml')), {
    apiVersion: 1,
    providers: [{ type: 'file', folder: 'Lifeboat', options: { path: /^\// } }],
  })
  t.match(parse(await read('provisioning/datasources/prometheus.yaml')), {
    apiVersion: 1,
    datasources: [{ type: 'prometheus', jsonData: { httpMethod: 'POST' } }],
  })
})
