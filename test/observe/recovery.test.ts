import t from 'tap'
import { WalCoverage, type WalPosition } from '../../src/domain/coverage.ts'
import type { RecoveryTarget } from '../../src/domain/recovery-plan.ts'
import type { ClockBound } from '../../src/domain/recovery-point.ts'
import { parseHistory, Timelines } from '../../src/domain/timeline.ts'
import type { BackupSummary } from '../../src/observe/catalog.ts'
import { planFrom, type RecoveryQuestion, type RecoverySource } from '../../src/observe/recovery.ts'
import type { StoredWalState } from '../../src/observe/wal-state.ts'
import { at, backup, proof, repositoryState } from '../support/catalog.ts'
import { storedState } from '../support/wal-state.ts'

const size = 16 * 2 ** 20
const system = '7500000000000000001'
const former = '7400000000000000001'
const places = (segment: number) => BigInt(segment) * BigInt(size)

/** A full backup that begins in a segment, of which each holds an hour. */
function full(segment: number, fields: Partial<BackupSummary> = {}): BackupSummary {
  const digits = segment.toString(16).toUpperCase()
  return backup(60 * segment, {
    ...{ type: 'full', database: '', id: `2026030${segment}T000000Z-full-abcdef`, serverVersion: '17.2' },
    ...{ startLsn: `0/${digits}000028`, lsn: `0/${digits}000138`, finishedAt: at(60 * segment + 1) },
    ...fields,
  })
}

/** Everything up to hour n is in the WAL that ends with segment n, on the newest timeline that counts. */
const hours = {
  covered: (_: string, [bound]: readonly ClockBound[]) =>
    bound === undefined ? null : { at: at(60 * Number(bound.lsn / BigInt(size))), isNewest: false },
  reached: (_: string, bounds: readonly ClockBound[], wanted: Date): WalPosition | null => {
    const lsn = places(Math.ceil((wanted.getTime() - at(0).getTime()) / 3_600_000))
    return { timeline: bounds[0]?.timeline ?? 1, lsn }
  },
}

interface Ground {
  readonly segments?: Readonly<Record<number, readonly (readonly [number, number])[]>>
  readonly histories?: Readonly<Record<number, string>>
  readonly backups?: readonly BackupSummary[]
  readonly source?: Partial<RecoverySource>
}

function ground({ segments = { 1: [[2, 9]] }, histories = {}, backups = [full(2)], source = {} }: Ground = {}) {
  const timelines = new Timelines(Object.entries(histories).map(([id, text]) => parseHistory(Number(id), text)))
  const coverage = new WalCoverage(size, timelines)
  for (const [timeline, ranges] of Object.entries(segments)) {
    for (const [first, last] of ranges) coverage.segments(Number(timeline)).addRange(first, last)
  }
  const made: RecoverySource = {
    ...{ repository: repositoryState('local', backups), stored: storedState('local', coverage) },
    ...{ server: { systemIdentifier: system, timeline: 1 }, serverVersion: '17.2', clock: hours, restores: [] },
    now: at(600),
    ...source,
  }
  return (target: RecoveryTarget, question: Partial<RecoveryQuestion> = {}) =>
    planFrom(made, { target, timeline: null, repository: null, backup: null, ...question })
}

const hour = (n: number): RecoveryTarget => ({ kind: 'time', at: at(60 * n) })
const latest: RecoveryTarget = { kind: 'latest' }
const codes = ({ warnings }: { readonly warnings: readonly { readonly code: string }[] }) =>
  warnings.map(({ code }) => code)

t.test('what a moment takes is counted up to that moment', async (t) => {
  t.match(ground()(hour(5)), {
    plan: { segments: 8, stop: { kind: 'time', text: '2026-03-01 05:00:00.000+00', mayEnd: true } },
    costs: { segments: 3, stopsAt: { lsn: places(5) } },
    windows: [{ from: at(121), until: at(600), backup: full(2).id, hole: null }],
  })
})

t.test('nobody noted when the WAL was written', async (t) => {
  const found = ground({ source: { clock: null } })(hour(5))
  t.match(found, { plan: { stop: { mayEnd: false } }, costs: { segments: 8 } })
  t.same(codes(found), ['never-proven', 'time-unknown', 'equal-times'])
  t.match(found.windows, [{ until: null }])
})

t.test('a backup that a restore has proven', async (t) => {
  const proven = repositoryState('local', [full(2)], [proof(full(2), 300, { artifact: 'pass', restore: 'pass' })])
  t.same(codes(ground({ source: { repository: proven } })(latest)), [])
})

t.test('a hole: before it, in it, after it, and all that there is', async (t) => {
  const segments = { 1: [[2, 4] as const, [6, 9] as const] }
  const ask = ground({ segments, backups: [full(2), full(7)] })
  t.match(ask(hour(5)), { plan: { chain: [{ id: full(2).id }] } })
  t.match(ask(hour(6)), {
    plan: null,
    refused: { hint: /up to 2026-03-01T05:00:00.000Z, and again from 2026-03-01T07:01:00.000Z on/ },
    obstacle: { before: { at: at(300) }, after: { at: at(421) } },
    missing: [{ first: 5, last: 5 }],
  })
  t.match(ask(hour(8)), { plan: { chain: [{ id: full(7).id }] }, missing: [] })
  const early = ground({ segments })(latest)
  t.match(early, { plan: { to: { lsn: places(5) } }, missing: [{ first: 5, last: 5 }] })
  t.ok(codes(early).includes('ends-at-hole'))
})

