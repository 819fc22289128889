import t from 'tap'
import { alerts } from '../../src/alerts/groups.ts'
import { ruleOf } from '../../src/alerts/render.ts'
import { stored } from '../grafana/stored.ts'

/** Metrics that tell something of the cluster: those with limits are in every other query. */
const told = (text: string) => new Set([...text.matchAll(/\blifeboat_(?!policy_)\w+/g)].map(([name]) => name))

/** What is looked at through something else: a recorded series, what Prometheus knows of its targets, or a limit that is missing. */
const indirect = new Set([
  'LifeboatAbsent',
  'LifeboatClusterVanished',
  'LifeboatExporterDown',
  'LifeboatRecoveryPointBurnsFast',
  'LifeboatRecoveryPointBurnsSlowly',
])

await t.test('every alert leads to a panel that shows what it is about', async (t) => {
  for (const one of alerts.filter(({ alert }) => alert !== 'Watchdog')) {
    const { alert, expr, dashboard, panel: id } = one
    const found = stored.find(({ uid }) => uid === `lifeboat-${dashboard}`)
    const panel = found?.panels.find((panel) => panel.id === id && panel.type !== 'row')
    if (panel === undefined) {
      t.fail(`${alert}: ${dashboard} has no panel ${id}`)
      continue
    }
    const shown = told((panel.targets ?? []).map((target) => target.expr).join(' '))
    const common = [...told(expr)].filter((name) => shown.has(name))
    t.equal(common.length > 0, !indirect.has(alert), `${alert}: ${panel.title} shows ${[...told(expr)].join(' or ')}`)
    const rule = ruleOf(one)
    const url = 'annotations' in rule ? rule.annotations.dashboard_url : null
    const of = '{{ with $labels.cluster_name }}var-cluster_name={{ . | urlquery }}&{{ end }}'
    t.equal(url, `/d/lifeboat-${dashboard}?${of}viewPanel=${id}`, alert)
  }
})
