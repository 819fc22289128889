import { readFile } from 'node:fs/promises'
import t from 'tap'
import { parse } from 'yaml'
import type { StoredDashboard, StoredPanel, StoredTarget } from './shown.ts'
import { stored } from './stored.ts'

/**
 * The rules of grafana/dashboard-linter, by its names, so that they hold where it cannot be had. Not here: rules for Loki and
 * native histograms, `target-promql-rule` (test/grafana/queries.test.ts asks a real Prometheus), and those that
 * grafana/dashboards/.lint excludes with a reason.
 */
type Rule = (dashboard: StoredDashboard) => string[]

interface Variable {
  readonly name: string
  readonly label: string
  readonly type: string
  readonly query: string | { readonly query: string }
  readonly refresh?: number
  readonly multi?: boolean
  readonly includeAll?: boolean
  readonly allValue?: string
}

const source = `\${datasource}`

const variables = (dashboard: StoredDashboard) => (dashboard.templating as { list: readonly Variable[] }).list
const panels = (dashboard: StoredDashboard) => dashboard.panels.filter(({ type }) => type !== 'row')

const ofPanels =
  (complaint: (panel: StoredPanel) => boolean): Rule =>
  (dashboard) =>
    panels(dashboard)
      .filter(complaint)
      .map(({ title }) => title)

const ofTargets = (complaint: (target: StoredTarget) => boolean): Rule =>
  ofPanels(({ targets = [] }) => targets.some(complaint))

// Of https://github.com/grafana/grafana/blob/main/packages/grafana-data/src/valueFormats/categories.ts those that fit here.
const units = ['none', 'short', 'percentunit', 'bytes', 's', 'dateTimeFromNow', 'currencyUSD', 'cps', 'reqps']

const rules: Readonly<Record<string, Rule>> = {
  'template-datasource-rule': (dashboard) => {
    const found = variables(dashboard).filter(({ type }) => type === 'datasource')
    const [one] = found
    return found.length === 1 && one?.name === 'datasource' && one.label === 'Data source' && one.query === 'prometheus'
      ? []
      : ['the data source is not a variable, or not called so']
  },
  'template-label-promql-rule': (dashboard) =>
    variables(dashboard)
      .filter(({ type }) => type === 'query')
      .filter(({ query }) => typeof query === 'string' || !/^label_values\(\w+, \w+\)$/.test(query.query))
      .map(({ name }) => name),
  'template-on-time-change-reload-rule': (dashboard) =>
    variables(dashboard)
      .filter(({ type, refresh }) => type === 'query' && refresh !== 2)
      .map(({ name }) => name),
  'template-unused-rule': (dashboard) =>
    variables(dashboard)
      .filter(({ name }) => !JSON.stringify(dashboard.panels).includes(name === 'datasource' ? source : `$${name}`))
      .map(({ name }) => name),
  'panel-datasource-rule': ofPanels(({ datasource }) => datasource?.uid !== source),
  'panel-title-description-rule': ofPanels(({ title, description = '' }) => title === '' || !description.endsWith('.')),
  'panel-units-rule': ofPanels(({ fieldConfig }) => !units.includes(fieldConfig?.defaults.unit ?? '')),
  'panel-no-targets-rule': ofPanels(({ targets = [] }) => targets.length === 0),
  'target-datasource-rule': ofTargets(({ datasource }) => datasource?.uid !== source),
  'target-rate-interval-rule': ofTargets(({ expr }) =>
    [...expr.matchAll(/\bi?rate\([^[\]]*\[([^\]]*)\]/g)].some(([, range]) => range !== '$__rate_interval'),
  ),
  'target-counter-agg-rule': ofTargets(({ expr }) =>
    [...expr.matchAll(/(\w*\(?)\b\w+_total\b(?:\{[^}]*\})?(\[)?/g)].some(
      ([, call = '', range]) => !/^(rate|irate|increase)\($/.test(call) || range === undefined,
    ),
  ),
  'uneditable-dashboard-rule': ({ editable }) => (editable === false ? [] : ['it can be edited']),
}

for (const [name, rule] of Object.entries(rules))
  await t.test(name, async (t) => {
    for (const dashboard of stored) t.same(rule(dashboard), [], dashboard.uid)
  })

await t.test('each rule finds what it is for', async (t) => {
  const [overview] = stored
  if (overview === undefined) throw new Error('no dashboard')
  const first = overview.panels.find(({ type }) => type === 'stat')
  if (first?.targets === undefined) throw new Error('no panel')
  const [target] = first.targets
  if (target === undefined) throw new Error('no query')
  const withPanel = (panel: Partial<StoredPanel>): StoredDashboard => ({
    ...overview,
    panels: [{ ...first, ...panel }],
  })
  const withQuery = (expr: string) => withPanel({ targets: [{ ...target, expr }] })
  const withVariable = (fields: Partial<Variable>, type: string): StoredDashboard => ({
    ...overview,
    templating: { list: variables(overview).map((one) => (one.type === type ? { ...one, ...fields } : one)) },
  })
  const bad: Record<string, StoredDashboard> = {
    'template-datasource-rule': withVariable({ name: 'prometheus' }, 'datasource'),
    'template-label-promql-rule': withVariable({ query: { query: 'query_result(x)' } }, 'query'),
    'template-on-time-change-reload-rule': withVariable({ refresh: 1 }, 'query'),
    'template-unused-rule': withVariable({ name: 'other' }, 'query'),
    'panel-datasource-rule': withPanel({ datasource: { type: 'prometheus', uid: 'mine' } }),
    'panel-title-description-rule': withPanel({ description: '' }),
    'panel-units-rule': withPanel({ fieldConfig: { defaults: { unit: 'seconds' }, overrides: [] } }),
    'panel-no-targets-rule': withPanel({ targets: [] }),
    'target-datasource-rule': withPanel({ targets: [{ ...target, datasource: { uid: 'mine' } }] }),
    'target-rate-interval-rule': withQuery('sum(rate(x_total{a="b"}[5m]))'),
    'target-counter-agg-rule': withQuery('sum(x_total{a="b"})'),
    'uneditable-dashboard-rule': { ...overview, editable: true },
  }
  t.same(Object.keys(bad), Object.keys(rules))
  for (const [name, dashboard] of Object.entries(bad)) t.equal(rules[name]?.(dashboard).length, 1, name)
})

await t.test('what is excluded has a reason', async (t) => {
  const text = await readFile(new URL('../../grafana/dashboards/.lint', import.meta.url), 'utf8')
  const { exclusions } = parse(text) as { exclusions: Record<string, { reason: string }> }
  t.same(Object.keys(exclusions), [
    'template-job-rule',
    'template-instance-rule',
    'target-job-rule',
    'target-instance-rule',
  ])
  for (const { reason } of Object.values(exclusions)) t.match(reason, /\.$/)
  // What stands for them: one variable, by which every query of what Lifeboat exposes chooses.
  for (const dashboard of stored) {
    const all = dashboard.uid === 'lifeboat-overview' ? { includeAll: true, allValue: '.*' } : { includeAll: false }
    t.match(
      variables(dashboard).find(({ name }) => name === 'cluster_name'),
      { label: 'Cluster', multi: true, ...all },
    )
    for (const { title, targets = [] } of panels(dashboard))
      for (const { expr } of targets)
        for (const [whole, name] of expr.matchAll(/\b(lifeboat_\w+)(\{cluster_name=~"\$cluster_name")?/g))
          t.ok(name === 'lifeboat_build_info' || whole.includes('{'), `${title}: ${name} is chosen by cluster`)
  }
})
