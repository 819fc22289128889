import { readFile, writeFile } from 'node:fs/promises'
import t from 'tap'
import { WalCoverage } from '../../src/domain/coverage.ts'
import { notInspected } from '../../src/domain/external.ts'
import { Timelines } from '../../src/domain/timeline.ts'
import { metricDefinitions } from '../../src/metrics/names.ts'
import { createMetrics, type MetricsOptions, renderCatalog } from '../../src/metrics/registry.ts'
import type { Catalog } from '../../src/observe/catalog.ts'
import {
  externalId,
  type KnownFile,
  summaryOf,
  type WatchState,
  watchState,
} from '../../src/observe/external-catalog.ts'
import type { JobSummary } from '../../src/runner/job.ts'
import {
  at,
  backup,
  catalogOf,
  collectorState,
  defaultRetention,
  policies,
  proof,
  repositoryState,
  retention,
  serverState,
} from '../support/catalog.ts'
import { parseExposition, promtoolComplaints } from '../support/exposition.ts'
import { repositoryWal, storedState, walArchive, walState } from '../support/wal-state.ts'

const options: MetricsOptions = {
  recovery: () => new Map([['local', 734.5]]),
  shipping: () => ({
    repositories: [
      {
        ...{ repository: 'local', waiting: null, shippedSegments: 71, shippedBytes: 9_000, queued: 0, inFlight: 0 },
        ...{ lastSuccessAt: at(490), failures: 2, failure: null, undecided: 0, delaySeconds: 0.3 },
        quarantined: new Map([['foreign', 1]]),
      },
    ],
    pruning: null,
  }),
  buckets: () => [
    {
      repository: 'offsite',
      requests: [
        { operation: 'GetObject', requests: 17, errors: 2 },
        { operation: 'ListObjectsV2', requests: 2881, errors: 0 },
      ],
    },
  ],
  tellings: {
    hookFailures: () => new Map([['mount', 2]]),
    deliveries: () => [{ target: 'ops', lastSuccessAt: at(482), failures: 1 }],
    leases: { states: () => [{ repository: 'local', state: 'held' }] },
  },
  alertDrills: { current: () => 0, lastProvenAt: () => at(470) },
  wal: {
    slotLimitBytes: 10 * 1024 ** 3,
    stream: () => ({
      phase: 'streaming',
      slot: 'lifeboat',
      isUp: true,
      position: 0x3000060n,
      shippedTo: 0x3000060n,
      failure: null,
      shipFailure: null,
      failures: 2,
      holes: 1,
    }),
  },
  costs: {
    of: ({ repositories }) =>
      repositories.map(({ name }) => ({
        repository: name,
        // Of one of them a part is not known.
        today: { items: [], dollars: 12.34, isWhole: name === 'local', unknown: [] },
      })),
    budgets: new Map([['local', 20]]),
  },
  version: '0.1.0',
  revision: 'abc1234',
  nodeVersion: 'v24.21.0',
  cluster: 'spavix',
  policy: {
    rpoSeconds: 3_600,
    rtoSeconds: 14_400,
    dumpMaxAgeSeconds: 90_000,
    fullMaxAgeSeconds: null,
    incrementalMaxAgeSeconds: null,
    verificationMaxAgeSeconds: 691_200,
    alertPathMaxAgeSeconds: 648_000,
    retention: new Map([...policies, ['local', { ...defaultRetention, windowSeconds: 14 * 86_400 }]]),
    growth: { shrinkBelow: 0.7, growAbove: 1.5 },
  },
  retention: retention(),
  growth: { of: () => ({ isUnusual: false }) },
}

const dumpJob: JobSummary = {
  job: 'dump',
  lane: 'dump',
  timeoutSeconds: 43_200,
  schedule: '0 2 * * *',
  nextRunAt: at(1_560),
  runs: 12,
  failures: 2,
  lastStartAt: at(480),
  lastSuccessAt: at(482),
  lastDurationSeconds: 120,
  running: true,
  progressRatio: 0.25,
}

