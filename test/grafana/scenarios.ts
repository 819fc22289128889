import { WalCoverage } from '../../src/domain/coverage.ts'
import type { FileState } from '../../src/domain/external-file.ts'
import { Timelines } from '../../src/domain/timeline.ts'
import type { Policy } from '../../src/metrics/policy.ts'
import { createProcessMetrics } from '../../src/metrics/process.ts'
import { type MetricsOptions, renderCatalog } from '../../src/metrics/registry.ts'
import type { Catalog } from '../../src/observe/catalog.ts'
import type { JobSummary } from '../../src/runner/job.ts'
import {
  at,
  backup,
  catalogOf,
  collectorState,
  policies,
  proof,
  repositoryState,
  retention,
  serverState,
} from '../support/catalog.ts'
import { parseExposition, type Sample } from '../support/exposition.ts'
import { repositoryWal, storedState, walArchive, walState } from '../support/wal-state.ts'

/** The moment at which the dashboards are looked at. Seconds since 1970. */
export const now = at(600).getTime() / 1000

/** How much history there is before it, seconds, a sample every minute. */
export const history = 3_600

const whole = { artifact: 'pass', restore: 'pass', data: 'pass' } as const
const usual = [100, 200, 300].map((minutes) => backup(minutes, { id: `early-${minutes}` }))
const [app, crm] = [backup(500), backup(490, { id: 'crm', database: 'crm' })]
const file = backup(500, { id: 'external-0123456789abcdef', type: 'external' })

interface Facts {
  readonly isUnusual: boolean
  readonly isQuarantined: boolean
  readonly streams: boolean
  readonly isLeaseHeld: boolean
  readonly dollars: number
}

const fine: Facts = { isUnusual: false, isQuarantined: false, streams: true, isLeaseHeld: true, dollars: 12 }

function optionsOf({ cluster, catalog, facts, limits }: Scenario): MetricsOptions {
  const isSeen = catalog !== unseen
  const shipped = (repository: string) => ({
    ...{ repository, waiting: null, shippedSegments: 71, shippedBytes: 9_000, queued: 0, inFlight: 0 },
    ...{ lastSuccessAt: at(490), failures: 0, failure: null, undecided: 0, delaySeconds: 0.3 },
    quarantined: new Map(facts.isQuarantined ? [['foreign' as const, 1]] : []),
  })
  return {
    version: '0.1.0',
    revision: 'abc1234',
    nodeVersion: 'v24.21.0',
    cluster,
    policy: {
      rpoSeconds: 3_600,
      rtoSeconds: 14_400,
      dumpMaxAgeSeconds: 90_000,
      fullMaxAgeSeconds: null,
      incrementalMaxAgeSeconds: null,
      verificationMaxAgeSeconds: 691_200,
      alertPathMaxAgeSeconds: 648_000,
      retention: new Map([...policies].map(([name, policy]) => [name, { ...policy, windowSeconds: 604_800 }])),
      growth: { shrinkBelow: 0.7, growAbove: 1.5 },
      ...limits,
    },
    retention: retention(),
    growth: { of: () => ({ isUnusual: facts.isUnusual }) },
    recovery: () => new Map(['local', 'offsite'].map((name) => [name, 734.5])),
    shipping: () => ({ repositories: isSeen ? ['local', 'offsite'].map(shipped) : [], pruning: null }),
    buckets: () => [{ repository: 'offsite', requests: [{ operation: 'GetObject', requests: 17, errors: 0 }] }],
    tellings: {
      hookFailures: () => new Map([['mount', 0]]),
      deliveries: () => [{ target: 'ops', lastSuccessAt: at(482), failures: 0 }],
      leases: {
        states: () =>
          (isSeen ? ['local', 'offsite'] : []).map((repository) => ({
            repository,
            state: facts.isLeaseHeld ? 'held' : 'waiting',
          })),
      },
    },
    alertDrills: { current: () => (isSeen ? 0 : null), lastProvenAt: () => at(470) },
    wal: {
      slotLimitBytes: 10 * 1024 ** 3,
      stream: () => ({
        phase: isSeen ? 'streaming' : 'starting',
        slot: 'lifeboat',
        isUp: isSeen ? facts.streams : null,
        position: 0x3000060n,
        shippedTo: 0x3000060n,
        failure: null,
        shipFailure: null,
        failures: 0,
        holes: 0,
      }),
    },
    costs: {
      of: ({ repositories }) =>
        repositories.map(({ name }) => ({
          repository: name,
          today: { items: [], dollars: facts.dollars, isWhole: true, unknown: [] },
        })),
      budgets: new Map([
        ['local', 20],
        ['offsite', 20],
      ]),
    },
  }
}

const job = (name: JobSummary['job'], fields: Partial<JobSummary> = {}): JobSummary => ({
  job: name,
  lane: name,
  timeoutSeconds: 3_600,
  schedule: '0 2 * * *',
  nextRunAt: at(1_560),
  runs: 12,
  failures: 0,
  lastStartAt: at(480),
  lastSuccessAt: at(482),
  lastDurationSeconds: 120,
  running: false,
  progressRatio: null,
  ...fields,
})

