import { conditions } from '../metrics/queries.ts'
import type { AlertName } from './names.ts'

/** The dashboards, by the last part of their uids (`lifeboat-backups`). */
export type Dashboard = 'overview' | 'backups' | 'wal' | 'verification' | 'sidecar'

export interface Alert {
  readonly alert: AlertName
  /** PromQL: gives a series for each thing that is wrong, and nothing while all is well. */
  readonly expr: string
  /** How long it must hold, a duration of Prometheus; `0s` for what happens once. */
  readonly for: string
  /** It tells of what has happened, and is as good two minutes later. Always so where `for` is long. */
  readonly slowly?: true
  /** One line, as a message to a telephone. Both texts are templates of Prometheus: values stand here, never in labels. */
  readonly summary: string
  /** What it means, in a sentence or two. */
  readonly description: string
  /** The first command to run, or where there is none the first thing to look at. */
  readonly first: string
  readonly dashboard: Dashboard
  /** Besides `severity`. */
  readonly labels?: Readonly<Record<string, string>>
  /** The id of the panel of it in which one sees it (test/alerts/panels.test.ts); only the Watchdog is in none. */
  readonly panel?: number
}

/** A series that is computed once for the alerts that look at it. */
export interface Recording {
  readonly record: string
  readonly expr: string
  /** What it stands for in the alerts of its group, and how it is read there. Default: its expression, as it is. */
  readonly instead?: { readonly of: string; readonly read: string }
}

export interface AlertGroup {
  readonly name: string
  /** What the group is about, for people. */
  readonly about: string
  readonly recordings?: readonly Recording[]
  /**
   * What alerts look back at over hours and days, as samples that are few (`lifeboat.memory`). They are too old for an
   * instant query most of the time: read them with a range.
   */
  readonly memories?: readonly Recording[]
  readonly alerts: readonly Alert[]
}

/** What a memory over days says is as old as the last quarter of an hour, or older after a restart of Prometheus. */
export const remembered = (record: string) => `last_over_time(${record}[1h])`

/** A memory of series as they are, and what was last known of each within a range. */
export function lastKnown(name: string, series: string, range: string): readonly Recording[] {
  const [copy, last] = [`${name}:15m`, `${name}:last`]
  return [
    { record: copy, expr: series },
    {
      record: last,
      expr: `last_over_time(${copy}[${range}])`,
      instead: { of: `last_over_time(${series}[${range}])`, read: remembered(last) },
    },
  ]
}

/** A memory of series as they are, read instead of them over a range. */
export function copied(record: string, series: string, range: string): Recording {
  return { record, expr: series, instead: { of: `${series}[${range}]`, read: `${record}[${range}]` } }
}

/** Instead of looking for an increase in all samples of a day: a series that is there only after one. */
export function increased(record: string, counter: string): Recording {
  return {
    record,
    expr: `increase(${counter}[15m]) > 0`,
    instead: { of: `increase(${counter}[1d]) > 0`, read: `last_over_time(${record}[1d])` },
  }
}

/** The query of docs/metrics.md that an alert is made of, so that they cannot differ. */
export function condition(name: string): string {
  const found = conditions.find((one) => one.name === name)
  if (found === undefined) throw new Error(`no condition is called ${JSON.stringify(name)}`)
  return found.query
}

/** For texts. The database is empty for physical backups. */
export const ofDatabase = '{{ with $labels.database }} of {{ . }}{{ end }}'
export const what = `{{ $labels.backup_type }} backup${ofDatabase}`
export const there = '{{ $labels.cluster_name }}: {{ $labels.repository }}'
export const cluster = '{{ $labels.cluster_name }}'
export const lasted = '{{ $value | humanizeDuration }}'
export const log = (text: string) => `\`journalctl --unit lifeboat --output cat | grep '${text}'\``
