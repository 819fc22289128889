import t, { type Test } from 'tap'
import { WalCoverage } from '../../src/domain/coverage.ts'
import { parseHistory, Timelines } from '../../src/domain/timeline.ts'
import type { Catalog } from '../../src/observe/catalog.ts'
import { type RecoveryQuestion, seenSources } from '../../src/observe/recovery.ts'
import { planFromAll } from '../../src/observe/recovery-together.ts'
import { createWalView } from '../../src/observe/wal.ts'
import { at, backup, catalogOf, proof, repositoryState, serverState } from '../support/catalog.ts'
import { clockState, storedState } from '../support/wal-state.ts'
import { startHttp } from './harness.ts'

const size = 16 * 1024 * 1024

const full = backup(60, {
  id: '20260301T010000Z-full-abcdef',
  type: 'full',
  database: '',
  startTimeline: 1,
  startLsn: '0/2000028',
  lsn: '0/2000138',
  consistentAt: at(61),
})

/** Segments 2 to 9 are stored in `local`, but for those that are missing; each holds an hour. */
function situation(...missing: readonly number[]): Catalog {
  const coverage = new WalCoverage(size, new Timelines())
  coverage.segments(1).addRange(2, 9)
  for (const segment of missing) coverage.segments(1).remove(segment)
  const stored = [storedState('local', coverage)]
  const repositories = [repositoryState('local', [full, backup(0)]), repositoryState('offsite', [])]
  const clock = clockState({ lsn: 0xa000148n })
  const view = createWalView({ holes: [], clock: clockOfHours, hasArchive: false })
  const wal = view({ at: at(600), archive: null, stored, clock, slots: null, repositories })
  return catalogOf({ at: at(600), wal, repositories })
}

/** Everything up to hour n is in the WAL that ends with segment n. */
const clockOfHours = {
  covered: (_system: string, [bound]: readonly { readonly lsn: bigint }[]) => ({
    at: at(60 * Number((bound?.lsn ?? 0n) / BigInt(size))),
    isNewest: false,
  }),
}

interface Answer {
  readonly target: { readonly time: string | null; readonly note: string | null }
  readonly repositories: readonly {
    readonly repository: string
    readonly recoverable: boolean
    readonly plan: { readonly chain: readonly string[]; readonly to: string; readonly segments: number } | null
    readonly refused: { readonly code: string; readonly message: string } | null
    readonly windows: readonly object[]
  }[]
}

const plan = (seen: Catalog, question: RecoveryQuestion) =>
  planFromAll(seenSources(seen, question.repository, { clock: clockOfHours, restores: [] }), question)

async function ask(t: Test, catalog: Catalog, query: string): Promise<Answer> {
  const { call } = await startHttp(t, {
    catalog: () => catalog,
    planRecoveries: plan,
  })
  const answer = await call({ url: `/api/recoverability${query}` })
  t.equal(answer.status, 200, answer.text)
  return answer.json<Answer>()
}

t.test('which moments can be restored', async (t) => {
  const [local, offsite] = (await ask(t, situation(), '')).repositories
  t.match(local, {
    repository: 'local',
    recoverable: true,
    plan: { chain: [full.id], timeline: 1, from: '0/2000028', to: '0/A000000', segments: 8, backupBytes: 1000 },
    refused: null,
    windows: [{ from: at(61).toISOString(), until: at(600).toISOString(), backup: full.id, hole: null }],
  })
  t.match(offsite, { repository: 'offsite', recoverable: false, plan: null, windows: [] })
  t.equal(offsite?.refused?.code, 'not-recoverable')
})

