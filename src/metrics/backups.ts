import type { Catalog } from '../observe/catalog.ts'
import type { Findings } from './findings.ts'
import type { MetricWriter } from './snapshot.ts'

/** States of folders that hold no backup and will not become one by waiting. */
const unusableStates = ['incomplete', 'invalid'] as const

/** Whether the newest backup of its group is unusual; null where nobody knows. `Growth` is one. */
export interface UnusualBackups {
  of(repository: string, backupId: string): { readonly isUnusual: boolean | null } | null
}

/** The newest complete backups, the newest failures, and the inventory. */
export function writeBackups(
  metrics: MetricWriter,
  { backupFailures, repositories, watches }: Catalog,
  { newest, inventories, deviations }: Findings,
  growth?: UnusualBackups,
): void {
  for (const { repository, backup } of newest) {
    const labels = { repository, backup_type: backup.type, database: backup.database }
    metrics.set('lifeboat_backup_last_success_timestamp_seconds', labels, backup.finishedAt)
    metrics.set('lifeboat_backup_last_duration_seconds', labels, backup.durationSeconds)
    metrics.set('lifeboat_backup_last_size_bytes', labels, backup.storedBytes)
    metrics.set('lifeboat_backup_last_source_bytes', labels, backup.sourceBytes)
    metrics.set('lifeboat_backup_unusual', labels, growth?.of(repository, backup.id)?.isUnusual ?? null)
  }
  for (const { repository, backup, size } of deviations) {
    const labels = { repository, backup_type: backup.type, database: backup.database }
    metrics.set('lifeboat_backup_deviation_ratio', labels, size.ratio)
  }
  const failures = backupFailures.toSorted((a, b) => a.at.getTime() - b.at.getTime())
  for (const { backupType, database, at } of failures) {
    metrics.set('lifeboat_backup_last_failure_timestamp_seconds', { backup_type: backupType, database }, at)
  }
  for (const { repository, type, count, storedBytes, oldestAt } of inventories) {
    const labels = { repository, backup_type: type }
    metrics.set('lifeboat_backups', labels, count)
    metrics.set('lifeboat_backups_size_bytes', labels, storedBytes)
    metrics.set('lifeboat_backup_oldest_timestamp_seconds', labels, oldestAt)
  }
  for (const { name: repository, files } of watches) {
    for (const [state, count] of files) metrics.set('lifeboat_external_files', { repository, state }, count)
  }
  for (const { name: repository, unusable } of repositories) {
    for (const state of unusableStates) {
      const count = unusable.filter((backup) => backup.state === state).length
      metrics.set('lifeboat_backups_unusable', { repository, state }, count)
    }
  }
}
