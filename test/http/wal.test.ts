import t from 'tap'
import { describeGaps, describeWal } from '../../src/cli/wal-words.ts'
import { WalCoverage } from '../../src/domain/coverage.ts'
import { parseHistory, Timelines } from '../../src/domain/timeline.ts'
import { reportWal, type WalReport, type WalWork } from '../../src/observe/wal-report.ts'
import type { StoredWalState, WalArchiveState, WalState } from '../../src/observe/wal-state.ts'
import { at, catalogOf } from '../support/catalog.ts'
import { startHttp } from './harness.ts'

const segmentSize = 16 * 1024 * 1024
const system = '7500000000000000001'

function coverage(...ranges: readonly (readonly [timeline: number, first: number, last: number])[]): WalCoverage {
  const timelines = new Timelines([parseHistory(2, '1\t0/5000000\tno recovery target specified\n')])
  const made = new WalCoverage(segmentSize, timelines)
  for (const [timeline, first, last] of ranges) made.segments(timeline).addRange(first, last)
  return made
}

function stored(repository: string, held: WalCoverage): StoredWalState {
  const own = { systemIdentifier: system, coverage: held, segments: held.size, partials: 0, bytes: 4e6 }
  const old = { ...own, systemIdentifier: '7400000000000000001', segments: 2, contradictions: 0 }
  const systems = new Map([
    [system, { ...own, contradictions: 1 }],
    ['7400000000000000001', old],
  ])
  return { repository, systems, revision: 1, listedAt: at(0) }
}

const archive: WalArchiveState = {
  directory: '/wal archive',
  systemIdentifier: system,
  segmentSize,
  segments: 2,
  partials: 1,
  histories: 1,
  labels: 0,
  foreign: 3,
  bytes: 2 * segmentSize,
  plainNames: ['00000002.history'],
  partialNames: ['000000010000000000000005.partial'],
  newest: { name: '000000020000000000000009', at: at(599) },
  coverage: coverage([2, 8, 9]),
  revision: 1,
  capacity: { freeBytes: 5e9, totalBytes: 9e9 },
}

const wal: WalState = {
  archive,
  stored: [
    stored('local', coverage([1, 1, 4], [2, 5, 5], [2, 9, 9])),
    stored('offsite', coverage([1, 1, 4], [2, 5, 7])),
  ],
  clock: {
    systemIdentifier: system,
    timeline: 2,
    at: at(600),
    lsn: 0xa000148n,
    segmentSize,
    inRecovery: false,
    rate: 4096,
  },
  repositories: [
    {
      repository: 'local',
      segments: 6,
      bytes: 4e6,
      from: { timeline: 1, lsn: 0x1000028n },
      hasBackup: true,
      end: { timeline: 2, lsn: 0x6000000n },
      coveredUntil: at(540),
      recoveryPoint: at(540),
      windows: [
        {
          from: at(60),
          until: at(540),
          backup: '20260301T010000Z-full-abcdef',
          hole: { timeline: 2, first: 6, last: 7 },
        },
      ],
      exposureBytes: 0x4000148,
      backlogSegments: 1,
      backlogBytes: segmentSize,
      missingSegments: 1,
      gaps: [
        { timeline: 2, first: 6, last: 6, acknowledged: null },
        {
          timeline: 2,
          first: 7,
          last: 7,
          acknowledged: { timeline: 2, first: 7, last: 7, reason: 'disk\nlost', until: at(900) },
        },
      ],
    },
  ],
  slots: [
    {
      name: 'old standby',
      type: 'physical',
      active: false,
      walStatus: 'extended',
      retainedBytes: 3e9,
      overLimit: true,
    },
  ],
}

const work: WalWork = {
  shipping: {
    repositories: [
      {
        ...{ repository: 'local', waiting: null, shippedSegments: 9, shippedBytes: 4e6, queued: 1, inFlight: 1 },
        ...{ lastSuccessAt: at(599), failures: 1, undecided: 0, delaySeconds: 0.4 },
        failure: { code: 'disk-full', message: 'no space left', hint: 'make room' },
        quarantined: new Map([['foreign', 2]]),
      },
    ],
    pruning: null,
  },
  stream: {
    ...{ phase: 'streaming', slot: 'lifeboat', isUp: true, position: 0xa000148n, shippedTo: null },
    ...{ failure: null, shipFailure: null, failures: 0, holes: 0 },
  },
}

const archiver = { state: 'idle' as const, detail: 'nothing waits', archived: 9, failed: 0, ready: 0 }

