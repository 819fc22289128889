import type { MetricWriter } from './snapshot.ts'

/** What the sidecar itself knows, without a look at anything: hooks and notifications since its start, and its leases. */
export interface Tellings {
  /** Failures by name. */
  readonly hookFailures: () => ReadonlyMap<string, number>
  readonly deliveries: () => readonly {
    readonly target: string
    readonly lastSuccessAt: Date | null
    readonly failures: number
  }[]
  readonly leases: {
    states(): readonly { readonly repository: string; readonly state: 'held' | 'waiting' | 'unknown' }[]
  }
}

export function writeTellings(metrics: MetricWriter, { hookFailures, deliveries, leases }: Tellings): void {
  for (const [hook, count] of hookFailures()) metrics.set('lifeboat_hook_failures_total', { hook }, count)
  for (const { target, lastSuccessAt, failures } of deliveries()) {
    metrics.set('lifeboat_notification_last_success_timestamp_seconds', { target }, lastSuccessAt)
    metrics.set('lifeboat_notification_failures_total', { target }, failures)
  }
  for (const { repository, state } of leases.states()) {
    if (state !== 'unknown') metrics.set('lifeboat_lease_held', { repository }, state === 'held')
  }
}