/** A watched directory with one whole file and a broken one. */
function watchedState(): WatchState {
  const inspection = { ...notInspected(''), detail: null, state: 'sound', bytes: 700 } as const
  const file = (name: string, state: 'sound' | 'truncated'): KnownFile => ({
    name,
    id: externalId('nightly', name),
    facts: { isDirectory: false, bytes: 700, modified: at(450).getTime(), changed: 0, device: 1, inode: 2 },
    namedAt: at(445).getTime(),
    database: 'app',
    state,
    inspection: { ...inspection, state },
  })
  const files = [
    file('app_backup_20260301_072500.sql.gz', 'sound'),
    file('app_backup_20260301_072501.sql.gz', 'truncated'),
  ]
  const options = {
    name: 'nightly',
    maxAgeSeconds: 93_600,
    database: null,
    shrinkBelow: 0.5,
    proofs: new Map(),
    holds: new Map(),
    summary: summaryOf,
  }
  return watchState(files, options, null)
}

/** A repository whose WAL was not listed yet. */
const unknownWal = {
  ...{ end: null, coveredUntil: null, recoveryPoint: null, exposureBytes: null },
  ...{ backlogSegments: null, backlogBytes: null, missingSegments: null },
}

/** A catalog in which every metric has a value. */
function fullCatalog(): Catalog {
  const older = backup(100)
  const covered = new WalCoverage(16 * 1024 * 1024, new Timelines())
  covered.segments(1).addRange(1, 5)
  const newer = backup(480, { storedBytes: 2_000, durationSeconds: 61.5 })
  const other = backup(470, { id: '20260301T075000Z-dump-000002', database: 'crm', sourceBytes: 7_000_000 })
  const local = repositoryState(
    'local',
    [backup(60), backup(80), older, newer, other],
    [
      proof(older, 200, { artifact: 'pass', restore: 'pass', data: 'pass' }),
      proof(newer, 500, { artifact: 'pass', restore: 'inconclusive' }),
      proof(other, 510, { artifact: 'fail' }),
    ],
  )
  return catalogOf({
    server: serverState(['app', 'crm']),
    archiver: { state: 'failing', detail: 'archive_command fails', archived: 1201, failed: 3, ready: 2 },
    repositories: [
      {
        ...local,
        capacity: { freeBytes: 5_000_000, totalBytes: 9_000_000 },
        objects: 17,
        unusable: [
          { id: 'a', state: 'invalid' },
          { id: 'b', state: 'in-progress' },
        ],
      },
      {
        ...repositoryState('offsite', [newer, other]),
        ...{ objects: 9, foreign: 3, replication: { pending: 1, completed: 9, failed: 0 } },
      },
    ],
    wal: {
      ...walState(repositoryWal('local'), repositoryWal('offsite', unknownWal)),
      // Of the other one not all was listed yet.
      stored: [storedState('local', covered), { ...storedState('offsite', covered), listedAt: null }],
      slots: [
        {
          name: 'lifeboat',
          type: 'physical',
          active: true,
          walStatus: 'reserved',
          retainedBytes: 4096,
          overLimit: false,
        },
      ],
      archive: walArchive(new WalCoverage(16 * 1024 * 1024, new Timelines()), {
        newest: { name: '000000010000000000000001', at: at(590) },
        capacity: { freeBytes: 6_000_000, totalBytes: 9_000_000 },
      }),
    },
    postures: [
      {
        repository: 'local',
        findings: [
          { check: 'versioning', state: 'good' },
          { check: 'tls', state: 'weak', what: 'plain http', hint: 'use https' },
          { check: 'encryption', state: 'unknown', why: 'the server does not tell' },
        ],
      },
    ],
    watches: [watchedState()],
    collectors: [
      collectorState('server'),
      collectorState('repository:local'),
      collectorState('repository:offsite', {
        success: false,
        failure: { code: 'storage-failed', message: 'input/output error' },
      }),
      collectorState('history'),
      collectorState('encryption'),
    ],
    jobs: [
      dumpJob,
      {
        job: 'restore',
        lane: 'restore',
        timeoutSeconds: 43_200,
        schedule: null,
        nextRunAt: null,
        runs: 0,
        failures: 0,
        lastStartAt: null,
        lastSuccessAt: null,
        lastDurationSeconds: null,
        running: false,
        progressRatio: null,
      },
    ],
    backupFailures: [
      { backupType: 'dump', database: 'crm', at: at(450), failure: { code: 'program-failed', message: 'newest' } },
      { backupType: 'dump', database: 'crm', at: at(440), failure: { code: 'program-failed', message: 'older' } },
    ],
  })
}

