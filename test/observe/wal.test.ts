import t from 'tap'
import { WalCoverage } from '../../src/domain/coverage.ts'
import type { NamedHole } from '../../src/domain/holes.ts'
import { formatLsn } from '../../src/domain/lsn.ts'
import type { ClockBound } from '../../src/domain/recovery-point.ts'
import { SegmentSet } from '../../src/domain/segment-set.ts'
import { type TimelineHistory, Timelines } from '../../src/domain/timeline.ts'
import { segmentName } from '../../src/domain/wal.ts'
import type { BackupSummary } from '../../src/observe/catalog.ts'
import type { Covered } from '../../src/observe/lsn-clock.ts'
import { createWalView, type WalInputs } from '../../src/observe/wal.ts'
import type { RepositoryWal } from '../../src/observe/wal-state.ts'
import { at, backup, proof, repositoryState } from '../support/catalog.ts'
import { clockState, storedState, walArchive } from '../support/wal-state.ts'

const size = 16 * 1024 * 1024
const lsn = (segment: number, offset = 0) => BigInt(segment) * BigInt(size) + BigInt(offset)
const now = at(600)

/** WAL by timeline: ranges of segments. */
type Ranges = Readonly<Record<number, readonly (readonly [number, number])[]>>

function coverageOf(ranges: Ranges, histories: readonly TimelineHistory[] = []): WalCoverage {
  const coverage = new WalCoverage(size, new Timelines(histories))
  for (const [timeline, all] of Object.entries(ranges))
    for (const [first, last] of all) coverage.segments(Number(timeline)).addRange(first, last)
  return coverage
}

/** Timeline 2 leaves 1 amid segment 20, 3 leaves 2 amid segment 30. */
const fork2 = { timeline: 2, switches: [{ timeline: 1, lsn: lsn(20, 4096), reason: '' }] }
const fork3 = { timeline: 3, switches: [...fork2.switches, { timeline: 2, lsn: lsn(30, 4096), reason: '' }] }

function full(segment: number, fields: Partial<BackupSummary> = {}): BackupSummary {
  return backup(segment, {
    id: `2026030${segment % 10}T0000${String(segment % 60).padStart(2, '0')}Z-full-00000${segment % 10}`,
    type: 'full',
    database: '',
    startLsn: formatLsn(lsn(segment, 40)),
    lsn: formatLsn(lsn(segment, 1000)),
    ...fields,
  })
}

interface Situation {
  readonly stored: Ranges
  readonly archive?: Ranges | null
  readonly histories?: readonly TimelineHistory[]
  readonly backups?: readonly BackupSummary[]
  readonly proofs?: Parameters<typeof repositoryState>[2]
  readonly server?: { readonly timeline?: number; readonly lsn?: bigint } | null
  readonly holes?: readonly NamedHole[]
  readonly covered?: Covered | null
  /** Segments of timeline 1 that are not shipped for what they are. */
  readonly refused?: readonly number[]
  readonly asked?: { bounds?: readonly ClockBound[] }
  readonly now?: Date
}

function inputsOf(situation: Situation): WalInputs {
  const { stored, archive, histories = [], backups = [], proofs = [], server = {} } = situation
  return {
    at: situation.now ?? now,
    archive: archive === null ? null : walArchive(coverageOf(archive ?? {}, histories)),
    stored: [storedState('local', coverageOf(stored, histories))],
    clock: server === null ? null : clockState({ lsn: lsn(40, 500), ...server }),
    slots: null,
    repositories: [repositoryState('local', backups, proofs)],
  }
}

function view({
  holes = [],
  covered = { at: at(590), isNewest: false },
  asked,
  refused = [],
}: Partial<Situation> = {}) {
  const segments = new SegmentSet(refused.map((segment) => ({ first: segment, last: segment })))
  return createWalView({
    holes,
    refused: () => ({ segments: new Map([[1, segments]]), revision: 1 }),
    clock: {
      covered: (_, bounds) => {
        if (asked !== undefined) asked.bounds = bounds
        return covered
      },
    },
    hasArchive: true,
  })
}

function judge(situation: Situation): RepositoryWal {
  const [found] = view(situation)(inputsOf(situation)).repositories
  if (found === undefined) throw new Error('no repository')
  return found
}

