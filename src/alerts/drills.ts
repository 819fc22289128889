import { drillAlert, drillLabel, drillMetric, drillTexts } from '../domain/alert-drill.ts'
import { type AlertGroup, cluster } from './alert.ts'

const proven = 'max by (cluster_name) (lifeboat_alert_path_last_proven_timestamp_seconds)'
const allowed = 'max by (cluster_name) (lifeboat_policy_alert_path_max_age_seconds)'

/** What is rehearsed: that alerts arrive. */
export const drills: AlertGroup = {
  name: 'lifeboat.drills',
  about: 'What is rehearsed',
  alerts: [
    {
      alert: 'LifeboatAlertPathUnproven',
      expr: `(time() - ${proven}) > ${allowed} or ${allowed} unless ${proven}`,
      for: '6h',
      summary: `${cluster}: nobody knows whether alerts arrive`,
      description:
        'No drill has shown for longer than lifeboat_policy_alert_path_max_age_seconds, or ever, that an alert reaches its receiver.',
      first: '`lifeboat drill alert` says how far one comes',
      dashboard: 'sidecar',
      panel: 24,
    },
    {
      alert: drillAlert,
      expr: `max by (cluster_name) (${drillMetric}) > 0`,
      for: '0s',
      ...drillTexts,
      dashboard: 'sidecar',
      panel: 25,
      // A value that stays what it is as long as the alert fires.
      labels: { [drillLabel]: '{{ $value | printf "%.0f" }}' },
    },
  ],
}
