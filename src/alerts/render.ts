import { stringify } from 'yaml'
import type { Alert, AlertGroup, Recording } from './alert.ts'
import { groups } from './groups.ts'
import { severities } from './names.ts'

const note = ' Written by `npm run docs` from src/alerts: change it there. docs/alerts.md says how it is used.\n'

/** An alert or a recording as Prometheus reads it. */
export type Rule =
  | { readonly record: string; readonly expr: string }
  | {
      readonly alert: string
      readonly expr: string
      readonly for?: string
      readonly labels: Readonly<Record<string, string>>
      readonly annotations: Readonly<Record<string, string>>
    }

/** Relative to the project, and to Grafana: docs/alerts.md says how they are made whole. */
export const runbookOf = (alert: string): string => `docs/runbooks/${alert}.md`
/** The panel alone, of the cluster that the alert is about; Esc shows the rest of its dashboard. */
function dashboardOf({ dashboard, panel }: Alert): string {
  const place = `/d/lifeboat-${dashboard}`
  if (panel === undefined) return `${place}{{ with $labels.cluster_name }}?var-cluster_name={{ . | urlquery }}{{ end }}`
  return `${place}?{{ with $labels.cluster_name }}var-cluster_name={{ . | urlquery }}&{{ end }}viewPanel=${panel}`
}

export function ruleOf(one: Alert): Rule {
  const { alert, expr, for: lasting, summary, description, first, labels } = one
  return {
    alert,
    expr,
    ...(lasting === '0s' ? {} : { for: lasting }),
    labels: { severity: severities[alert], ...labels },
    annotations: {
      summary,
      description: `${description} First: ${first}.`,
      runbook_url: runbookOf(alert),
      dashboard_url: dashboardOf(one),
    },
  }
}

/** A group as Prometheus reads it. */
export interface RuleGroup {
  readonly name: string
  /** Default: `evaluation_interval` of Prometheus. */
  readonly interval?: string
  readonly rules: readonly Rule[]
}

/** What has to last for so many minutes is looked at every other minute. Less than the five that instant queries look back. */
const [patience, slowly] = [15, '2m']
const minutesOf = { s: 1 / 60, m: 1, h: 60, d: 1440 } as const

function isPatient({ for: lasting, slowly: isSlow }: Alert): boolean {
  if (isSlow) return true
  const [, count = '', unit = ''] = /^(\d+)([smhd])$/.exec(lasting) ?? []
  const found = Object.entries(minutesOf).find(([name]) => name === unit)
  if (found === undefined) throw new Error(`what is ${lasting}?`)
  return Number(count) * found[1] >= patience
}

/** What a recording of the same group holds is read from there. */
function read(expr: string, recordings: readonly Recording[]): string {
  return recordings.reduce((text, { record, expr: made, instead = { of: made, read: record } }) => {
    return text.replaceAll(instead.of, instead.read)
  }, expr)
}

const plain = ({ record, expr }: Recording): Rule => ({ record, expr })

function groupsOf({ name, recordings = [], memories = [], alerts }: AlertGroup): readonly RuleGroup[] {
  // A memory that stands for nothing is named by those who read it.
  const held = [...recordings, ...memories.filter(({ instead }) => instead !== undefined)]
  const rulesOf = (some: readonly Alert[]) => some.map((alert) => ruleOf({ ...alert, expr: read(alert.expr, held) }))
  const [soon, later] = [rulesOf(alerts.filter((alert) => !isPatient(alert))), rulesOf(alerts.filter(isPatient))]
  const isSoon = ({ record }: Recording) => soon.some(({ expr }) => expr.includes(record))
  const all: readonly RuleGroup[] = [
    { name, rules: [...recordings.filter(isSoon).map(plain), ...soon] },
    {
      name: `${name}.slowly`,
      interval: slowly,
      rules: [...recordings.filter((one) => !isSoon(one)).map(plain), ...later],
    },
  ]
  return all.filter(({ rules }) => rules.length > 0)
}

/** What stands below `groups:` in both files. */
export function ruleGroups(): readonly RuleGroup[] {
  const memories = groups.flatMap((group) => group.memories ?? []).map(plain)
  return [{ name: 'lifeboat.memory', interval: '15m', rules: memories }, ...groups.flatMap(groupsOf)]
}

const yamlOf = (content: object) => `#${note}${stringify(content, { lineWidth: 0 })}`

/** alerts/lifeboat.rules.yml, for `rule_files`. */
export function renderRules(): string {
  return yamlOf({ groups: ruleGroups() })
}

/** alerts/prometheusrule.yaml, for the Prometheus operator. */
export function renderPrometheusRule(): string {
  return yamlOf({
    apiVersion: 'monitoring.coreos.com/v1',
    kind: 'PrometheusRule',
    metadata: { name: 'lifeboat', labels: { 'app.kubernetes.io/name': 'lifeboat' } },
    spec: { groups: ruleGroups() },
  })
}
