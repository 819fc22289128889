import t from 'tap'
import { writeShipping } from '../../src/metrics/shipping.ts'
import { createSnapshot } from '../../src/metrics/snapshot.ts'
import type { RepositoryShipping } from '../../src/observe/shipping-state.ts'

const one: RepositoryShipping = {
  repository: 'offsite',
  waiting: null,
  shippedSegments: 7,
  shippedBytes: 1000,
  queued: 0,
  inFlight: 0,
  lastSuccessAt: null,
  failures: 2,
  failure: null,
  quarantined: new Map([
    ['foreign', 3],
    ['damaged', 1],
  ]),
  undecided: 5,
  delaySeconds: 1.5,
}
const values = async (...states: Parameters<typeof writeShipping>[1][]) => {
  const snapshot = createSnapshot('prod')
  for (const state of states) writeShipping(snapshot, state)
  const text = await snapshot.text()
  return text.split('\n').filter((line) => line.includes('{cluster_name="prod",repository='))
}

t.test('how shipping fares', async (t) => {
  t.same(
    (await values({ repositories: [one, { ...one, repository: 'new', delaySeconds: null }], pruning: null })).filter(
      (line) => line.includes('offsite') || line.includes('delay'),
    ),
    [
      'lifeboat_wal_shipped_segments_total{cluster_name="prod",repository="offsite"} 7',
      'lifeboat_wal_ship_failures_total{cluster_name="prod",repository="offsite"} 2',
      'lifeboat_wal_quarantined_files{cluster_name="prod",repository="offsite"} 4',
      'lifeboat_wal_ship_delay_seconds{cluster_name="prod",repository="offsite"} 1.5',
    ],
    'what is not known has no series',
  )
  t.same(await values(null), [], 'nor has anything where nothing is shipped')
})
