import { readdir, readFile } from 'node:fs/promises'
import t from 'tap'
import { ruleGroups } from '../../src/alerts/render.ts'
import { backupTypes } from '../../src/domain/backup.ts'
import { type MetricDefinition, metricDefinitions } from '../../src/metrics/names.ts'
import { parseExposition } from '../support/exposition.ts'

const definitions: ReadonlyMap<string, MetricDefinition> = new Map(Object.entries(metricDefinitions))
const rules = ruleGroups().flatMap((group) => group.rules)
const recorded = new Set(rules.flatMap((rule) => ('record' in rule ? [rule.record] : [])))
// What a running sidecar serves is compared with the definitions in test/app.test.ts.
const served = parseExposition(await readFile(new URL('../golden/metrics.txt', import.meta.url), 'utf8'))
const namesIn = (text: string) => [...text.matchAll(/\blifeboat_\w+/g)].map(([name]) => name)

/** Labels of a target, and what Prometheus makes of ours when it has one of that name. */
const ofTargets = ['job', 'instance', 'exported_job']

/** What the first part of a recording's name says of its labels. */
const levels: Readonly<Record<string, readonly string[]>> = {
  cluster_repository: ['repository'],
  cluster_backup: ['repository', 'backup_type', 'database'],
  cluster_job: ['job'],
  cluster_hook: ['hook'],
  cluster_target: ['target'],
}

/** Metrics of which no rule makes an alert, and why. */
const withoutRule: Readonly<Record<string, string>> = {
  lifeboat_cluster_info: 'for people: which cluster and version it is',
  lifeboat_collector_duration_seconds: 'a look that takes too long fails',
  lifeboat_backup_last_duration_seconds: 'how long jobs take has an alert',
  lifeboat_backup_last_size_bytes: 'what is unusual has an alert',
  lifeboat_backup_last_source_bytes: 'for people: how fast databases grow',
  lifeboat_backups_size_bytes: 'for people; the room that is left has an alert',
  lifeboat_repository_objects: 'for people: how much there is to list, and to pay for',
  lifeboat_backups_held: 'somebody wants it so',
  lifeboat_verification_last_duration_seconds: 'it goes into lifeboat_recovery_predicted_seconds',
  lifeboat_recovery_exposure_bytes: 'bytes are no objective: their age has an alert',
  lifeboat_wal_archived_segments_total: 'lifeboat_wal_archiver_state is made of it',
  lifeboat_wal_archive_failures_total: 'lifeboat_wal_archiver_state is made of it',
  lifeboat_wal_archive_segments: 'for people; the room that is left has an alert',
  lifeboat_wal_archive_size_bytes: 'for people; the room that is left has an alert',
  lifeboat_wal_archive_last_segment_timestamp_seconds: 'on an idle server it grows old',
  lifeboat_wal_segments: 'for people; what is missing has an alert',
  lifeboat_wal_size_bytes: 'for people: what the WAL takes',
  lifeboat_wal_stream_failures_total: 'it is started again; lifeboat_wal_stream_up tells whether that helps',
  lifeboat_wal_ship_delay_seconds: 'the recovery point tells what it does',
  lifeboat_job_runs_total: 'for people: how often',
  lifeboat_job_failures_total: 'a counter does not tell whether the last run failed',
  lifeboat_job_progress_ratio: 'for people who wait',
  lifeboat_notification_last_success_timestamp_seconds: 'nothing may have been to be told',
}

await t.test('every metric and every label in the rules is served', async (t) => {
  for (const rule of rules) {
    const about = 'alert' in rule ? rule.alert : rule.record
    const used = namesIn(rule.expr).filter((name) => !recorded.has(name) && !rule.expr.includes(`:${name}`))
    for (const name of used)
      t.ok(
        served.some((sample) => sample.name === name),
        `${about}: ${name}`,
      )
    const labels = new Set(['cluster_name', ...used.flatMap((name) => definitions.get(name)?.labels ?? [])])
    for (const [, level = ''] of rule.expr.matchAll(/\b(cluster\w*):/g))
      for (const label of levels[level] ?? []) labels.add(label)
    for (const [, , inside = ''] of rule.expr.matchAll(/\b(by|on) \(([\w, ]+)\)/g)) {
      for (const label of inside.split(', ')) t.ok(labels.has(label) || ofTargets.includes(label), `${about}: ${label}`)
    }
  }
})

await t.test('what is picked by a label is there', async (t) => {
  let picked = 0
  for (const { expr } of rules) {
    for (const [, name = '', label = '', sign = '', text = ''] of expr.matchAll(
      /\b(lifeboat_\w+)\{(\w+)(=~|!=|=)"([^"]*)"\}/g,
    )) {
      t.ok(definitions.get(name)?.labels.includes(label), `${name} has ${label}`)
      const values: ReadonlySet<string | undefined> =
        label === 'backup_type'
          ? new Set(backupTypes)
          : new Set(served.flatMap((sample) => (sample.name === name ? [sample.labels[label]] : [])))
      // Collectors are named after what is configured.
      if (label !== 'collector')
        for (const value of sign === '=~' ? text.split('|') : [text])
          t.ok(values.has(value), `${name}: ${label} ${value}`)
      picked++
    }
  }
  t.ok(picked > 10)
})

await t.test('every metric has an alert, or a reason why not', async (t) => {
  const used = new Set(rules.flatMap(({ expr }) => namesIn(expr)))
  for (const name of definitions.keys()) {
    t.equal(used.has(name), !(name in withoutRule), used.has(name) ? `${name} has a rule` : `${name} has none`)
  }
  for (const name of Object.keys(withoutRule)) t.ok(definitions.has(name), `${name} exists`)
})

await t.test('every metric in the dashboards is served', async (t) => {
  const place = new URL('../../grafana/', import.meta.url)
  const files = await readdir(place, { recursive: true }).catch(() => [])
  for (const file of files.filter((name) => name.endsWith('.json'))) {
    for (const name of namesIn(await readFile(new URL(file, place), 'utf8'))) {
      t.ok(definitions.has(name), `${file}: ${name}`)
    }
  }
})