const watch = (broken: number) => ({
  ...repositoryState('nightly', [file], [proof(file, 520, whole)]),
  maxAgeSeconds: 93_600,
  databases: ['app'],
  files: new Map<FileState, number>([
    ['sound', 1],
    ['truncated', broken],
  ]),
  details: () => null,
})

const slot = {
  name: 'lifeboat',
  type: 'physical' as const,
  active: true,
  walStatus: 'reserved',
  retainedBytes: 4096,
  overLimit: false,
}

const offsite = { objects: 21, foreign: 0, replication: { pending: 0, completed: 5, failed: 0 } }
const capacity = { freeBytes: 5_000_000, totalBytes: 9_000_000 }
const proofs = [...usual, app, crm].map((one) => proof(one, 520, whole))
const coverage = new WalCoverage(16 * 1024 * 1024, new Timelines())
const stored = ['local', 'offsite'].map((name) => storedState(name, coverage))
const archive = walArchive(coverage, {
  newest: { name: '000000010000000000000001', at: at(590) },
  capacity: { freeBytes: 6_000_000, totalBytes: 9_000_000 },
})
const collectors = ['server', 'repository:local', 'repository:offsite', 'watch:nightly', 'history']

const healthy: Partial<Catalog> = {
  server: serverState(['app', 'crm']),
  archiver: { state: 'archiving', detail: '', archived: 1201, failed: 0, ready: 0 },
  repositories: [
    { ...repositoryState('local', [...usual, app, crm], proofs), capacity, objects: 21 },
    { ...repositoryState('offsite', [...usual, app, crm], proofs), ...offsite },
  ],
  wal: {
    ...walState(...['local', 'offsite'].map((name) => repositoryWal(name, { missingSegments: 0 }))),
    slots: [slot],
    ...{ archive, stored },
  },
  postures: [{ repository: 'offsite', findings: [{ check: 'versioning', state: 'good' }] }],
  watches: [watch(0)],
  collectors: collectors.map((name) => collectorState(name)),
  jobs: [job('dump'), job('verify', { running: true, lastStartAt: at(590), progressRatio: 0.25 })],
  // It failed before the backup that there is.
  backupFailures: [
    { backupType: 'dump', database: 'crm', at: at(450), failure: { code: 'program-failed', message: '' } },
  ],
}

const failed: Partial<Catalog> = {
  ...healthy,
  archiver: { state: 'failing', detail: 'archive_command fails', archived: 1201, failed: 3, ready: 2 },
  repositories: [
    {
      ...repositoryState(
        'local',
        [...usual, app, crm],
        [
          proof(app, 550, { artifact: 'pass', restore: 'fail' }),
          proof(crm, 540, { artifact: 'pass', restore: 'inconclusive' }),
        ],
      ),
      capacity,
      objects: 23,
      unusable: [{ id: 'x', state: 'invalid' }],
    },
    { ...repositoryState('offsite', [crm], []), ...offsite, foreign: 3 },
  ],
  wal: {
    ...walState(...['local', 'offsite'].map((name) => repositoryWal(name, { recoveryPoint: null, windows: [] }))),
    slots: [{ ...slot, active: false, walStatus: 'lost' }],
    ...{ archive, stored },
  },
  postures: [
    { repository: 'offsite', findings: [{ check: 'versioning', state: 'weak', what: 'off', hint: 'turn it on' }] },
  ],
  watches: [watch(1)],
  collectors: collectors.map((name) =>
    collectorState(name, { success: name !== 'server' && name !== 'repository:offsite' }),
  ),
  jobs: [
    job('dump', { running: true, lastStartAt: at(500), failures: 3 }),
    job('verify', { lastStartAt: at(590), lastSuccessAt: at(592) }),
  ],
  backupFailures: ['app', 'crm'].map((database) => ({
    ...{ backupType: 'dump' as const, database, at: at(550) },
    failure: { code: 'program-failed' as const, message: '' },
  })),
}

const lost: Partial<Catalog> = {
  ...healthy,
  repositories: ['local', 'offsite'].map((name) => repositoryState(name, [app], [proof(app, 520, whole)])),
  wal: null,
}

const unreadable: Partial<Catalog> = {
  ...healthy,
  collectors: collectors.map((name) => collectorState(name, { success: !name.startsWith('repository:') })),
}

/** Before the first look at anything. */
const unseen: Partial<Catalog> = { server: null, complete: false }

export interface Scenario {
  readonly cluster: string
  /** Whether Prometheus is told to leave our label `job` as it is (`honor_labels`). */
  readonly honorsLabels: boolean
  readonly catalog: Partial<Catalog>
  readonly facts: Facts
  readonly limits: Partial<Policy>
  /** Moments are so many seconds earlier: nothing has happened since, though the sidecar runs. */
  readonly staleSeconds: number
  /** What counters of failures gain in a minute. */
  readonly failures: number
  /** The sidecar was last scraped so many seconds ago. */
  readonly silentSeconds: number
  /** The dumps of another watched database went so many seconds ago. */
  readonly goneSeconds?: number
}

