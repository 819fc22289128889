import { verdicts } from '../domain/proof.ts'
import type { Findings } from './findings.ts'
import type { MetricWriter } from './snapshot.ts'

/** What is proven, and how the last verification at each level went. */
export function writeVerification(metrics: MetricWriter, { proven, verifications }: Findings): void {
  for (const { repository, backup } of proven) {
    const labels = { repository, backup_type: backup.type, database: backup.database }
    metrics.set('lifeboat_backup_proven_timestamp_seconds', labels, backup.finishedAt)
  }
  for (const latest of verifications) {
    const { repository, type, database, level } = latest
    const labels = { repository, backup_type: type, database, level }
    metrics.set('lifeboat_verification_last_success_timestamp_seconds', labels, latest.lastPassAt)
    metrics.set('lifeboat_verification_last_duration_seconds', labels, latest.durationSeconds)
    for (const result of verdicts) {
      metrics.set('lifeboat_verification_last_result', { ...labels, result }, latest.verdict === result)
    }
  }
}
