import { spawnSync } from 'node:child_process'
import t, { type Test } from 'tap'
import type { FileState } from '../../src/domain/external-file.ts'
import { conditions, figures } from '../../src/metrics/queries.ts'
import { type MetricsOptions, renderCatalog } from '../../src/metrics/registry.ts'
import type { Catalog } from '../../src/observe/catalog.ts'
import { createRetentionView } from '../../src/observe/retention.ts'
import type { JobSummary } from '../../src/runner/job.ts'
import {
  at,
  backup,
  catalogOf,
  collectorState,
  defaultRetention,
  proof,
  repositoryState,
  serverState,
} from '../support/catalog.ts'
import { parseExposition } from '../support/exposition.ts'

const odd = backup(510)
const policies = new Map(['a', 'b'].map((name) => [name, defaultRetention]))

const options: MetricsOptions = {
  version: '0.1.0',
  revision: '',
  nodeVersion: '',
  cluster: 'spavix',
  // In minutes 300, 500, 400.
  policy: {
    rpoSeconds: 18_000,
    rtoSeconds: 14_400,
    dumpMaxAgeSeconds: 30_000,
    fullMaxAgeSeconds: null,
    incrementalMaxAgeSeconds: null,
    verificationMaxAgeSeconds: 24_000,
    alertPathMaxAgeSeconds: null,
    retention: policies,
    growth: { shrinkBelow: 0.7, growAbove: 1.5 },
  },
  retention: createRetentionView({ policies, clockDoubt: () => null }),
  // A dollar for each byte of the disk, as far as that matters here.
  costs: {
    of: ({ repositories }) =>
      repositories.map(({ name, capacity }) => ({
        repository: name,
        today: { dollars: capacity?.totalBytes ?? 0, isWhole: true, items: [], unknown: [] },
      })),
    budgets: new Map([['b', 500]]),
  },
  growth: { of: (repository, id) => (id === odd.id ? { isUnusual: repository === 'b' } : null) },
}

const job: JobSummary = {
  job: 'dump',
  lane: 'backup',
  timeoutSeconds: 3_600,
  schedule: null,
  nextRunAt: null,
  runs: 2,
  failures: 0,
  lastStartAt: at(500),
  lastSuccessAt: at(501),
  lastDurationSeconds: 60,
  running: false,
  progressRatio: null,
}

const whole = { artifact: 'pass', restore: 'pass', data: 'pass' } as const
const [app, crm] = [backup(500), backup(490, { database: 'crm' })]
const early = backup(600, { finishedAt: at(604) })
const proofs = [proof(app, 520, whole), proof(crm, 520, whole)]
const looks = ['server', 'repository:a', 'repository:b', 'history'].map((name) => collectorState(name))
const capacity = { freeBytes: 50, totalBytes: 100 }
const repository = (
  name: string,
  ...rest: [Parameters<typeof repositoryState>[1]?, Parameters<typeof repositoryState>[2]?]
) => ({ ...repositoryState(name, rest[0] ?? [app, crm], rest[1] ?? proofs), capacity })
const both = [repository('a'), repository('b')]
const healthy: Partial<Catalog> = {
  server: serverState(['app', 'crm']),
  repositories: both,
  collectors: looks,
  jobs: [job],
}
const failing = (name: string) =>
  looks.map((state) => (state.collector === name ? { ...state, success: false } : state))
const failure = (database: string, minutes: number) =>
  ({ backupType: 'dump', database, at: at(minutes), failure: { code: 'program-failed', message: '' } }) as const

const file = backup(500, { id: 'external-0123456789abcdef', type: 'external' })
const watch = (broken: number, backups = [file]) => ({
  ...repositoryState('nightly', backups, [proof(file, 520, whole)]),
  maxAgeSeconds: 30_000,
  databases: backups.map(({ database }) => database),
  files: new Map<FileState, number>([
    ['sound', backups.length],
    ['truncated', broken],
  ]),
  details: () => null,
})
const watchOnly: Partial<Catalog> = {
  server: null,
  repositories: [],
  collectors: [collectorState('watch:nightly'), collectorState('history')],
  watches: [watch(0)],
}

/** The newest backup has so many bytes, and those before it had 2000. */
const sized = (storedBytes: number): Partial<Catalog> => ({
  repositories: [
    repository('a', [
      ...[100, 200, 300].map((minutes) => backup(minutes, { id: `early-${minutes}`, storedBytes: 2_000 })),
      { ...app, storedBytes },
      crm,
    ]),
    repository('b'),
  ],
})

