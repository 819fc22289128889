import { archiverStates } from '../domain/archiver.ts'
import type { Catalog } from '../observe/catalog.ts'
import type { MetricWriter } from './snapshot.ts'

/** How the server's archiver fares: as old as its collector says. */
export function writeArchiver(metrics: MetricWriter, { archiver }: Catalog): void {
  if (archiver === null) return
  for (const state of archiverStates) {
    metrics.set('lifeboat_wal_archiver_state', { state }, archiver.state === null ? null : archiver.state === state)
  }
  metrics.set('lifeboat_wal_archived_segments_total', {}, archiver.archived)
  metrics.set('lifeboat_wal_archive_failures_total', {}, archiver.failed)
}
