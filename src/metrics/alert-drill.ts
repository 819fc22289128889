import type { MetricWriter } from './snapshot.ts'

/** What the sidecar knows of drills of alerts. */
export interface AlertDrills {
  /** The drill that is to be shown; 0: there is none; null: that cannot be said just now. */
  readonly current: () => number | null
  readonly lastProvenAt: () => Date | null
}

export function writeAlertDrills(metrics: MetricWriter, { current, lastProvenAt }: AlertDrills): void {
  metrics.set('lifeboat_alert_drill_started_timestamp_seconds', {}, current())
  metrics.set('lifeboat_alert_path_last_proven_timestamp_seconds', {}, lastProvenAt())
}