t.test('a backup and all WAL since', async (t) => {
  const asked: Situation['asked'] = {}
  const found = judge({ stored: { 1: [[10, 37]] }, archive: { 1: [[36, 39]] }, backups: [full(10), full(20)], asked })
  t.match(found, {
    hasBackup: true,
    from: { timeline: 1, lsn: lsn(20, 40) },
    end: { timeline: 1, lsn: lsn(38) },
    coveredUntil: at(590),
    recoveryPoint: at(590),
    exposureBytes: 2 * size + 500,
    backlogSegments: 2,
    backlogBytes: 2 * size,
    missingSegments: 0,
    gaps: [],
  })
  t.same(asked.bounds, [{ timeline: 1, lsn: lsn(38) }])
})

t.test('everything is stored', async (t) => {
  const covered = { at: now, isNewest: true }
  const situation = { stored: { 1: [[10, 39]] as const }, backups: [full(10)], covered }
  t.match(judge({ ...situation, server: { lsn: lsn(40, 0x28) } }), {
    exposureBytes: 0,
    backlogSegments: 0,
    recoveryPoint: now,
  })
  t.match(judge({ ...situation, server: { lsn: lsn(40, 0x60) } }), { exposureBytes: 0 }, 'nothing was committed')
  const behind = { ...situation, covered: { at: at(1), isNewest: false } }
  t.match(judge({ ...behind, server: { lsn: lsn(40, 0x28) } }), { exposureBytes: 0 }, 'a header is nothing')
  t.match(judge({ ...behind, server: { lsn: lsn(40, 0x60) } }), { exposureBytes: 0x60 })
  t.match(
    judge({ ...behind, server: { lsn: lsn(39) } }),
    { exposureBytes: 0, backlogSegments: 0 },
    'a server that was put back',
  )
})

t.test('WAL without a backup restores nothing', async (t) => {
  const found = judge({
    stored: {
      1: [
        [5, 7],
        [10, 37],
      ],
    },
    archive: { 1: [[38, 39]] },
  })
  t.match(
    found,
    {
      hasBackup: false,
      from: { timeline: 1, lsn: lsn(10) },
      end: { timeline: 1, lsn: lsn(38) },
      coveredUntil: at(590),
      recoveryPoint: null,
      missingSegments: 2,
      backlogSegments: 2,
    },
    'what a backup that is taken now would be continued by',
  )
  t.match(judge({ stored: { 1: [[10, 37]] }, backups: [backup(3)] }), { hasBackup: false }, 'a dump is none')
})

t.test('which backup', async (t) => {
  const stored = {
    1: [
      [10, 25],
      [28, 37],
    ],
  } as const
  t.match(judge({ stored, backups: [full(10), full(15)] }), { from: { lsn: lsn(15, 40) }, end: { lsn: lsn(26) } })
  t.match(judge({ stored, backups: [full(10), full(30)] }), { from: { lsn: lsn(30, 40) }, end: { lsn: lsn(38) } })
  const torn = full(24, { lsn: formatLsn(lsn(28, 1000)) })
  t.match(
    judge({ stored, backups: [full(10), torn] }),
    { from: { lsn: lsn(10, 40) }, recoveryPoint: at(590) },
    'the WAL does not make the newest consistent',
  )
  t.match(judge({ stored, backups: [torn] }), {
    hasBackup: true,
    from: { lsn: lsn(24, 40) },
    end: { lsn: lsn(26) },
    recoveryPoint: null,
  })
  t.match(
    judge({ stored, backups: [full(27)] }),
    { hasBackup: true, end: { lsn: lsn(27, 40) }, recoveryPoint: null },
    'not even its start is there',
  )
  const bad = full(30)
  const refuted = { backups: [full(10), bad], proofs: [proof(bad, 200, { artifact: 'fail' })] }
  t.match(judge({ stored, ...refuted }), { from: { lsn: lsn(10, 40) } }, 'one that was refuted')
  const other = full(30, { systemIdentifier: '8' })
  t.match(judge({ stored, backups: [other] }), { hasBackup: false }, 'of another cluster')
})

t.test('a file that is refused', async (t) => {
  const [stored, backups] = [{ 1: [[10, 36]] } as const, [full(10)]]
  t.match(
    judge({
      stored,
      backups,
      archive: {
        1: [
          [36, 39],
          [240, 240],
        ],
      },
      refused: [240],
    }),
    { missingSegments: 0, backlogSegments: 3 },
    'beyond the server it tells nothing of what comes before it',
  )
  t.match(
    judge({ stored, backups, archive: { 1: [[36, 39]] }, refused: [37] }),
    { missingSegments: 1, backlogSegments: 2, gaps: [{ first: 37, last: 37 }] },
    'amid the others it will never come',
  )
  t.match(
    judge({ stored, backups, archive: { 1: [[36, 39]] }, refused: [39] }),
    { missingSegments: 1, backlogSegments: 2 },
    'and so where the server has been already',
  )
})

