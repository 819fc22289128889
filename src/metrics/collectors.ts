import type { Catalog } from '../observe/catalog.ts'
import type { MetricWriter } from './snapshot.ts'

/** Each observer's own health: whether what the other metrics say is fresh. */
export function writeCollectors(metrics: MetricWriter, { collectors }: Catalog): void {
  for (const { collector, success, durationSeconds, lastSuccessAt } of collectors) {
    metrics.set('lifeboat_collector_success', { collector }, success)
    metrics.set('lifeboat_collector_duration_seconds', { collector }, durationSeconds)
    metrics.set('lifeboat_collector_last_success_timestamp_seconds', { collector }, lastSuccessAt)
  }
}
