import type { ShippingState } from '../observe/shipping-state.ts'
import type { MetricWriter } from './snapshot.ts'

/** How WAL gets to the repositories; null: it is not shipped. */
export function writeShipping(metrics: MetricWriter, state: ShippingState | null): void {
  for (const one of state?.repositories ?? []) {
    const { repository } = one
    metrics.set('lifeboat_wal_shipped_segments_total', { repository }, one.shippedSegments)
    metrics.set('lifeboat_wal_ship_failures_total', { repository }, one.failures)
    const quarantined = [...one.quarantined.values()].reduce((sum, count) => sum + count, 0)
    metrics.set('lifeboat_wal_quarantined_files', { repository }, quarantined)
    metrics.set('lifeboat_wal_ship_delay_seconds', { repository }, one.delaySeconds)
  }
}
