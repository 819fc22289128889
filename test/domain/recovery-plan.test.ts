import fc from 'fast-check'
import t from 'tap'
import { WalCoverage, type WalPosition } from '../../src/domain/coverage.ts'
import {
  type PlanBackup,
  type PlanOptions,
  planRecovery,
  type RecoveryTarget,
  recoveryWindows,
  tryPlan,
} from '../../src/domain/recovery-plan.ts'
import { parseHistory, Timelines } from '../../src/domain/timeline.ts'

const size = 2 ** 20
const at = (minutes: number) => new Date(Date.UTC(2026, 2, 1) + minutes * 60_000)
const lsn = (segment: number, offset = 0) => BigInt(segment) * BigInt(size) + BigInt(offset)

/** A backup that begins in a segment and is consistent at the end of it; segment n is written in minute n. */
function backup(id: string, segment: number, fields: Partial<PlanBackup> = {}): PlanBackup {
  return {
    id,
    type: 'full',
    parent: null,
    start: { timeline: 1, lsn: lsn(segment, 40) },
    stop: { timeline: 1, lsn: lsn(segment, 4096) },
    finishedAt: at(segment + 0.1),
    storedBytes: 1000,
    plainBytes: 4000,
    sourceBytes: 5000,
    serverVersion: '17.2',
    isRefuted: false,
    isProven: true,
    otherCluster: null,
    ...fields,
  }
}

function options(fields: Partial<PlanOptions> & { readonly segments: readonly (readonly [number, number])[] }) {
  const coverage = new WalCoverage(size, fields.coverage?.timelines ?? new Timelines())
  for (const [first, last] of fields.segments) coverage.segments(1).addRange(first, last)
  const made: PlanOptions = {
    backups: [backup('a', 10), backup('b', 20)],
    coverage,
    timeline: 1,
    target: { kind: 'latest' },
    backup: null,
    // Segment n holds minute n.
    coveredUntil: ({ lsn: end }: WalPosition) => at(Number(end / BigInt(size))),
    now: at(100),
    ...fields,
  }
  return { ...made, coverage }
}

function refusal(of: PlanOptions): string {
  const result = tryPlan(of)
  return 'refused' in result ? `${result.refused.code}: ${result.refused.message} (${result.refused.hint})` : 'planned'
}

t.test('the newest backup before the moment, and WAL as far as it is needed', async (t) => {
  const all = options({ segments: [[10, 40]] })
  const ids = (target: RecoveryTarget) => planRecovery({ ...all, target }).chain.map(({ id }) => id)
  t.match(planRecovery(all), { stop: { kind: 'end' }, to: { lsn: lsn(41) }, segments: 21, backupBytes: 1000 })
  t.same(ids({ kind: 'latest' }), ['b'])
  t.same(ids({ kind: 'time', at: at(15) }), ['a'])
  t.same(ids({ kind: 'time', at: at(20) }), ['a'], 'the newer one was not consistent yet')
  t.same(ids({ kind: 'time', at: at(30) }), ['b'])
  t.same(ids({ kind: 'lsn', lsn: lsn(20, 4095) }), ['a'])
  t.same(ids({ kind: 'lsn', lsn: lsn(20, 4096) }), ['b'])
  t.same(ids({ kind: 'name', name: 'before the release' }), ['b'])
  t.match(planRecovery({ ...all, target: { kind: 'immediate' } }), {
    stop: { kind: 'immediate' },
    to: { lsn: lsn(20, 4096) },
    segments: 1,
  })
  t.match(planRecovery({ ...all, target: { kind: 'lsn', lsn: lsn(25, 5) } }), { to: { lsn: lsn(25, 5) }, segments: 6 })
  t.same(
    planRecovery({ ...all, backup: 'a' }).chain.map(({ id }) => id),
    ['a'],
    'if it is asked for',
  )
  t.throws(() => planRecovery({ ...all, backup: 'x' }), { code: 'not-found' })
})