t.test('restore points are looked for while the WAL is replayed', async (t) => {
  const found = ground({ backups: [full(2), full(7)] })({ kind: 'name', name: 'before the release' })
  t.match(found, { plan: { stop: { kind: 'name' }, chain: [{ id: full(7).id }] } })
  t.match(
    found.warnings.find(({ code }) => code === 'name-unchecked'),
    { message: /made after 2026-03-01T07:01:00.000Z.*error at the end of the WAL.*older backup; of several the first/ },
  )
})

t.test('timelines: 2 left 1 within segment 5, and 1 was written on', async (t) => {
  const histories = { 2: '1\t0/5000100\tno recovery target specified\n' }
  const segments = { 1: [[2, 8] as const], 2: [[5, 9] as const] }
  const server = { systemIdentifier: system, timeline: 2 }
  const ask = ground({ histories, segments, source: { server } })
  const found = ask(hour(7))
  t.match(found, { plan: { timeline: 2, to: { timeline: 2, lsn: places(10) } } })
  t.match(
    found.warnings.find(({ code }) => code === 'other-timelines'),
    { message: /timeline 2; what was written on timeline 1 after 0\/5000100 is not in it/ },
  )
  const old = ask(hour(7), { timeline: 1 })
  t.match(old, { plan: { timeline: 1, to: { timeline: 1, lsn: places(9) } } }, 'a moment after the fork')
  t.notOk(codes(old).includes('other-timelines'), 'it was named')
  t.match(ask(hour(3)), { plan: { timeline: 2 } }, 'before the fork')
  t.match(ask(hour(7), { timeline: 3 }), { refused: { message: /is not on the way to timeline 3/ } })
  t.match(ask({ kind: 'lsn', lsn: places(9) }, { timeline: 1 }), { plan: { to: { lsn: places(9) } } })
  t.match(ask({ kind: 'lsn', lsn: places(9) + 1n }, { timeline: 1 }), { refused: { message: /ends at 0\/9000000/ } })
})

t.test('which timeline when nobody says', async (t) => {
  const histories = { 2: '1\t0/5000100\tno\n', 3: '1\t0/6000100\tsomebody has tried something\n' }
  const segments = { 1: [[2, 8] as const], 2: [[5, 9] as const] }
  const timeline = (source: Partial<RecoverySource>) => ground({ histories, segments, source })(latest).plan?.timeline
  t.equal(timeline({ server: null }), 2, 'the newest one of which there is WAL')
  t.equal(timeline({ server: { systemIdentifier: system, timeline: 1 } }), 1)
  t.equal(timeline({ server: { systemIdentifier: system, timeline: 4 } }), 2, 'its history is not stored yet')
  const other = ground({ histories, segments, source: { server: { systemIdentifier: former, timeline: 1 } } })
  t.match(other(latest, { systemIdentifier: system }), { plan: { timeline: 2 } }, 'the server is another one')
  t.match(other(latest), {
    refused: { hint: new RegExp(`of another cluster: ask for its system identifier, ${system}`) },
  })
})

/** What the cluster before the upgrade left, beside what the new one has. */
function upgraded(): StoredWalState {
  const made = (id: string, first: number, last: number) => {
    const coverage = new WalCoverage(size, new Timelines())
    coverage.segments(1).addRange(first, last)
    return { systemIdentifier: id, coverage, segments: 1, partials: 0, bytes: 1, contradictions: 0 }
  }
  const systems = new Map([
    [former, made(former, 2, 4)],
    [system, made(system, 7, 9)],
  ])
  return { repository: 'local', systems, revision: 1, listedAt: at(0) }
}

t.test('across pg_upgrade', async (t) => {
  const old = full(2, { systemIdentifier: former, serverVersion: '15.18' })
  const stored = upgraded()
  const ask = ground({ backups: [old, full(7)], source: { stored } })
  t.match(ask(hour(8)), { systemIdentifier: system, plan: { chain: [{ id: full(7).id }] } })
  const before = ask(hour(4))
  t.match(before, { systemIdentifier: former, plan: { chain: [{ id: old.id }] } })
  t.same(codes(before), ['never-proven', 'other-cluster', 'other-major', 'equal-times'])
  t.match(before.warnings.find(({ code }) => code === 'other-major')?.message, /PostgreSQL 15 is needed.* runs 17/)
  t.match(ask(hour(6)), {
    systemIdentifier: system,
    refused: { message: /no backup is as old/, hint: /from 2026-03-01T07:01/ },
  })
  t.match(ask(latest), { systemIdentifier: system })
  t.match(ask(latest, { systemIdentifier: former }), { plan: { to: { lsn: places(5) } } })
  t.match(ask(latest, { backup: old.id }), { systemIdentifier: former, plan: { chain: [{ id: old.id }] } })
  t.match(ask(latest, { systemIdentifier: '1' }), { refused: { message: /no WAL of this cluster/ } })
  const child = full(8, { type: 'incremental', parent: old.id })
  t.match(ground({ backups: [old, child], source: { stored } })(latest), {
    refused: { message: new RegExp(`${old.id}, on which ${child.id} builds, is of another cluster, ${former}`) },
  })
})

t.test('the server was never seen: the newest backup says which cluster it is', async (t) => {
  const stored = upgraded()
  const old = full(2, { systemIdentifier: former })
  t.match(ground({ backups: [old, full(7)], source: { stored, server: null } })(latest), { systemIdentifier: system })
  t.match(ground({ backups: [], source: { server: null } })(latest), {
    refused: { message: /nothing to begin from: no physical backup is there/ },
  })
})

t.test('before the first backup there is nothing, and nobody knows more than was looked at', async (t) => {
  const first = ground({ backups: [] })
  t.match(first(hour(3)), { plan: null, windows: [], obstacle: { before: null, after: null } })
  t.match(first(latest), { refused: { hint: /take a full backup/ } })
  t.match(ground({ source: { stored: null } })(latest), { refused: { message: /not known yet/ } })
})