t.test('chains', async (t) => {
  const stored = { 1: [[10, 37]] } as const
  const base = full(10)
  const child = full(15, { type: 'incremental', parent: base.id })
  const grandchild = full(20, { type: 'incremental', parent: child.id })
  t.match(judge({ stored, backups: [base, child, grandchild] }), { from: { lsn: lsn(20, 40) } })
  t.match(judge({ stored, backups: [base, grandchild] }), { from: { lsn: lsn(10, 40) } }, 'one between is gone')
  const proofs = [proof(child, 200, { artifact: 'fail' })]
  t.match(judge({ stored, backups: [base, child, grandchild], proofs }), { from: { lsn: lsn(10, 40) } })
  const loop = full(15, { type: 'incremental', parent: grandchild.id })
  t.match(judge({ stored, backups: [loop, grandchild] }), { hasBackup: false }, 'a circle ends')
})

t.test('without a sample as old as the backup', async (t) => {
  const situation = { stored: { 1: [[10, 37]] as const }, covered: null }
  t.match(judge({ ...situation, backups: [full(10)] }), { coveredUntil: null, recoveryPoint: at(10) })
  t.match(judge({ ...situation, backups: [full(10, { startedAt: at(700) })] }), { recoveryPoint: null }, 'dated ahead')
})

t.test('gaps', async (t) => {
  const stored = {
    1: [
      [10, 12],
      [16, 20],
      [30, 35],
    ],
  } as const
  const archive = {
    1: [
      [14, 14],
      [34, 38],
    ],
  } as const
  const found = judge({ stored, archive, backups: [full(10)] })
  t.equal(found.missingSegments, 2 + 9)
  t.same(
    found.gaps.map(({ first, last, acknowledged }) => [first, last, acknowledged]),
    [
      [13, 13, null],
      [15, 15, null],
      [21, 29, null],
    ],
  )
  t.equal(found.backlogSegments, 1 + 3 + 1, '14, 36 to 38, and 39, which the server has finished')
  t.equal(
    judge({ stored, archive, backups: [full(17)] }).missingSegments,
    9,
    'before the oldest backup nobody needs it',
  )
  t.match(
    judge({ stored, archive: null, backups: [full(10)] }),
    { missingSegments: null, backlogSegments: null, end: { lsn: lsn(13) } },
    'the archive was not looked at yet',
  )
  const beyond = judge({ stored: { 1: [[10, 30]] }, archive: { 1: [[33, 38]] }, backups: [full(10)] })
  t.match(beyond, { missingSegments: 2, backlogSegments: 7 }, 'nowhere, and the archive is beyond it')
})

t.test('acknowledged holes, by the name of their segments', async (t) => {
  const hole = (first: number, last: number, until: Date): NamedHole => ({
    ...{ first: segmentName(1, first, size), last: segmentName(1, last, size), reason: 'a full disk', until },
  })
  const situation = {
    stored: {
      1: [
        [10, 12],
        [20, 39],
      ] as const,
    },
    backups: [full(10)],
  }
  const look = view({ holes: [hole(14, 30, at(650)), { ...hole(13, 13, at(900)), first: '00000001000000000000FFFF' }] })
  const inputs = inputsOf(situation)
  const [found] = look(inputs).repositories
  t.equal(found?.missingSegments, 1)
  t.match(found?.gaps, [
    { first: 13, last: 13, acknowledged: null },
    { first: 14, last: 19, acknowledged: { reason: 'a full disk' } },
  ])
  t.equal(look({ ...inputs, at: at(651) }).repositories[0]?.missingSegments, 7, 'it ends by the hour')
  t.equal(found?.end?.lsn, lsn(13), 'a hole stays a gap')
})

t.test('failover', async (t) => {
  const ahead = { stored: { 1: [[10, 20]] as const }, backups: [full(10)], server: { timeline: 2, lsn: lsn(21, 500) } }
  const asked: Situation['asked'] = {}
  t.match(
    judge({ ...ahead, asked }),
    { end: { timeline: 1, lsn: lsn(21) }, recoveryPoint: at(590) },
    'its history is not stored yet',
  )
  t.same(asked.bounds, [{ timeline: 1, lsn: lsn(21) }])
  t.match(judge({ ...ahead, histories: [fork2], asked }), {
    end: { timeline: 1, lsn: lsn(20, 4096) },
    backlogSegments: 1,
  })
  t.same(
    asked.bounds,
    [
      { timeline: 2, lsn: lsn(20, 4096) },
      { timeline: 1, lsn: lsn(20, 4096) },
    ],
    'samples past the fork are void',
  )
  const stored = { 1: [[10, 20]], 2: [[20, 24]] } as const
  t.match(judge({ ...ahead, stored, histories: [fork2], server: { timeline: 2, lsn: lsn(25, 500) }, asked }), {
    end: { timeline: 2, lsn: lsn(25) },
    exposureBytes: 500,
    backlogSegments: 0,
    missingSegments: 0,
  })
  t.same(asked.bounds, [
    { timeline: 2, lsn: lsn(25) },
    { timeline: 1, lsn: lsn(20, 4096) },
  ])
})