t.test('what cannot be restored is refused, and says why', async (t) => {
  const all = options({ segments: [[10, 40]] })
  t.match(
    refusal({ ...all, target: { kind: 'time', at: at(5) } }),
    /^not-recoverable: no backup is as old as that: .*00:10:06/,
  )
  t.match(refusal({ ...all, target: { kind: 'time', at: at(200) } }), /is in the future/)
  t.match(
    refusal({ ...all, target: { kind: 'time', at: at(60) } }),
    /after what is known to be stored: everything up to 2026-03-01T00:41/,
  )
  t.match(
    refusal({ ...all, target: { kind: 'lsn', lsn: lsn(41, 1) } }),
    /the WAL that is stored ends at 0\/2900000 on timeline 1/,
  )
  t.equal(refusal({ ...all, target: { kind: 'lsn', lsn: lsn(41) } }), 'planned')
  t.match(refusal({ ...all, backups: [] }), /no physical backup is there/)
  const unknown = { ...all, coveredUntil: () => null }
  t.match(planRecovery({ ...unknown, target: { kind: 'time', at: at(60) } }), { stop: { mayEnd: false } })
  const holed = options({
    segments: [
      [10, 24],
      [27, 40],
    ],
  })
  t.match(
    refusal({ ...holed, target: { kind: 'time', at: at(30) } }),
    /up to 2026-03-01T00:25.*2 segments are missing there/,
  )
  t.equal(refusal({ ...holed, target: { kind: 'time', at: at(25) } }), 'planned', 'before the hole')
  const late = options({
    segments: [
      [10, 19],
      [21, 40],
    ],
  })
  t.same(
    planRecovery(late).chain.map(({ id }) => id),
    ['a'],
    'one that the WAL does not make consistent is none',
  )
  t.match(
    refusal({ ...late, backups: [backup('b', 20)] }),
    /makes b consistent is not stored.*a segment is missing there/,
  )
})

t.test('microseconds are carried on, and nothing is promised for them', async (t) => {
  const all = options({ segments: [[10, 40]] })
  t.match(planRecovery({ ...all, target: { kind: 'time', at: at(30), micros: 7 } }), {
    stop: { kind: 'time', at: at(30), text: '2026-03-01 00:30:00.000007+00', mayEnd: true },
  })
  // Everything before minute 41 is there, and not a microsecond more.
  t.equal(refusal({ ...all, target: { kind: 'time', at: at(41) } }), 'planned')
  t.match(refusal({ ...all, target: { kind: 'time', at: at(41), micros: 1 } }), /00:41:00.000001\+00 is after what/)
})

t.test('what can be restored instead', async (t) => {
  const backups = [backup('a', 10), backup('b', 30)]
  const segments = [
    [10, 19],
    [22, 24],
    [26, 40],
  ] as const
  const all = options({ segments, backups })
  const ask = (target: RecoveryTarget) => tryPlan({ ...all, target })
  const a = { at: at(20), place: { lsn: lsn(20) }, backup: 'a' }
  const b = { at: at(30.1), place: { lsn: lsn(30, 4096) }, backup: 'b' }
  const holes = [
    { timeline: 1, first: 20, last: 21 },
    { timeline: 1, first: 25, last: 25 },
  ]
  t.match(ask({ kind: 'time', at: at(23) }), { obstacle: { before: a, after: b, missing: holes } })
  t.match(
    refusal({ ...all, target: { kind: 'time', at: at(23) } }),
    /up to 2026-03-01T00:20:00.000Z, and again from 2026-03-01T00:30:06.000Z on; ask for/,
  )
  t.match(ask({ kind: 'lsn', lsn: lsn(23) }), { obstacle: { before: a, after: b, missing: holes } })
  t.match(ask({ kind: 'time', at: at(5) }), { obstacle: { before: null, after: { at: at(10.1) }, missing: [] } })
  t.match(
    refusal({ ...all, target: { kind: 'time', at: at(5) } }),
    /it can be recovered from 2026-03-01T00:10:06.000Z on/,
  )
  t.match(ask({ kind: 'time', at: at(200) }), { obstacle: { before: { at: at(41), backup: 'b' }, after: null } })
  const silent = { ...all, coveredUntil: () => null, target: { kind: 'lsn', lsn: lsn(23) } } as const
  t.match(refusal(silent), /up to 0\/1400000 on timeline 1 \(nobody noted when that was\), and again/)
  t.notMatch(refusal({ ...all, backup: 'a', target: { kind: 'time', at: at(23) } }), /can be recovered up to/)
})

