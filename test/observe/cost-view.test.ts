import t from 'tap'
import { systemClock } from '../../src/clock.ts'
import type { CostSettings } from '../../src/domain/cost-usage.ts'
import { renewal } from '../../src/domain/cost-work.ts'
import { WalCoverage } from '../../src/domain/coverage.ts'
import { monthSeconds } from '../../src/domain/prices.ts'
import { Timelines } from '../../src/domain/timeline.ts'
import type { Catalog } from '../../src/observe/catalog.ts'
import { costFacts } from '../../src/observe/cost-facts.ts'
import { createCostView } from '../../src/observe/cost-view.ts'
import { LeaseClaim } from '../../src/repository/lease.ts'
import { at, backup, catalogOf, defaultRetention, repositoryState, serverState } from '../support/catalog.ts'
import { MemoryStorage } from '../support/memory-storage.ts'
import { priceTable } from '../support/prices.ts'
import { clockState, storedState, walState } from '../support/wal-state.ts'

const segmentSize = 16 * 2 ** 20
const objects = (bytes: number) => ({ large: 1, largeBytes: bytes, small: 0, smallBytes: 0 })
const lsn = (segment: number) => `0/${(segment * segmentSize + 40).toString(16).toUpperCase()}`

/** Segments 1 to `last`, of a thousand bytes each as they are stored. */
function wal(last: number, rate: number | null): NonNullable<Catalog['wal']> {
  const coverage = new WalCoverage(segmentSize, new Timelines())
  coverage.segments(1).addRange(1, last)
  const stored = storedState('local', coverage)
  const systems = [...stored.systems].map(([id, system]) => {
    const storedBytes = (_: number, first: number, end: number) => Math.max(0, Math.min(end, last) - first + 1) * 1000
    return [id, { ...system, storedBytes }] as const
  })
  const clock = clockState({ lsn: BigInt(last * segmentSize), rate })
  return { ...walState(), stored: [{ ...stored, systems: new Map(systems) }], clock }
}

t.test('facts: what is there, and the newest of what goes on', async (t) => {
  const full = backup(0, { id: 'full', type: 'full', database: '', objects: objects(100), startLsn: lsn(2) })
  const first = backup(60, { id: 'i1', type: 'incremental', database: '', parent: 'full', objects: objects(20) })
  const last = { ...first, ...backup(120, { id: 'i2', parent: 'i1', objects: objects(30), startLsn: lsn(12) }) }
  const second = { ...last, type: 'incremental' as const, database: '' }
  const dropped = backup(10, { database: 'dropped', objects: objects(7) })
  const state = repositoryState('local', [full, first, second, dropped, backup(20, { objects: objects(50) })])
  const catalog = catalogOf({ repositories: [state], server: serverState(['app']), wal: wal(20, null) })
  const facts = costFacts(catalog, 'local', { hasWal: true })
  t.equal(facts?.backups.length, 5, 'all of it is billed')
  t.match(facts?.backups[0], { id: 'full', ageSeconds: 599 * 60 })
  t.same(
    facts?.groups.map(({ type, newest, verified }) => [type, newest.largeBytes, verified.largeBytes]),
    [
      ['dump', 50, 50],
      ['full', 100, 100],
      ['incremental', 30, 150],
    ],
  )
  // From segment 2 to segment 12 within two hours.
  const perMonth = monthSeconds / 7200
  t.match(facts?.wal, { objects: 20, bytes: 20_000 })
  t.ok(Math.abs((facts?.wal?.perMonth?.objects ?? 0) - 10 * perMonth) < 1e-6)
  t.ok(Math.abs((facts?.wal?.perMonth?.bytes ?? 0) - 11_000 * perMonth) < 1e3, 'as it is stored')
  t.equal(costFacts(catalog, 'other', { hasWal: true }), null)
  t.equal(costFacts({ ...catalog, wal: null }, 'local', { hasWal: false })?.wal, null)
  t.match(
    costFacts(catalog, 'local', { hasWal: false })?.wal,
    { objects: 20, perMonth: { objects: 0 } },
    'none comes any more',
  )
})

t.test('facts: how much WAL comes, without two physical backups', async (t) => {
  const of = (rate: number | null) => {
    const catalog = catalogOf({ repositories: [repositoryState('local', [])], wal: wal(20, rate) })
    return costFacts(catalog, 'local', { hasWal: true })?.wal?.perMonth
  }
  t.equal(of(null), null, 'nobody knows')
  t.match(of(segmentSize / 3600), { objects: 730, bytes: 730_000 }, 'a segment an hour, in a thousand bytes')
  t.match(of(0), { objects: 0, bytes: 0 })
})

t.test('the estimates of one catalog after the other', async (t) => {
  let asked = 0
  const settings: CostSettings = {
    ...{ retention: defaultRetention, walKeepForSeconds: 86_400, chainLimit: 8, bucket: null },
    rates: { dump: monthSeconds / 86_400, full: null, incremental: null },
    verification: { perMonth: null, level: 'data' },
    classes: { backups: 'STANDARD', wal: 'STANDARD', others: 'STANDARD' },
  }
  const counted = () => {
    asked += 1
    return settings
  }
  const prices = priceTable()
  const repositories = ['local', 'unseen'].map((name) => ({ name, prices, settings: counted }))
  const view = createCostView({ repositories, hasWal: false })
  const one = backup(10, { objects: objects(2 ** 30) })
  const state = repositoryState('local', [one])
  const catalog = catalogOf({ repositories: [state] })
  const [found, ...others] = view(catalog)
  t.same(others, [], 'what nobody has seen costs nobody knows what')
  t.match(found, { repository: 'local', today: { isWhole: true, dollars: 0.023 } })
  t.equal(view({ ...catalog, at: at(600.5) })[0], found, 'the same, and not made anew')
  t.equal(asked, 1)
  t.not(view({ ...catalog, at: at(602) })[0], found, 'after a minute')
  const more = repositoryState('local', [one, backup(20, { objects: objects(2 ** 30) })])
  t.match(
    view({ ...catalog, at: at(602), repositories: [more] }),
    [{ today: { dollars: 0.046 } }],
    'a new backup at once',
  )
  t.match(
    view({ ...catalog, at: at(603), repositories: [repositoryState('local', [])] }),
    [{ today: { dollars: null, isWhole: false } }],
    'an empty one is not free',
  )
  t.same(view(catalogOf()), [], 'one that is gone')
})

t.test('a renewal of the lease is as many requests as are estimated', async (t) => {
  const counts = { put: 0, get: 0, head: 0, list: 0 }
  class Counting extends MemoryStorage {
    override put(...args: Parameters<MemoryStorage['put']>) {
      counts.put += 1
      return super.put(...args)
    }
    override get(...args: Parameters<MemoryStorage['get']>) {
      counts.get += 1
      return super.get(...args)
    }
    override head(...args: Parameters<MemoryStorage['head']>) {
      counts.head += 1
      return super.head(...args)
    }
    override list(...args: Parameters<MemoryStorage['list']>) {
      counts.list += 1
      return super.list(...args)
    }
  }
  const place = { name: 'a', cluster: 'a', storage: new Counting(systemClock) }
  const claim = new LeaseClaim({ place, clock: systemClock, holder: () => 'me', ttlSeconds: 60 })
  await claim.look({ isKeeper: true })
  Object.assign(counts, { put: 0, get: 0, head: 0, list: 0 })
  t.match(await claim.look({ isKeeper: true }), { state: 'held' })
  // A bucket looks at what it has put.
  t.same(renewal, { puts: counts.put + counts.list, gets: counts.get + counts.head + counts.put })
})