t.test('GET /api/wal tells what is where', async (t) => {
  const { call } = await startHttp(t, { catalog: () => catalogOf({ wal, archiver }), walWork: () => work })
  const answer = await call({ url: '/api/wal' })
  t.equal(answer.status, 200)
  const report = answer.json<WalReport>()
  t.same(report, JSON.parse(JSON.stringify(reportWal(wal, archiver, at(600), work))), 'nothing is lost on the way')
  t.match(report, { systemIdentifier: system, segmentSize, server: { timeline: 2, lsn: '0/A000148' } })
  t.match(report.archive, { segments: 2, foreign: 3, newest: { name: '000000020000000000000009' } })
  const [local, offsite] = report.repositories
  t.match(local, {
    repository: 'local',
    recoveryPoint: '2026-03-01T09:00:00.000Z',
    end: { timeline: 2, lsn: '0/6000000' },
    missingSegments: 1,
    others: ['7400000000000000001'],
    contradictions: 1,
    shipping: { queued: 1, failure: { code: 'disk-full' }, quarantined: { foreign: 2 }, delaySeconds: 0.4 },
  })
  t.match(report.stream, { phase: 'streaming', position: '0/A000148', shippedTo: null })
  t.equal(report.repositories[1]?.shipping, null)
  t.same(
    local?.gaps.map(({ first, elsewhere }) => [first, elsewhere]),
    [
      ['000000020000000000000006', ['offsite']],
      ['000000020000000000000007', ['offsite']],
    ],
  )
  t.same(local?.timelines, [
    {
      timeline: 1,
      parent: null,
      segments: 4,
      first: '000000010000000000000001',
      last: '000000010000000000000004',
      gaps: 0,
    },
    {
      timeline: 2,
      parent: { timeline: 1, lsn: '0/5000000' },
      segments: 2,
      first: '000000020000000000000005',
      last: '000000020000000000000009',
      gaps: 1,
    },
  ])
  t.match(
    offsite,
    { recoveryPoint: null, exposureBytes: null, missingSegments: null, gaps: [] },
    'not judged is not zero',
  )
})

t.test('before anything was looked at nothing is known', async (t) => {
  const { call } = await startHttp(t, { catalog: () => catalogOf({ wal: null }) })
  const answer = await call({ url: '/api/wal' })
  t.match(answer.json(), { server: null, archive: null, repositories: [], slots: null, systemIdentifier: null })
})

t.test('the same in words', async (t) => {
  const report = reportWal(wal, archiver, at(600))
  t.equal(
    describeWal(report),
    `cluster   system identifier 7500000000000000001
server    writes at 0/A000148 on timeline 2 (now)
archiver  idle: nothing waits

archive  "/wal archive"
         2 segments, 32.0 MiB, 1 partial, 1 history, 3 foreign
         newest 000000020000000000000009, 1 min 0 s ago
         4.7 GiB free
         timeline 2 (from 1 at 0/5000000): 2 segments, 000000020000000000000008 to 000000020000000000000009, no gap

REPOSITORY  SEGMENTS  STORED   RECOVERY POINT                        NOT STORED  BACKLOG  MISSING
local       8         7.6 MiB  2026-03-01 09:00:00Z (1 h 0 min ago)  64.0 MiB    1        1
offsite     9         7.6 MiB  no physical backup                    ?           ?        ?
local: 1 segments are stored twice with different content
local: also holds WAL of the system identifiers 7400000000000000001
offsite: 1 segments are stored twice with different content
offsite: also holds WAL of the system identifiers 7400000000000000001

local    
         timeline 1: 4 segments, 000000010000000000000001 to 000000010000000000000004, no gap
         timeline 2 (from 1 at 0/5000000): 2 segments, 000000020000000000000005 to 000000020000000000000009, 1 gap
offsite  
         timeline 1: 4 segments, 000000010000000000000001 to 000000010000000000000004, no gap
         timeline 2 (from 1 at 0/5000000): 3 segments, 000000020000000000000005 to 000000020000000000000007, no gap

SLOT           TYPE      STATE               KEEPS BACK
"old standby"  physical  inactive, extended  2.8 GiB, over the limit
`,
  )
  t.equal(
    describeGaps(report),
    `REPOSITORY  TIMELINE  FIRST                     LAST                      SEGMENTS  WHAT IS KNOWN
local       2         000000020000000000000006  000000020000000000000006  1         in offsite
local       2         000000020000000000000007  000000020000000000000007  1         acknowledged until 2026-03-01 15:00:00Z: disk lost; in offsite
offsite: not known: no WAL is stored there yet, or it cannot be looked at; what is: lifeboat wal status
`,
  )
  t.equal(describeGaps({ ...report, repositories: [] }), 'nothing is missing\n')
})