t.test('chains', async (t) => {
  const full = backup('full', 10)
  const first = backup('first', 20, { type: 'incremental', parent: 'full' })
  const second = backup('second', 30, { type: 'incremental', parent: 'first' })
  const all = options({ segments: [[10, 40]], backups: [second, first, full] })
  const plan = planRecovery(all)
  t.same(
    plan.chain.map(({ id }) => id),
    ['full', 'first', 'second'],
  )
  t.equal(plan.backupBytes, 3000)
  t.match(plan.from, { lsn: lsn(30, 40) }, 'WAL from the last one on is enough')
  const broken = [second, full]
  t.same(
    planRecovery({ ...all, backups: broken }).chain.map(({ id }) => id),
    ['full'],
  )
  t.match(refusal({ ...all, backups: [second] }), /nothing to begin from: first, on which second builds, is not there/)
  const refuted = [second, { ...first, isRefuted: true }, full]
  t.same(
    planRecovery({ ...all, backups: refuted }).chain.map(({ id }) => id),
    ['full'],
  )
  const upgraded = [second, { ...first, otherCluster: '7400000000000000001' }, full]
  t.match(
    refusal({ ...all, backups: upgraded, backup: 'second' }),
    /first, on which second builds, is of another cluster, 7400000000000000001: pg_upgrade/,
  )
  t.match(refusal({ ...all, backups: upgraded, backup: 'first' }), /first is of another cluster/)
  t.same(
    planRecovery({ ...all, backups: upgraded }).chain.map(({ id }) => id),
    ['full'],
  )
  const mixed = [second, { ...first, serverVersion: '18.0' }, full]
  t.match(
    refusal({ ...all, backups: mixed, backup: 'first' }),
    /first is of PostgreSQL 18, and full, on which it builds, of 17/,
  )
  const circle = [{ ...first, parent: 'second' }, second]
  t.match(refusal({ ...all, backups: circle }), /builds on itself, and 1 more/)
})

t.test('along the timelines', async (t) => {
  // Timeline 2 left 1 in segment 25, and 3 left 1 in segment 15: twice forked.
  const timelines = new Timelines([
    parseHistory(2, '1\t0/1900100\tno recovery target specified\n'),
    parseHistory(3, '1\t0/F00100\tbefore 2026-03-01\n'),
  ])
  const coverage = new WalCoverage(size, timelines)
  coverage.segments(1).addRange(10, 30)
  coverage.segments(2).addRange(25, 33)
  coverage.segments(3).addRange(15, 17)
  const all = { ...options({ segments: [] }), coverage }
  t.match(planRecovery({ ...all, timeline: 2 }), { chain: [{ id: 'b' }], to: { timeline: 2, lsn: lsn(34) } })
  t.match(planRecovery({ ...all, timeline: 3 }), { chain: [{ id: 'a' }], to: { timeline: 3, lsn: lsn(18) } })
  t.match(planRecovery({ ...all, timeline: 1 }), { chain: [{ id: 'b' }], to: { timeline: 1, lsn: lsn(31) } })
  t.match(refusal({ ...all, timeline: 3, backup: 'b' }), /b is not on the way to timeline 3/)
})

t.test('windows', async (t) => {
  const all = options({
    segments: [
      [10, 15],
      [18, 40],
    ],
    backups: [backup('a', 10), backup('b', 12), backup('c', 20)],
  })
  t.match(recoveryWindows(all), [
    { backup: 'a', from: at(10.1), end: { lsn: lsn(16) }, hole: { first: 16, last: 17 } },
    { backup: 'c', from: at(20.1), end: { lsn: lsn(41) }, hole: null },
  ])
  t.same(recoveryWindows({ ...all, backups: [] }), [])
})

t.test('whatever is planned has all its WAL, and what is refused has not', async () => {
  const places = fc.record({
    missing: fc.uniqueArray(fc.integer({ min: 10, max: 40 }), { maxLength: 6 }),
    starts: fc.uniqueArray(fc.integer({ min: 10, max: 38 }), { maxLength: 5 }),
    minute: fc.integer({ min: 5, max: 45 }),
  })
  fc.assert(
    fc.property(places, ({ missing, starts, minute }) => {
      const all = options({ segments: [[10, 40]], backups: starts.map((start) => backup(`b${start}`, start)) })
      const { coverage } = all
      for (const segment of missing) coverage.segments(1).remove(segment)
      const result = tryPlan({ ...all, target: { kind: 'time', at: at(minute) } })
      // By hand: some backup that is consistent before the moment, and every segment from it up to the moment.
      const works = starts.some((start) => {
        const until = Math.max(start, minute - 1)
        return start + 0.1 <= minute && minute <= 41 && !missing.some((one) => one >= start && one <= until)
      })
      if ('refused' in result) return !works
      const [{ start }] = result.plan.chain as readonly [PlanBackup]
      const first = Number(start.lsn / BigInt(size))
      return works && !missing.some((one) => one >= first && one < minute)
    }),
    { numRuns: 2000 },
  )
})

t.test('of a chain and what was put together from it, what was put together', async (t) => {
  const chain = [backup('a', 10), backup('b', 20, { type: 'incremental', parent: 'a' })]
  const made = backup('made', 20)
  for (const backups of [
    [...chain, made],
    [made, ...chain],
  ])
    t.same(
      planRecovery(options({ backups, segments: [[10, 30]] })).chain.map(({ id }) => id),
      ['made'],
    )
})
