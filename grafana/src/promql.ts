import { alerts } from '../../src/alerts/groups.ts'
import { severities } from '../../src/alerts/names.ts'
import { conditions, rpo } from '../../src/metrics/queries.ts'

/** Regular expression, for `=~`, of the clusters that were chosen above the panels. */
const chosen = '$cluster_name'

/**
 * A query, asked of the chosen clusters alone. What has no `cluster_name` of its own (`process_*`) stays as it is; an
 * alert without one (that nobody watches) is of interest to all.
 */
export function scoped(query: string): string {
  return query.replace(
    /\b(lifeboat_(?!build_info)\w+|ALERTS)\b(\{)?/g,
    (_, name: string, brace?: string) =>
      `${name}{cluster_name=~"${name === 'ALERTS' ? `${chosen}|` : chosen}"${brace === undefined ? '}' : ','}`,
  )
}

/** A condition of docs/metrics.md, so that a panel and an alert cannot differ about it. */
export function condition(name: string): string {
  const found = conditions.find((one) => one.name === name)
  if (found === undefined) throw new Error(`src/metrics/queries.ts has no condition "${name}"`)
  return `(${found.query})`
}

/** Every cluster that was watched within the last day, those whose sidecar is silent now included. */
const watched = 'group by (cluster_name) (last_over_time(lifeboat_policy_rpo_seconds[1d]))'

/** Values for what is not there: texts explain them, and their colour is never that of something good. */
export const unknown = -1
export const silent = -2

/**
 * A value for each cluster, or one that says why there is none: it would have no tile otherwise, beside others that are
 * well.
 */
export function known(query: string): string {
  return `(${query}) or ${rpo} * 0 - 1 or ${watched} * 0 - 2`
}

/** Age in seconds of a moment, for a line over time. */
export const age = (moment: string): string => `(time() - ${moment})`

/**
 * Age in seconds of a moment, to be judged. Clocks may differ by what the condition "Clock ahead" grants; a moment further in
 * the future says that one is wrong, and has no age.
 */
export const since = (moment: string): string => `clamp_min(time() - ((${moment}) < time() + 60), 0)`

/** Moments in the unit of Grafana, ms. */
export const moment = (seconds: string): string => `(${seconds}) * 1000`

/** Conditions whose alerts wake somebody. */
const critical = new Set(alerts.filter(({ alert }) => severities[alert] === 'critical').map(({ expr }) => expr))

/** How far a query looks back, as PromQL has it; `now` for not at all. */
const reachOf = (query: string): string => /\[(\w+)\]/.exec(query)?.[1] ?? 'now'

/**
 * Every condition that holds: which (`problem`), of which cluster, and of what in it (`where`). Those whose alert is critical,
 * a cluster that was never heard of among them, or all others. In several queries, by how far they look back: Prometheus looks
 * for each series of a query as far back as any part of it does.
 */
export function problems(kind: 'critical' | 'other'): string[] {
  const all = conditions.filter(({ query }) => critical.has(query) === (kind === 'critical'))
  const silence = 'absent(last_over_time(lifeboat_policy_rpo_seconds[1d]))'
  if (kind === 'critical') all.push({ name: 'No data: is a sidecar scraped?', tells: '', query: silence })
  const places = ['repository', 'backup_type', 'database', 'level', 'job', 'collector', 'state', 'hook', 'target']
  const labels = places.map((label) => `"${label}"`).join(', ')
  return [...Map.groupBy(all, ({ query }) => reachOf(query)).values()].map((some) => {
    const named = some.map(({ query, name }) => `label_replace(${query}, "problem", "${name}", "", "")`)
    return `group by (problem, cluster_name, where) (label_join(${named.join(' or ')}, "where", " ", ${labels}))`
  })
}
