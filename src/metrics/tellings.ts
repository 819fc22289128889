import type { MetricWriter } from './snapshot.ts'

/** How hooks and notifications fare, since the start of the process. */
export interface Tellings {
  /** Failures by name. */
  readonly hookFailures: () => ReadonlyMap<string, number>
  readonly deliveries: () => readonly {
    readonly target: string
    readonly lastSuccessAt: Date | null
    readonly failures: number
  }[]
}

export function writeTellings(metrics: MetricWriter, { hookFailures, deliveries }: Tellings): void {
  for (const [hook, count] of hookFailures()) metrics.set('lifeboat_hook_failures_total', { hook }, count)
  for (const { target, lastSuccessAt, failures } of deliveries()) {
    metrics.set('lifeboat_notification_last_success_timestamp_seconds', { target }, lastSuccessAt)
    metrics.set('lifeboat_notification_failures_total', { target }, failures)
  }
}