t.test('a moment, a place, a hole', async (t) => {
  const one = async (catalog: Catalog, query: string) =>
    (await ask(t, catalog, `?repository=local&${query}`)).repositories[0]
  t.match(await one(situation(), `at=${at(300).toISOString()}`), { recoverable: true, plan: { chain: [full.id] } })
  t.match(await one(situation(), 'at=2026-03-01T07:30:00%2B02:00'), { recoverable: true }, 'of another zone')
  t.match(await one(situation(), `at=${at(30).toISOString()}`), { refused: { message: /no backup is as old/ } })
  t.match(await one(situation(), `at=${at(900).toISOString()}`), { refused: { message: /in the future/ } })
  t.match(await one(situation(), 'lsn=0/5000000'), { plan: { to: '0/5000000', segments: 3 } })
  t.match(await one(situation(), 'lsn=0/B000000'), { refused: { message: /ends at 0\/A000000/ } })
  const holed = situation(5)
  t.match(await one(holed, `at=${at(400).toISOString()}`), { refused: { message: /a segment is missing there/ } })
  t.match((await one(holed, `at=${at(200).toISOString()}`))?.windows, [
    { until: at(300).toISOString(), hole: '000000010000000000000005' },
  ])
  t.match(await one(situation(2), ''), { refused: { message: /that makes 20260301T010000Z-full-abcdef consistent/ } })
  t.match(await one(situation(), 'timeline=7'), { recoverable: false })
})

t.test('moments of every kind', async (t) => {
  const moment = async (text: string) => (await ask(t, situation(), `?at=${encodeURIComponent(text)}`)).target
  t.same(await moment('2026-03-01 07:30:00.123456+02'), {
    ...{ kind: 'time', time: '2026-03-01 05:30:00.123456+00', lsn: null, name: null, note: null },
  })
  t.match(await moment('2026-03-01 06:30 Europe/Berlin'), { time: '2026-03-01 05:30:00.000+00', note: null })
  t.match(await moment('2026-03-01 05:30'), { time: '2026-03-01 05:30:00.000+00', note: /taken for UTC/ })
  t.match((await ask(t, situation(), '')).target, { kind: 'latest', time: null })
  const { repositories } = await ask(t, situation(), `?at=${encodeURIComponent('2026-03-01 05:30:00.123456Z')}`)
  t.match(repositories[0], {
    plan: {
      ...{ stopTime: '2026-03-01 05:30:00.123456+00', postgres: '15', walBytesAreUpperBound: true },
      ...{ walBytes: 8 * size, fetchBytes: 1000 + 8 * size },
      disk: { data: 8_000_000, unpacked: 0 },
      time: { seconds: null, phases: { combine: 0, replay: null } },
    },
    warnings: [{ code: 'never-proven' }, { code: 'equal-times' }],
    nearest: null,
    missing: [],
  })
})

t.test('what could be had instead', async (t) => {
  const [local] = (await ask(t, situation(5), `?at=${at(400).toISOString()}`)).repositories
  t.match(local, {
    nearest: { before: { at: at(300).toISOString(), lsn: '0/5000000', timeline: 1, backup: full.id }, after: null },
    missing: [{ timeline: 1, first: '000000010000000000000005', last: '000000010000000000000005', segments: 1 }],
  })
  const [all] = (await ask(t, situation(5), '')).repositories
  t.match(all, { recoverable: true, plan: { to: '0/5000000' }, warnings: [{}, { code: 'ends-at-hole' }] })
  t.match(all, { missing: [{ first: '000000010000000000000005' }] })
})