await t.test('the whole output of a fixed catalog', async (t) => {
  const golden = new URL('../golden/metrics.txt', import.meta.url)
  const text = await renderCatalog(options, fullCatalog())
  if (process.env.UPDATE_GOLDEN === '1') await writeFile(golden, text)
  t.equal(text, await readFile(golden, 'utf8'), 'equals test/golden/metrics.txt (UPDATE_GOLDEN=1 writes it anew)')
  t.equal(promtoolComplaints(text), '', 'promtool finds nothing')

  const samples = parseExposition(text)
  const missing = Object.keys(metricDefinitions).filter((name) => !samples.some((sample) => sample.name === name))
  t.same(missing, [], 'every metric of the table has a series')
  for (const { name, labels } of samples) {
    const definition = metricDefinitions[name as keyof typeof metricDefinitions]
    const cluster = 'cluster' in definition ? [] : ['cluster_name']
    t.same(Object.keys(labels), [...cluster, ...definition.labels], `labels of ${name}`)
  }
  t.equal(await renderCatalog(options, fullCatalog()), text, 'the same catalog gives the same text')
})

await t.test('a live render adds the process, and promtool finds nothing', async (t) => {
  const metrics = createMetrics({ ...options, nodeVersion: process.version })
  const { contentType, body } = await metrics.render(fullCatalog())
  t.equal(contentType, 'text/plain; version=0.0.4; charset=utf-8')
  t.equal(promtoolComplaints(body), '')
  const names = new Set(parseExposition(body).map((sample) => sample.name))
  t.ok(names.has('process_resident_memory_bytes') && names.has('nodejs_heap_size_used_bytes'))
  t.notMatch(body, /nodejs_active_/)
  t.ok(body.endsWith('\n'))
})

await t.test('unknown is not zero: a catalog before the first look', async (t) => {
  const unseen = { success: null, durationSeconds: null, lastSuccessAt: null }
  const {
    tellings: _,
    wal: __,
    shipping: ___,
    costs: ____,
    buckets: _____,
    alertDrills: ______,
    ...withoutTellings
  } = options
  const text = await renderCatalog(
    {
      ...withoutTellings,
      policy: {
        ...options.policy,
        ...{ dumpMaxAgeSeconds: null, verificationMaxAgeSeconds: null, alertPathMaxAgeSeconds: null },
        retention: new Map(),
      },
    },
    catalogOf({
      server: null,
      collectors: [collectorState('server', unseen), collectorState('repository:local', unseen)],
      complete: false,
    }),
  )
  t.same(
    parseExposition(text).map((sample) => sample.name),
    [
      'lifeboat_build_info',
      'lifeboat_policy_backup_grow_above_ratio',
      'lifeboat_policy_backup_shrink_below_ratio',
      'lifeboat_policy_collector_max_age_seconds',
      'lifeboat_policy_collector_max_age_seconds',
      'lifeboat_policy_rpo_seconds',
      'lifeboat_policy_rto_seconds',
    ],
  )
  t.equal(promtoolComplaints(text), '')
})

await t.test('zero is zero: a repository that was seen and is empty', async (t) => {
  const text = await renderCatalog(
    options,
    catalogOf({
      repositories: [repositoryState('local', [])],
      collectors: [collectorState('repository:local'), collectorState('repository:gone', { success: false })],
    }),
  )
  const samples = parseExposition(text)
  const of = (name: string) => samples.filter((sample) => sample.name === name)
  t.same(
    of('lifeboat_backups').map(({ labels, value }) => [labels.backup_type, value]),
    [
      ['dump', 0],
      ['full', 0],
      ['incremental', 0],
    ],
  )
  t.same(
    of('lifeboat_repository_up').map(({ labels, value }) => [labels.repository, value]),
    [
      ['local', 1],
      ['gone', 0],
    ],
    'a repository that was never seen is down',
  )
  t.same(of('lifeboat_backup_oldest_timestamp_seconds'), [])
  t.same(of('lifeboat_recovery_point_timestamp_seconds'), [])
  t.equal(of('lifeboat_policy_backup_max_age_seconds').length, 1, 'policy unless success finds it')
})