/** Each picture of a cluster at minute 600, and the conditions that hold then, with how many results. All others have none. */
const pictures: readonly (readonly [string, Partial<Catalog>, Readonly<Record<string, number>>])[] = [
  ['all is well', {}, {}],
  ['the server is down', { collectors: failing('server') }, { 'Server down': 1, 'Collector failing': 1 }],
  [
    'a repository cannot be read',
    { collectors: failing('repository:a') },
    { 'Repository down': 1, 'Collector failing': 1 },
  ],
  [
    'a repository could never be read',
    { collectors: failing('repository:b'), repositories: [repository('a')] },
    { 'Repository down': 1, 'Collector failing': 1, 'Cannot be recovered from there': 1 },
  ],
  ['the history cannot be read', { collectors: failing('history') }, { 'Collector failing': 1 }],
  [
    'a database is stale in one repository',
    { repositories: [repository('a'), repository('b', [backup(50), crm], [proof(backup(50), 520, whole), ...proofs])] },
    { 'Backup too old': 1, 'Behind another': 1 },
  ],
  [
    'everything is stale, and the server is only remembered',
    {
      server: serverState(['app'], { source: 'memory' }),
      collectors: failing('server'),
      repositories: [repository('a', [backup(50)], [proof(backup(50), 520, whole)])],
    },
    {
      'Server down': 1,
      'Collector failing': 1,
      'Backup too old': 1,
      'Objective missed': 1,
      'Cannot be recovered from there': 1,
      'Never backed up there': 1,
    },
  ],
  [
    'a database was never backed up',
    { server: serverState(['app', 'crm', 'new']) },
    {
      'Never backed up': 1,
      'Never backed up there': 2,
      'Cannot be recovered': 1,
      'Cannot be recovered from there': 2,
    },
  ],
  [
    'a database has just been created, and the others are old',
    {
      server: serverState(['app', 'new'], { appearedAt: new Map([['new', at(590)]]) }),
      repositories: [repository('a', [backup(200)], [proof(backup(200), 520, whole)])],
      collectors: looks.filter(({ collector }) => collector !== 'repository:b'),
    },
    { 'Objective missed': 1, 'Never backed up': 1, 'Never backed up there': 1 },
  ],
  [
    'a repository has one database only',
    { repositories: [repository('a'), repository('b', [app])] },
    { 'Never backed up there': 1, 'Cannot be recovered from there': 1 },
  ],
  [
    'a repository has nothing',
    { repositories: [repository('a'), repository('b', [])] },
    { 'Never backed up there': 1, 'Cannot be recovered from there': 1 },
  ],
  ['a dropped database is no worry', { server: serverState(['app']) }, {}],
  ['an attempt failed since', { backupFailures: [failure('crm', 550)] }, { 'Last attempt failed': 1 }],
  ['an attempt failed before', { backupFailures: [failure('crm', 400)] }, {}],
  [
    'an attempt at a dropped database failed',
    { server: serverState(['app']), backupFailures: [failure('crm', 550)] },
    {},
  ],
  [
    'nothing was proven in one repository',
    { repositories: [repository('a'), repository('b', [app, crm], [])] },
    { 'Never proven': 2 },
  ],
  [
    'the last test is old',
    { repositories: [repository('a'), repository('b', [app, crm], [proof(app, 100, whole), proof(crm, 520, whole)])] },
    { 'Verification too old': 1 },
  ],
  [
    'a test found damage',
    {
      repositories: [repository('a'), repository('b', [app, crm], [...proofs, proof(app, 550, { artifact: 'fail' })])],
    },
    { 'Found bad': 1, 'Never proven': 1, 'Cannot be recovered from there': 1 },
  ],
  [
    'a test had no result',
    {
      repositories: [
        repository('a'),
        repository('b', [app, crm], [...proofs, proof(app, 550, { artifact: 'pass', restore: 'inconclusive' })]),
      ],
    },
    { 'Test without a result': 1 },
  ],
  [
    'a manifest is torn, another is being made',
    {
      repositories: [
        repository('a'),
        {
          ...repository('b'),
          unusable: [
            { id: 'x', state: 'invalid' },
            { id: 'y', state: 'in-progress' },
          ],
        },
      ],
    },
    { 'Unusable backups': 1, 'Expiry blocked': 1 },
  ],
  [
    'the rows of a backup are unusual in one repository',
    {
      repositories: ['a', 'b'].map((name) => repository(name, [odd, crm], [proof(odd, 520, whole), ...proofs])),
    },
    { 'Rows unusual': 1 },
  ],
  [
    'a disk is nearly full',
    { repositories: [repository('a'), { ...repository('b'), capacity: { freeBytes: 9, totalBytes: 100 } }] },
    { 'Repository nearly full': 1 },
  ],
  [
    'a repository costs too much',
    { repositories: [repository('a'), { ...repository('b'), capacity: { freeBytes: 900, totalBytes: 1_000 } }] },
    { 'Over budget': 1 },
  ],
  ['a job is at work', { jobs: [{ ...job, running: true, lastStartAt: at(550) }] }, {}],
  ['a job is at work for too long', { jobs: [{ ...job, running: true, lastStartAt: at(530) }] }, { 'Job stuck': 1 }],
  [
    // Within what clocks may differ by, so that the sidecar itself makes nothing of it.
    'a backup comes from the future',
    { repositories: [repository('a'), repository('b', [early, crm], [proof(early, 599, whole), ...proofs])] },
    { 'Clock ahead': 1 },
  ],
  ['another tool dumps as well', { watches: [watch(0)] }, {}],
  ['another tool alone dumps', watchOnly, {}],
  ['another tool left a torn file', { ...watchOnly, watches: [watch(1)] }, { 'Watched dump broken': 1 }],
  [
    'another tool dumps no more',
    { ...watchOnly, watches: [watch(0, [backup(50, { id: file.id, type: 'external' })])] },
    { 'Watched dump too old': 1 },
  ],
  ['another tool left nothing', { ...watchOnly, watches: [watch(0, [])] }, { 'Watched directory empty': 1 }],
  ['a backup has half of its size', sized(1_000), { 'Backup shrank': 1 }],
  ['a backup has twice its size', sized(4_000), { 'Backup grew': 1 }],
  [
    'a key cannot be read',
    { collectors: [...looks, collectorState('encryption', { success: false })] },
    { 'Key unreadable': 1 },
  ],
]