const base = {
  honorsLabels: false,
  catalog: healthy,
  facts: fine,
  limits: {},
  staleSeconds: 0,
  failures: 0,
  silentSeconds: 0,
}

export const scenarios = {
  healthy: { ...base, cluster: 'healthy' },
  honored: { ...base, cluster: 'honored', honorsLabels: true },
  stale: { ...base, cluster: 'stale', staleSeconds: 10 * 86_400 },
  failed: {
    ...base,
    cluster: 'failed',
    catalog: failed,
    facts: { isUnusual: true, isQuarantined: true, streams: false, isLeaseHeld: false, dollars: 40 },
    failures: 0.2,
    goneSeconds: 1_200,
  },
  silent: { ...base, cluster: 'silent', silentSeconds: 1_200 },
  /** Nothing is there of one of the databases. */
  lost: { ...base, cluster: 'lost', catalog: lost },
  /** As healthy, under limits that nothing can keep. */
  strict: {
    ...base,
    cluster: 'strict',
    limits: { rpoSeconds: 60, rtoSeconds: 60, dumpMaxAgeSeconds: 60, verificationMaxAgeSeconds: 60 },
  },
  /** No repository can be read now. */
  unreadable: { ...base, cluster: 'unreadable', catalog: unreadable },
  /** Its clock is two hours ahead. */
  ahead: { ...base, cluster: 'ahead', staleSeconds: -7_200 },
  unseen: { ...base, cluster: 'unseen', catalog: unseen },
} satisfies Record<string, Scenario>

const isFailure = /_(failures|errors|holes)_total$/

async function samplesOf(scenario: Scenario): Promise<Sample[]> {
  const { cluster, catalog, facts } = scenario
  const text = await renderCatalog(optionsOf(scenario), catalogOf(catalog))
  const own = parseExposition(await createProcessMetrics().text())
  const alert = (alertname: string, severity: string, labels: Record<string, string>): Sample => ({
    name: 'ALERTS',
    labels: { alertname, alertstate: 'firing', severity, ...labels },
    value: 1,
  })
  return [
    ...parseExposition(text),
    ...own.filter(({ name }) => /^process_(resident_memory_bytes|cpu_seconds_total)$/.test(name)),
    ...(facts === fine ? [] : [alert('LifeboatWalArchivingFailing', 'critical', { cluster_name: cluster })]),
  ]
}

function line(name: string, labels: Readonly<Record<string, string>>, value: number, time: number): string {
  const escaped = Object.entries(labels).map(
    ([label, text]) => `${label}="${text.replace(/[\\"]/g, '\\$&').replaceAll('\n', '\\n')}"`,
  )
  return `${name}{${escaped.join(',')}} ${value} ${time}`
}

/** As what there is of the watched database, of one that has another name. */
function ofGone(sample: Sample): Sample[] {
  const { labels } = sample
  return labels.backup_type === 'external' && labels.database !== undefined
    ? [{ ...sample, labels: { ...labels, database: 'former' } }]
    : []
}

/** What Prometheus would have stored of all of them. */
export async function openMetrics(): Promise<string> {
  const lines: string[] = []
  const times = Array.from({ length: history / 60 + 1 }, (_, index) => now - history + index * 60)
  const watchdog = { alertname: 'Watchdog', alertstate: 'firing', severity: 'none' }
  for (const time of times) lines.push(line('ALERTS', watchdog, 1, time))
  for (const scenario of Object.values<Scenario>(scenarios)) {
    const target = { job: 'lifeboat', instance: `${scenario.cluster}:10187` }
    const samples = await samplesOf(scenario)
    const gone = new Set(scenario.goneSeconds === undefined ? [] : samples.flatMap(ofGone))
    for (const sample of [...samples, ...gone]) {
      const { name, labels, value } = sample
      const ended = gone.has(sample) ? (scenario.goneSeconds ?? 0) : scenario.silentSeconds
      const { job: ours, ...others } = labels
      const renamed = ours === undefined ? {} : scenario.honorsLabels ? { job: ours } : { exported_job: ours }
      const scraped = name === 'ALERTS' ? labels : { ...target, ...others, ...renamed }
      const isMoment = name.endsWith('_timestamp_seconds') && !name.includes('next_run')
      for (const time of times.filter((one) => one <= now - ended)) {
        const gained = name.endsWith('_total')
          ? ((time - now + history) / 60) * (isFailure.test(name) ? scenario.failures : 1)
          : 0
        lines.push(line(name, scraped, value + gained - (isMoment ? scenario.staleSeconds : 0), time))
      }
    }
  }
  return `${lines.join('\n')}\n# EOF\n`
}