t.test('two forks', async (t) => {
  const stored = { 1: [[10, 25]], 2: [[20, 35]], 3: [[30, 37]] } as const
  const situation = { stored, histories: [fork2, fork3], server: { timeline: 3, lsn: lsn(40) } }
  const asked: Situation['asked'] = {}
  t.match(judge({ ...situation, backups: [full(10)], asked }), {
    end: { timeline: 3, lsn: lsn(38) },
    backlogSegments: 2,
    missingSegments: 0,
  })
  t.same(asked.bounds, [
    { timeline: 3, lsn: lsn(38) },
    { timeline: 2, lsn: lsn(30, 4096) },
    { timeline: 1, lsn: lsn(20, 4096) },
  ])
  t.match(
    judge({ ...situation, backups: [full(10), full(24)] }),
    { from: { lsn: lsn(10, 40) } },
    'one that is past its fork is not on the way',
  )
  t.match(judge({ ...situation, backups: [full(10), full(26, { startTimeline: 2 })] }), {
    from: { timeline: 2, lsn: lsn(26, 40) },
  })
  const holed = {
    ...situation,
    stored: {
      ...stored,
      2: [
        [20, 25],
        [28, 35],
      ],
    } as const,
    backups: [full(10)],
  }
  t.match(judge(holed), {
    end: { timeline: 2, lsn: lsn(26) },
    missingSegments: 2,
    gaps: [{ timeline: 2, first: 26, last: 27 }],
  })
})

t.test('what is not known', async (t) => {
  const nothing = {
    end: null,
    coveredUntil: null,
    recoveryPoint: null,
    exposureBytes: null,
    backlogSegments: null,
    missingSegments: null,
  }
  const situation = { stored: { 1: [[10, 37]] as const }, backups: [full(10)] }
  t.match(judge({ ...situation, server: null }), { ...nothing, segments: 28 }, 'the server was never seen')
  const inputs = inputsOf(situation)
  const unlisted = { ...inputs, stored: inputs.stored.map((one) => ({ ...one, listedAt: null })) }
  t.match(view()(unlisted).repositories, [nothing], 'the repository was not listed yet')
  const upgraded = { ...inputs, clock: clockState({ lsn: lsn(40), systemIdentifier: '8' }) }
  t.match(
    view()(upgraded).repositories,
    [{ ...nothing, hasBackup: false, segments: 28 }],
    'nothing is stored of a cluster that was upgraded',
  )
  const resized = { ...inputs, clock: clockState({ lsn: lsn(40), segmentSize: 2 * size }) }
  t.match(view()(resized).repositories, [nothing], 'segments of another size are other places')
  const fresh = judge({ stored: {}, archive: { 1: [[30, 39]] } })
  t.match(fresh, { end: null, backlogSegments: 10, missingSegments: 0 }, 'nothing is stored yet')
})

t.test('many segments, many gaps', async (t) => {
  const inputs = inputsOf({ stored: { 1: [] }, archive: {}, backups: [full(0)], server: { lsn: lsn(1_000_000) } })
  const segments = inputs.stored[0]?.systems.get('7500000000000000001')?.coverage.segments(1)
  for (let first = 0; first < 1_000_000; first += 100) segments?.addRange(first, first + 98)
  const look = view()
  const [found] = look(inputs).repositories
  t.equal(found?.missingSegments, 9999)
  t.equal(found?.backlogSegments, 1, 'the last')
  t.equal(found?.gaps.length, 1000)
  t.equal(
    look({ ...inputs, at: at(601) }).repositories[0]?.gaps,
    found?.gaps,
    'not found out anew while nothing changes',
  )
  segments?.add(99)
  t.equal(
    look({ ...inputs, stored: inputs.stored.map((one) => ({ ...one, revision: 2 })) }).repositories[0]?.missingSegments,
    9998,
  )
})
