import type { WalArchiveState } from '../observe/wal-state.ts'
import type { MetricWriter } from './snapshot.ts'

/** The archive directory; null: there is none, or it was never seen. */
export function writeWalArchive(metrics: MetricWriter, archive: WalArchiveState | null): void {
  if (archive === null) return
  metrics.set('lifeboat_wal_archive_segments', {}, archive.segments)
  metrics.set('lifeboat_wal_archive_size_bytes', {}, archive.bytes)
  metrics.set('lifeboat_wal_archive_free_bytes', {}, archive.capacity?.freeBytes ?? null)
  metrics.set('lifeboat_wal_archive_capacity_bytes', {}, archive.capacity?.totalBytes ?? null)
  metrics.set('lifeboat_wal_archive_last_segment_timestamp_seconds', {}, archive.newest?.at ?? null)
}
