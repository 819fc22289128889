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

/** A series that is computed once for the alerts that look at it over days. */
export interface Recording {
  readonly record: string
  readonly expr: string
}

export interface AlertGroup {
  readonly name: string
  /** What the group is about, for people. */
  readonly about: string
  readonly recordings?: readonly Recording[]
  readonly alerts: readonly Alert[]
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
