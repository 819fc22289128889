import type { Catalog } from '../observe/catalog.ts'
import type { MetricWriter } from './snapshot.ts'
import { writeWalArchive } from './wal-archive.ts'

/** The WAL in the archive and in each repository that was looked at. */
export function writeWal(metrics: MetricWriter, { wal }: Catalog, predicted: ReadonlyMap<string, number>): void {
  writeWalArchive(metrics, wal?.archive ?? null)
  for (const one of wal?.repositories ?? []) {
    const { repository } = one
    metrics.set('lifeboat_wal_segments', { repository }, one.segments)
    metrics.set('lifeboat_wal_size_bytes', { repository }, one.bytes)
    metrics.set('lifeboat_wal_backlog_bytes', { repository }, one.backlogBytes)
    metrics.set('lifeboat_wal_missing_segments', { repository }, one.missingSegments)
    metrics.set('lifeboat_recovery_exposure_bytes', { repository }, one.exposureBytes)
    metrics.set('lifeboat_recovery_predicted_seconds', { repository }, predicted.get(repository) ?? null)
  }
}