t.test('restore points, another version, the cluster before an upgrade', async (t) => {
  const named = (await ask(t, situation(), '?name=before%20the%20release')).repositories[0]
  t.match(named, { recoverable: true, plan: { chain: [full.id] }, warnings: [{}, { code: 'name-unchecked' }] })
  const server = serverState([], { serverVersion: '18.1' })
  const [newer] = (await ask(t, { ...situation(), server }, '')).repositories
  t.match(newer, { plan: { postgres: '15' }, warnings: [{ code: 'never-proven' }, { code: 'other-major' }] })
  // The server has got another system identifier, of which nothing is stored yet.
  const { wal } = situation()
  const clock = clockState({ lsn: 0x1000028n, systemIdentifier: '7600000000000000001' })
  const upgraded = { ...situation(), wal: wal && { ...wal, clock } }
  const before = (await ask(t, upgraded, `?at=${at(300).toISOString()}`)).repositories[0]
  t.match(before, {
    systemIdentifier: full.systemIdentifier,
    plan: { chain: [full.id] },
    warnings: [{}, { code: 'other-cluster' }],
  })
  const all = (await ask(t, upgraded, '')).repositories[0]
  t.match(all, { recoverable: false, refused: { hint: /system identifier, 7500000000000000001/ } })
  t.match((await ask(t, upgraded, '?systemIdentifier=7500000000000000001')).repositories[0], { recoverable: true })
})

t.test('a moment after the fork, on the timeline that was left', async (t) => {
  const timelines = new Timelines([parseHistory(2, '1\t0/5000100\tno recovery target specified\n')])
  const coverage = new WalCoverage(size, timelines)
  coverage.segments(1).addRange(2, 8)
  coverage.segments(2).addRange(5, 9)
  const clock = clockState({ lsn: 0xa000148n, timeline: 2 })
  const forked = catalogOf({
    ...{ at: at(600), repositories: [repositoryState('local', [full])] },
    wal: { archive: null, stored: [storedState('local', coverage)], clock, repositories: [], slots: null },
  })
  const moment = `at=${at(420).toISOString()}`
  const [here] = (await ask(t, forked, `?${moment}`)).repositories
  t.match(here, { plan: { timeline: 2 }, warnings: [{}, {}, { code: 'other-timelines' }] })
  const [there] = (await ask(t, forked, `?${moment}&timeline=1`)).repositories
  t.match(there, { plan: { timeline: 1, to: '0/9000000' }, windows: [{ until: at(540).toISOString() }] })
})

t.test('moments that are none, or two', async (t) => {
  const { call } = await startHttp(t, { catalog: () => situation() })
  for (const [text, detail] of [
    ['2026-10-25 02:30 Europe/Berlin', /comes twice in Europe\/Berlin/],
    ['2026-03-29 02:30 Europe/Berlin', /does not exist in Europe\/Berlin/],
    ['2026-03-01T00:00:60Z', /leap seconds/],
    ['2026-03-01T00:00:00 01:00', /sign of the offset is missing/],
    ['infinity', /a word is no moment/],
    ['2026-03-01', /the time of day is missing/],
  ] as const) {
    const answer = await call({ url: `/api/recoverability?at=${encodeURIComponent(text)}` })
    t.equal(answer.status, 400, text)
    t.match(answer.text, detail)
    t.match(answer.text, /"code":"usage-invalid"/)
  }
})

t.test('a refuted backup is none, and what is not known is not promised', async (t) => {
  const catalog = situation()
  const refuted = repositoryState('local', [full], [proof(full, 120, { artifact: 'fail' })])
  const [local] = (await ask(t, { ...catalog, repositories: [refuted] }, '')).repositories
  t.match(local, { recoverable: false, refused: { message: /failed its verification/ } })
  const [early] = (await ask(t, { ...catalog, wal: null }, '')).repositories
  t.match(early, { recoverable: false, refused: { message: /not known yet/ } })
})

t.test('questions that make no sense', async (t) => {
  const { call } = await startHttp(t, {
    catalog: () => situation(),
    planRecoveries: plan,
  })
  for (const query of ['at=yesterday', 'at=', 'lsn=x', 'timeline=0', 'when=now', 'name='])
    t.equal((await call({ url: `/api/recoverability?${query}` })).status, 400, query)
  t.equal((await call({ url: '/api/recoverability?name=a&lsn=0/1' })).status, 400)
  t.equal((await call({ url: '/api/recoverability?repository=nowhere' })).status, 404)
})
