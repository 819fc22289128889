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

/** What a recording of the same group holds is read from there. */
function read(expr: string, recordings: readonly Recording[]): string {
  return recordings.reduce((text, recording) => text.replaceAll(recording.expr, recording.record), expr)
}

function groupOf({ name, recordings = [], alerts }: AlertGroup) {
  return {
    name,
    rules: [...recordings, ...alerts.map((alert) => ruleOf({ ...alert, expr: read(alert.expr, recordings) }))],
  }
}

/** What stands below `groups:` in both files. */
export function ruleGroups(): readonly { readonly name: string; readonly rules: readonly Rule[] }[] {
  return groups.map(groupOf)
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
