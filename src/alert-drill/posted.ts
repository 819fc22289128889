import { drillAlert, drillLabel, drillSeverity, drillTexts } from '../domain/alert-drill.ts'
import type { Wanted } from './prometheus.ts'

/**
 * The alert as Alertmanager takes it (`POST /api/v2/alerts`), with the labels and texts that the rule would give it. After `endsAt`
 * it is resolved, also when nobody says so any more.
 */
export function postedAlert(
  { drill, cluster }: Wanted,
  { startsAt, endsAt }: { startsAt: Date; endsAt: Date },
): object {
  const { summary, description, first } = drillTexts
  return {
    labels: { alertname: drillAlert, cluster_name: cluster, severity: drillSeverity, [drillLabel]: drill },
    annotations: {
      summary: summary.replace('{{ $labels.cluster_name }}', cluster),
      description: `${description} First: ${first}.`,
      runbook_url: `docs/runbooks/${drillAlert}.md`,
    },
    startsAt: startsAt.toISOString(),
    endsAt: endsAt.toISOString(),
  }
}
