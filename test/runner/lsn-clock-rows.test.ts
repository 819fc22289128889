import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import t from 'tap'
import { systemClock } from '../../src/clock.ts'
import { openHistory } from '../../src/runner/history.ts'
import { migrate } from '../../src/runner/history-schema.ts'
import { type KeptRun, LsnClockRows } from '../../src/runner/lsn-clock-rows.ts'
import { keptLog } from '../support/log.ts'

const start = Date.UTC(2026, 2, 1)
const direct = { read: <T>(work: () => T): T => work(), write: <T>(work: () => T): T => work() }

function run(number: number, fields: Partial<KeptRun> = {}): KeptRun {
  const at = start + number * 5000
  const lsn = 0x1000000n + BigInt(number) * 100n
  return {
    ...{ systemIdentifier: '7', timeline: 1, state: `s${number}`, lsn, lastLsn: lsn + 60n, segmentSize: 2 ** 24 },
    ...{ at, leastAt: at, wentBack: false },
    ...fields,
  }
}

function rowsInMemory() {
  const db = new DatabaseSync(':memory:')
  migrate(db)
  const count = (where = 'true') => Number(db.prepare(`select count(*) as n from lsn_clock where ${where}`).get()?.n)
  return { db, rows: new LsnClockRows(db, direct), count }
}

t.test('kept over restarts, also places and moments that are large', async (t) => {
  const open = () => openHistory({ file: join(t.testdirName, 'lifeboat.db'), clock: systemClock, log: keptLog().log })
  t.testdir({})
  const first = open()
  t.equal(first.wal.lsnClock.newest(), null)
  const large = run(2, {
    lsn: 2n ** 64n - 8n,
    lastLsn: 2n ** 64n - 1n,
    timeline: 2 ** 32 - 1,
    wentBack: true,
    leastAt: 7,
  })
  const seq = first.wal.lsnClock.save([run(1), large], null, null)
  first.close()
  const second = open()
  t.same(second.wal.lsnClock.newest(), { ...large, seq })
  t.match(second.wal.lsnClock.newestCovered('7', [{ timeline: 2 ** 32 - 1, lsn: 2n ** 64n - 8n }]), {
    seq,
    at: large.at,
  })
  t.equal(
    second.wal.lsnClock.newestCovered('7', [{ timeline: 2 ** 32 - 1, lsn: 2n ** 63n }]),
    null,
    'its order is that of numbers',
  )
  second.close()
})

t.test('the newest that is covered is one step in an index', async (t) => {
  const { db, rows } = rowsInMemory()
  rows.save(
    Array.from({ length: 5000 }, (_, index) => run(index)),
    null,
    null,
  )
  t.equal(rows.newestCovered('7', [{ timeline: 1, lsn: run(1234).lsn + 99n }])?.at, run(1234).at)
  t.equal(rows.newestCovered('7', [{ timeline: 1, lsn: 1n }]), null)
  t.equal(rows.newestCovered('8', [{ timeline: 1, lsn: run(9).lsn }]), null, 'another cluster')
  const plan = db
    .prepare(
      `explain query plan select seq, at from lsn_clock where system_identifier = '7' and timeline = 1 and lsn <= 'A' order by lsn desc, seq desc limit 1`,
    )
    .all()
  t.match(plan, [
    { detail: /SEARCH lsn_clock USING INDEX lsn_clock_by_place \(system_identifier=\? AND timeline=\? AND lsn<\?\)/ },
  ])
  t.equal(plan.length, 1, 'nothing is sorted')
})

t.test('thinned out', async (t) => {
  const { db, rows, count } = rowsInMemory()
  const perDay = 86_400 / 5
  const days = 12
  const all = Array.from({ length: days * perDay }, (_, index) => run(index, index === 100 ? { wentBack: true } : {}))
  rows.save(all, null, null)
  const now = start + days * 86_400_000
  const covered = (number: number) => rows.newestCovered('7', [{ timeline: 1, lsn: run(number).lsn }])?.at ?? 0
  // A step at a time.
  for (let step = 0; step < 250; step += 1) rows.save([], null, now)
  const within = (from: number, to: number) =>
    count(`at >= ${now - from * 86_400_000} and at < ${now - to * 86_400_000}`)
  t.equal(within(2, 0), 2 * perDay, 'every one for two days')
  t.equal(within(9, 2), 7 * 24 * 60, 'one for each minute')
  t.equal(within(12, 9), 3 * 24 * 12 + 1, 'then one for each five, and where the clock was set back')
  for (const number of [17, 100, 5000, 60_000, 150_000, 200_000]) {
    t.ok(covered(number) <= run(number).at && covered(number) > run(number).at - 300_000, `${number} is a little older`)
  }
  const left = count()
  const restarted = new LsnClockRows(db, direct)
  for (let step = 0; step < 50; step += 1) restarted.save([], null, now)
  t.equal(count(), left, 'a restart begins anew, and finds nothing to do')
  // A clock that is years ahead for a moment.
  for (let step = 0; step < 250; step += 1) rows.save([], null, now + 5 * 366 * 86_400_000)
  t.equal(count(), 1000, 'the newest stay')
})

t.test('a crash takes what was never on the disk', async (t) => {
  const { rows, count } = rowsInMemory()
  rows.save([run(1), run(2), run(3), run(4, { timeline: 2, lsn: run(9).lsn })], null, null)
  rows.save([run(5, { lsn: run(2).lsn - 1n, state: null })], null, null)
  t.equal(count(), 5, 'a standby may lag behind')
  rows.save([run(6, { lsn: run(2).lsn - 1n })], null, null)
  t.equal(count(), 4)
  t.equal(rows.newestCovered('7', [{ timeline: 1, lsn: run(3).lsn }])?.at, run(6).at)
})

t.test('where the clock was set back', async (t) => {
  const { rows } = rowsInMemory()
  const [one = 0, two = 0] = [run(1), run(2, { wentBack: true, leastAt: 5 })].map((each) =>
    rows.save([each], null, null),
  )
  t.equal(rows.leastAfter('7', one), 5)
  t.equal(rows.leastAfter('7', two), null)
  t.equal(rows.leastAfter('8', 0), null)
  rows.save([run(2, { leastAt: 3, at: 9, wentBack: true }), run(3)], two, null)
  t.equal(rows.leastAfter('7', one), 3)
})
