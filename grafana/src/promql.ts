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

/**
 * Every condition that holds, as one vector: which (`problem`), of which cluster, and of what in it (`where`). Those whose
 * alert is critical, a cluster that was never heard of among them, or all others: two queries, for they are large.
 */
export function problems(kind: 'critical' | 'other'): string {
  const named = (query: string, name: string) => `label_replace(${query}, "problem", "${name}", "", "")`
  const all = conditions
    .filter(({ query }) => critical.has(query) === (kind === 'critical'))
    .map(({ query, name }) => named(query, name))
  if (kind === 'critical')
    all.push(named('absent(last_over_time(lifeboat_policy_rpo_seconds[1d]))', 'No data: is a sidecar scraped?'))
  const where = ['repository', 'backup_type', 'database', 'level', 'job', 'collector', 'state', 'hook', 'target']
  const places = where.map((label) => `"${label}"`).join(', ')
  return `group by (problem, cluster_name, where) (label_join(${all.join(' or ')}, "where", " ", ${places}))`
}