await t.test('hostile names come back as they were', async (t) => {
  const names = [
    'a"b',
    'a\\b',
    'a\nb',
    'a\\nb',
    'a\\\nb',
    '}{',
    'x",level="restore',
    'a,level:restore,',
    '-rf',
    'naïve ☂ 数据',
    ' ',
    '__proto__',
    'a\r\tb',
    "o'b",
  ]
  const backups = names.map((database, index) =>
    backup(index, { id: `b${index}`, database, storedBytes: 1_000 + index }),
  )
  const proofs = backups.map((one) => proof(one, 100, { artifact: 'pass', restore: 'pass' }))
  const { body } = await createMetrics(options).render(
    catalogOf({ server: serverState(names), repositories: [repositoryState('local', backups, proofs)] }),
  )
  const samples = parseExposition(body)
  for (const [index, database] of names.entries()) {
    const own = samples.filter((sample) => sample.labels.database === database)
    t.equal(own.find((sample) => sample.name === 'lifeboat_backup_last_size_bytes')?.value, 1_000 + index, database)
    t.equal(own.filter((sample) => sample.name === 'lifeboat_verification_last_result').length, 6, database)
    t.equal(own.filter((sample) => sample.name === 'lifeboat_policy_backup_max_age_seconds').length, 1, database)
  }
  t.equal(promtoolComplaints(body), '')
})

await t.test('series of what is gone end, counters are the history’s', async (t) => {
  const metrics = createMetrics(options)
  await metrics.render(fullCatalog())
  const { body } = await metrics.render(catalogOf({ jobs: [{ ...dumpJob, runs: 3, failures: 0 }] }))
  const samples = parseExposition(body)
  t.same(
    samples.filter(
      (sample) =>
        ('repository' in sample.labels && !/_policy_|_lease_|_wal_|_s3_/.test(sample.name)) ||
        sample.labels.database === 'crm',
    ),
    [],
  )
  t.equal(samples.find((sample) => sample.name === 'lifeboat_job_runs_total')?.value, 3, 'a lost history starts anew')
  t.equal(samples.find((sample) => sample.name === 'lifeboat_job_failures_total')?.value, 0)
})

await t.test('what changes is seen, whatever stays the same', async (t) => {
  const metrics = createMetrics(options)
  const full = { ...fullCatalog(), wal: null }
  const repositories = (samples: ReturnType<typeof parseExposition>) =>
    samples
      .filter((sample) => sample.name === 'lifeboat_recovery_point_timestamp_seconds')
      .map(({ labels }) => labels.repository)
  const render = async (fields: Partial<Catalog>) =>
    repositories(parseExposition((await metrics.render({ ...full, ...fields })).body))
  t.same(await render({}), ['offsite'])
  t.same(await render({ jobs: [] }), ['offsite'])
  t.same(await render({ server: serverState(['app']) }), ['local', 'offsite'], 'the server')
  const [local] = full.repositories
  t.ok(local)
  t.same(await render({ server: full.server, repositories: local ? [local] : [] }), [], 'fewer repositories')
  t.same(await render({}), ['offsite'], 'and more again')
  t.same(await render({ repositories: [repositoryState('local', [backup(1), backup(2, { database: 'crm' })])] }), [
    'local',
  ])
})

await t.test('the number of series does not depend on the number of backups', async (t) => {
  const series = async (count: number) => {
    const backups = Array.from({ length: count }, (_, index) =>
      backup(index, { id: `id-${index}`, database: `db${index % 5}` }),
    )
    const proofs = backups.map((one) => proof(one, 20_000, { artifact: 'pass', restore: 'pass', data: 'pass' }))
    const server = serverState(['db0', 'db1', 'db2', 'db3', 'db4'])
    const repositories = [repositoryState('local', backups, proofs)]
    const catalog = catalogOf({ at: at(20_001), server, repositories })
    return parseExposition(await renderCatalog(options, catalog)).length
  }
  const few = await series(100) // enough of each database to tell what is usual
  t.ok(few > 50)
  t.equal(await series(10_000), few)
})
