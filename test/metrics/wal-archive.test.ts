import t from 'tap'
import { WalCoverage } from '../../src/domain/coverage.ts'
import { Timelines } from '../../src/domain/timeline.ts'
import { defaultSegmentSize } from '../../src/domain/wal.ts'
import { createSnapshot } from '../../src/metrics/snapshot.ts'
import { writeWalArchive } from '../../src/metrics/wal-archive.ts'
import type { WalArchiveState } from '../../src/observe/wal-state.ts'
import { parseExposition } from '../support/exposition.ts'

const state: WalArchiveState = {
  directory: '/archive',
  systemIdentifier: '7712249072184253684',
  segmentSize: defaultSegmentSize,
  segments: 3,
  partials: 1,
  histories: 0,
  labels: 0,
  foreign: 0,
  bytes: 50_331_648,
  plainNames: [],
  partialNames: ['000000010000000000000004.partial'],
  newest: { name: '000000010000000000000003', at: new Date('2026-03-01T10:00:00Z') },
  coverage: new WalCoverage(defaultSegmentSize, new Timelines()),
  revision: 1,
  capacity: { freeBytes: 1_000, totalBytes: 2_000 },
}

async function seriesOf(archive: WalArchiveState | null): Promise<Record<string, number>> {
  const snapshot = createSnapshot('spavix')
  writeWalArchive(snapshot, archive)
  const series = parseExposition(await snapshot.text())
  return Object.fromEntries(series.map(({ name, value }) => [name.replace('lifeboat_wal_archive_', ''), value]))
}

t.test('the archive in the metrics', async (t) => {
  t.same(await seriesOf(state), {
    segments: 3,
    size_bytes: 50_331_648,
    free_bytes: 1_000,
    capacity_bytes: 2_000,
    last_segment_timestamp_seconds: Date.parse('2026-03-01T10:00:00Z') / 1000,
  })
  t.same(await seriesOf({ ...state, newest: null, capacity: null }), { segments: 3, size_bytes: 50_331_648 })
  t.same(await seriesOf(null), {}, 'not known is not zero')
})
