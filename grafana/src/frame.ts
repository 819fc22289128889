import type * as cog from '@grafana/grafana-foundation-sdk/cog'
import * as dashboard from '@grafana/grafana-foundation-sdk/dashboard'
import { named } from '../../src/metrics/queries.ts'
import { colours } from './looks.ts'
import { datasource } from './panels.ts'
import { scoped } from './promql.ts'

/** The dashboards, by what links to them say. They are never changed: alerts link to them. */
export const uids = {
  overview: 'lifeboat-overview',
  backups: 'lifeboat-backups',
  wal: 'lifeboat-wal',
  verification: 'lifeboat-verification',
  sidecar: 'lifeboat-sidecar',
} as const

export interface Section {
  readonly title: string
  readonly panels: readonly cog.Builder<dashboard.Panel>[]
}

export interface DashboardFacts {
  readonly uid: (typeof uids)[keyof typeof uids]
  readonly title: string
  readonly description: string
  /** How far back it looks at first, as `7d`. */
  readonly range: string
  /** Whether it looks at all clusters at first; the others at one, since their charts have many lines for each. */
  readonly showsAll?: boolean
  readonly sections: readonly Section[]
}

const tag = 'lifeboat'

/** Rows have ids behind those of all panels. */
const firstRowId = 900

function variables(showsAll: boolean): cog.Builder<dashboard.VariableModel>[] {
  const clusters = new dashboard.QueryVariableBuilder('cluster_name')
    .label('Cluster')
    .datasource(datasource)
    .query({ query: 'label_values(lifeboat_policy_rpo_seconds, cluster_name)', refId: 'cluster_name' })
    .definition('label_values(lifeboat_policy_rpo_seconds, cluster_name)')
    .refresh(dashboard.VariableRefresh.OnTimeRangeChanged)
    .sort(dashboard.VariableSort.AlphabeticalAsc)
    .multi(true)
  // Where there is `All`, Grafana begins with it. It is `.*`, all of which have the label: for `.+` Prometheus would go
  // through its values in each selector, a quarter of the time of large queries.
  if (showsAll)
    clusters
      .includeAll(true)
      .allValue('.*')
      .current({ selected: true, text: ['All'], value: ['$__all'] })
  return [new dashboard.DatasourceVariableBuilder('datasource').label('Data source').type('prometheus'), clusters]
}

function annotation(name: string, color: string, expr: string, title: string, text: string, isShown = true) {
  return new dashboard.AnnotationQueryBuilder()
    .name(name)
    .datasource(datasource)
    .enable(isShown)
    .hide(false)
    .iconColor(color)
    .expr(scoped(expr))
    .step('60s')
    .titleFormat(title)
    .textFormat(text)
}

/**
 * Runs and failures stand at the moments that their metrics hold; alerts where Prometheus saw them. Over more than a day
 * there are so many runs that they would hide the rest: they are switched on at the top when they are wanted.
 */
function annotations(range: string) {
  const runs = `max by (cluster_name, job) (${named('lifeboat_job_last_start_timestamp_seconds')}) * 1000`
  const failures =
    'max by (cluster_name, backup_type, database) (lifeboat_backup_last_failure_timestamp_seconds) * 1000'
  const alerts =
    'max by (cluster_name, alertname, severity) (ALERTS{alertstate="firing", alertname=~"Lifeboat.*", severity!="none"})'
  return [
    annotation('Runs', 'blue', runs, '{{job}} began', '{{cluster_name}}', range === '24h').useValueForTime(true),
    annotation(
      'Failed backups',
      colours.bad,
      failures,
      '{{backup_type}} failed',
      '{{cluster_name}} {{database}}',
    ).useValueForTime(true),
    annotation('Alerts', colours.late, alerts, '{{alertname}}', '{{cluster_name}} {{severity}}').tagKeys('severity'),
  ]
}

/** A dashboard as Grafana stores it. */
export function assemble({
  uid,
  title,
  description,
  range,
  showsAll = false,
  sections,
}: DashboardFacts): dashboard.Dashboard {
  const builder = new dashboard.DashboardBuilder(`Lifeboat / ${title}`)
    .uid(uid)
    .description(description)
    .tags([tag])
    .readonly()
    .timezone('browser')
    .refresh('1m')
    .time({ from: `now-${range}`, to: 'now' })
    .tooltip(dashboard.DashboardCursorSync.Crosshair)
    .variables(variables(showsAll))
    .annotations(annotations(range))
    .link(
      new dashboard.DashboardLinkBuilder('Lifeboat')
        .type(dashboard.DashboardLinkType.Dashboards)
        .tags([tag])
        .asDropdown(false)
        .includeVars(true)
        .keepTime(true),
    )
  for (const [index, section] of sections.entries()) {
    if (section.title !== '')
      builder.withRow(new dashboard.RowBuilder(section.title).id(firstRowId + index).collapsed(false))
    for (const panel of section.panels) builder.withPanel(panel)
  }
  return builder.build()
}