/** The series of a catalog as promtool wants them, with the first of March for the first of January 1970. */
async function seriesOf(catalog: Partial<Catalog>, values: (value: number) => string) {
  const samples = parseExposition(await renderCatalog(options, catalogOf({ ...healthy, ...catalog })))
  return samples.map(({ name, labels, value }) => ({
    series: `${name}{${Object.entries(labels)
      .map(([label, text]) => `${label}=${JSON.stringify(text)}`)
      .join(',')}}`,
    values: values(name.endsWith('_timestamp_seconds') ? value - at(0).getTime() / 1000 : value),
  }))
}

/** What promtool says of the tests that fail; empty when none does. */
function complaints(t: Test, tests: readonly object[]): string {
  const directory = t.testdir({
    'rules.json': JSON.stringify({ groups: [] }),
    'tests.json': JSON.stringify({ rule_files: ['rules.json'], evaluation_interval: '1m', tests }),
  })
  const { status, stdout, stderr, error } = spawnSync('promtool', ['test', 'rules', `${directory}/tests.json`], {
    encoding: 'utf8',
  })
  if (error !== undefined) throw error
  return status === 0 ? '' : `${stdout}${stderr}`
}

const told = { 'Nobody writes': 1, 'Hook failed': 1, 'Not told': 1 }

await t.test('every condition holds when it should, and only then', async (t) => {
  const expectations = (holding: Readonly<Record<string, number>>) =>
    conditions.map(({ name, query }) => ({
      expr: `count(${query})`,
      eval_time: '600m',
      exp_samples: name in holding ? [{ labels: '{}', value: holding[name] }] : [],
    }))
  const tests = await Promise.all(
    pictures.map(async ([name, catalog, holding]) => ({
      name,
      interval: '1m',
      input_series: await seriesOf(catalog, (value) => `${value}x610`),
      promql_expr_test: expectations(holding),
    })),
  )
  tests.push({
    name: 'the sidecar has gone',
    interval: '1m',
    input_series: await seriesOf({}, (value) => `${value}x590 stale`),
    promql_expr_test: expectations({ 'Sidecar gone': 1 }),
  })
  tests.push({
    name: 'the files of a database have gone',
    interval: '1m',
    input_series: [
      ...(await seriesOf(watchOnly, (value) => `${value}x610`)).filter(
        ({ series }) => !/(last_success|max_age).*external/.test(series),
      ),
      ...(await seriesOf(watchOnly, (value) => `${value}x590 stale`)).filter(({ series }) =>
        /(last_success|max_age).*external/.test(series),
      ),
    ],
    promql_expr_test: expectations({ 'Watched database gone': 1 }),
  })
  const at600 = (value: string, ...series: string[]) => series.map((one) => ({ series: one, values: value }))
  tests.push({
    name: 'all stand by, a hook fails, nobody is told',
    interval: '1m',
    input_series: [
      ...(await seriesOf({}, (value) => `${value}x610`)),
      ...at600('0x610', 'lifeboat_lease_held{cluster_name="spavix",repository="a"}'),
      ...at600('1x610', 'lifeboat_lease_held{cluster_name="spavix",repository="b"}'),
      ...at600(
        '0x590 1x20',
        'lifeboat_hook_failures_total{cluster_name="spavix",hook="copy"}',
        'lifeboat_notification_failures_total{cluster_name="spavix",target="ops"}',
      ),
    ],
    promql_expr_test: expectations(told),
  })
  const unknown = pictures.flatMap(([, , holding]) =>
    Object.keys(holding).filter((name) => !conditions.some((condition) => condition.name === name)),
  )
  t.same(unknown, [])
  const held = new Set([
    'Sidecar gone',
    'Watched database gone',
    ...Object.keys(told),
    ...pictures.flatMap(([, , holding]) => Object.keys(holding)),
  ])
  t.same(
    conditions.filter(({ name }) => !held.has(name)),
    [],
    'each was seen to hold',
  )
  t.equal(complaints(t, tests), '')
})

await t.test('figures give a value', async (t) => {
  const tests = [
    {
      interval: '1m',
      input_series: await seriesOf({}, (value) => `${value}x610`),
      promql_expr_test: figures.map(({ name, query }) => ({
        expr: `count(${query})`,
        eval_time: '600m',
        exp_samples: [{ labels: '{}', value: name === 'Failed runs' ? 1 : 4 }],
      })),
    },
  ]
  t.equal(complaints(t, tests), '')
})
