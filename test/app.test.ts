import { createHash } from 'node:crypto'
import { cp, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { type App, createApp } from '../src/app.ts'
import { systemClock } from '../src/clock.ts'
import { loadConfig } from '../src/config/load.ts'
import { type MetricDefinition, metricDefinitions } from '../src/metrics/names.ts'
import type { Run } from '../src/runner/job.ts'
import { parseExposition, promtoolComplaints, type Sample } from './support/exposition.ts'
import { keptLog } from './support/log.ts'
import { type Cluster, freePort, startCluster } from './support/postgres.ts'
import { scratchDirectory } from './support/scratch.ts'
import { flipBit } from './support/tamper.ts'

const token = 'lb_test'
const version = { version: '0.0.0', revision: 'test' }

/** The sidecar as users run it, on a real server and two real directories. */
class Sidecar {
  readonly app: App
  readonly lines: readonly Record<string, unknown>[]

  constructor(app: App, lines: readonly Record<string, unknown>[]) {
    this.app = app
    this.lines = lines
  }

  static async start(t: Test, cluster: Cluster, directory: string, extra: object = {}): Promise<Sidecar> {
    const config = await loadConfig({
      env: {},
      text: JSON.stringify({
        cluster: 'spavix',
        listen: `127.0.0.1:${await freePort()}`,
        stateDir: join(directory, 'state'),
        postgres: { host: cluster.source.host, port: cluster.source.port, user: 'postgres', databases: ['app'] },
        repositories: ['one', 'two'].map((name) => ({ name, url: `file://${join(directory, name)}` })),
        runner: { retries: 0 },
        auth: { tokens: [{ name: 'test', role: 'admin', sha256: createHash('sha256').update(token).digest('hex') }] },
        ...extra,
      }),
    })
    for (const { path } of config.repositories) await mkdir(path ?? '', { recursive: true })
    const { log, lines } = keptLog()
    const app = await createApp(config, { clock: systemClock, log, version })
    t.teardown(() => app.stop())
    await app.start()
    return new Sidecar(app, lines)
  }

  async request(path: string, body?: object): Promise<{ status: number; json: unknown }> {
    const answer = await fetch(`${this.app.url}${path}`, {
      headers: { authorization: `Bearer ${token}`, ...(body ? { 'content-type': 'application/json' } : {}) },
      ...(body ? { method: 'POST', body: JSON.stringify(body) } : {}),
    })
    return { status: answer.status, json: await answer.json() }
  }

  /** Triggers a run and follows it to its end. */
  async run(kind: 'backup' | 'verify', body: object = {}): Promise<Run> {
    const { status, json } = await this.request(`/api/admin/${kind}`, body)
    if (status !== 202) throw new Error(`${kind} was answered with ${status}: ${JSON.stringify(json)}`)
    for (;;) {
      const run = (await this.request(`/api/runs/${(json as Run).id}`)).json as Run
      if (run.finishedAt !== null) return run
      await delay(50)
    }
  }

  async metricsText(): Promise<string> {
    return (await fetch(`${this.app.url}/metrics`)).text()
  }

  /** Scrapes until the samples satisfy the question, or fails after a while with the last ones. */
  async until(what: string, question: (samples: readonly Sample[]) => boolean): Promise<readonly Sample[]> {
    const deadline = systemClock.monotonic() + 20_000
    for (;;) {
      const samples = parseExposition(await this.metricsText())
      if (question(samples)) return samples
      if (systemClock.monotonic() > deadline) throw new Error(`never seen: ${what}`)
      await delay(50)
    }
  }
}

function value(
  samples: readonly Sample[],
  name: string,
  labels: Readonly<Record<string, string>> = {},
): number | undefined {
  return samples.find(
    (sample) => sample.name === name && Object.entries(labels).every(([key, wanted]) => sample.labels[key] === wanted),
  )?.value
}

const definitions: ReadonlyMap<string, MetricDefinition> = new Map(Object.entries(metricDefinitions))
const dumps = (repository: string) => ({ repository, backup_type: 'dump' })

await t.test('the sidecar from the first scrape to a backup that was lost', async (t) => {
  const cluster = await startCluster(t)
  await cluster.createDatabase(
    'app',
    'create table people (id bigserial primary key, name text); insert into people (name) select g::text from generate_series(1, 1000) g',
  )
  const directory = await scratchDirectory(t)
  for (const name of ['one', 'two']) await mkdir(join(directory, name)) // one that is not there cannot be looked at
  const sidecar = await Sidecar.start(t, cluster, directory, { observe: { interval: '1s' } })

  await t.test('before the first backup nothing is pretended', async (t) => {
    const samples = await sidecar.until(
      'a complete first look',
      (all) =>
        ['one', 'two'].every((name) => value(all, 'lifeboat_backups', dumps(name)) === 0) &&
        ['server', 'history'].every((collector) => value(all, 'lifeboat_collector_success', { collector }) === 1),
    )
    t.equal(value(samples, 'lifeboat_up'), 1)
    t.equal(value(samples, 'lifeboat_backup_last_success_timestamp_seconds'), undefined, 'unknown is not zero')
    t.equal(value(samples, 'lifeboat_recovery_point_timestamp_seconds'), undefined)
    t.ok(
      (value(samples, 'lifeboat_policy_backup_max_age_seconds', { database: 'app' }) ?? 0) > 86_400,
      'the policy is there all the same',
    )
    t.equal(promtoolComplaints(await sidecar.metricsText()), '', 'promtool has nothing to say')
    const ours = samples.filter(({ name }) => name.startsWith('lifeboat_'))
    t.ok(ours.length > 20)
    for (const { name, labels } of ours) {
      const own: readonly string[] | undefined = definitions.get(name)?.labels
      const wanted = name === 'lifeboat_build_info' ? own : ['cluster_name', ...(own ?? [])]
      t.same(Object.keys(labels), wanted, `${name}: alerts and dashboards rely on its labels`)
    }
    t.equal((await fetch(`${sidecar.app.url}/-/ready`)).status, 200)
  })

  await t.test('a backup lands in both repositories and shows', async (t) => {
    const run = await sidecar.run('backup')
    t.equal(run.state, 'succeeded')
    t.equal(run.items.length, 2, 'one for each repository')
    const samples = await sidecar.until('both backups', (all) =>
      ['one', 'two'].every((name) => value(all, 'lifeboat_backups', dumps(name)) === 1),
    )
    t.ok((value(samples, 'lifeboat_recovery_point_timestamp_seconds', { repository: 'one' }) ?? 0) > 1_700_000_000)
    t.equal(value(samples, 'lifeboat_backup_proven_timestamp_seconds'), undefined, 'it is not proven yet')
    const [one, two] = await Promise.all(
      ['one', 'two'].map((name) => readdir(join(directory, name, 'spavix', 'backups'))),
    )
    t.same(one, two, 'the same id in both')
  })

  await t.test('a verification proves it', async (t) => {
    const run = await sidecar.run('verify', { repository: 'one' })
    t.match(run, { state: 'succeeded', items: [{ verdict: 'pass', database: 'app' }] })
    const labels = { ...dumps('one'), database: 'app' }
    const samples = await sidecar.until(
      'the proof',
      (all) => value(all, 'lifeboat_backup_proven_timestamp_seconds', labels) !== undefined,
    )
    t.equal(value(samples, 'lifeboat_verification_last_result', { ...labels, level: 'data', result: 'pass' }), 1)
    t.equal(value(samples, 'lifeboat_verification_last_result', { ...labels, level: 'data', result: 'fail' }), 0)
    t.equal(
      value(samples, 'lifeboat_backup_proven_timestamp_seconds', dumps('two')),
      undefined,
      'the other copy was not looked at',
    )
  })

  await t.test('what somebody does to the directory shows, without a job', async (t) => {
    const backups = join(directory, 'two', 'spavix', 'backups')
    const [id = ''] = await readdir(backups)
    await rename(join(backups, id), join(directory, 'aside'))
    const gone = await sidecar.until('the loss', (all) => value(all, 'lifeboat_backups', dumps('two')) === 0)
    t.equal(value(gone, 'lifeboat_backup_last_success_timestamp_seconds', dumps('two')), undefined)
    t.equal(value(gone, 'lifeboat_backups', dumps('one')), 1, 'the other repository has its own truth')
    await cp(join(directory, 'aside'), join(backups, id), { recursive: true })
    await sidecar.until('its return', (all) => value(all, 'lifeboat_backups', dumps('two')) === 1)
  })

  await t.test('a damaged copy takes nothing from the details of the good one', async (t) => {
    const [id = ''] = await readdir(join(directory, 'one', 'spavix', 'backups'))
    const details = async () => (await sidecar.request(`/api/backups/${id}`)) as { status: number; json: object }
    t.match(await details(), {
      status: 200,
      json: {
        copies: [
          { repository: 'one', proofs: [{}], problems: [] },
          { repository: 'two', proofs: [], problems: [] },
        ],
      },
    })
    const manifest = join(directory, 'two', 'spavix', 'backups', id, 'manifest.json')
    const whole = await readFile(manifest)
    await writeFile(manifest, '{')
    const proof = join(directory, 'one', 'spavix', 'proofs', `20260301T000000Z-${id}.json`)
    await writeFile(proof, 'torn')
    const problem = (code: string) => [{ code, message: /not valid/ }]
    t.match(await details(), {
      status: 200,
      json: {
        copies: [
          {
            repository: 'one',
            manifest: { backupId: id },
            proofs: [{ backupId: id }],
            problems: problem('proof-invalid'),
          },
          { repository: 'two', manifest: null, proofs: [], problems: problem('manifest-invalid') },
        ],
      },
    })
    await writeFile(manifest, whole)
    await rm(proof)
    t.match(await sidecar.request('/api/backups/20260301T000000Z-dump-ffffff'), { status: 404 })
  })

  await t.test('a copy without a file is unusable, until that is back', async (t) => {
    const folder = join(directory, 'two', 'spavix', 'backups')
    const [id = ''] = await readdir(folder)
    const file = join(folder, id, 'globals.sql')
    const invalid = (all: readonly Sample[]) =>
      value(all, 'lifeboat_backups_unusable', { repository: 'two', state: 'invalid' })
    await rename(file, join(directory, 'globals.sql'))
    const samples = await sidecar.until('the damage', (all) => invalid(all) === 1)
    t.equal(value(samples, 'lifeboat_backups', dumps('one')), 1, 'the other copy is whole')
    const words = /globals\.sql of backup .* is missing/
    t.match(await sidecar.request('/api/backups?repository=two'), {
      json: { unusable: [{ id, state: 'invalid', failure: { code: 'artifact-invalid', message: words } }] },
    })
    const page = await (await fetch(`${sidecar.app.url}/`)).text()
    t.match(page, '1 folder without a usable backup', 'the page counts it for everybody')
    await rename(join(directory, 'globals.sql'), file)
    await sidecar.until('that it is back', (all) => invalid(all) === 0)
  })

  await t.test('a spoiled copy fails its verification, and the verdict shows', async (t) => {
    const [id = ''] = await readdir(join(directory, 'two', 'spavix', 'backups'))
    await flipBit(join(directory, 'two', 'spavix', 'backups', id, 'dump.tar'))
    const run = await sidecar.run('verify', { repository: 'two', level: 'artifact' })
    t.match(run, { state: 'failed', failure: { code: 'verification-failed' }, items: [{ verdict: 'fail' }] })
    await sidecar.until(
      'the failure',
      (all) =>
        value(all, 'lifeboat_verification_last_result', { ...dumps('two'), level: 'artifact', result: 'fail' }) === 1,
    )
    t.match(run.failure?.message, /checksum-mismatch/)
  })

  await t.test('a failed backup shows beside the good ones', async (t) => {
    await cluster.sql('alter database app rename to other')
    const run = await sidecar.run('backup')
    t.match(run, { state: 'failed', failure: { code: 'database-missing' } })
    const samples = await sidecar.until(
      'the failure',
      (all) => value(all, 'lifeboat_backup_last_failure_timestamp_seconds', { database: 'app' }) !== undefined,
    )
    t.equal(value(samples, 'lifeboat_backups', dumps('one')), 1, 'the good one is still there')
    await cluster.sql('alter database other rename to app')
  })

  await t.test('a server that is down is told, and nothing else is forgotten', async (t) => {
    await cluster.server.stop()
    const answer = await sidecar.run('backup')
    t.match(answer, { state: 'failed', failure: { code: 'server-unreachable' } })
    const samples = await sidecar.until('lifeboat_up 0', (all) => value(all, 'lifeboat_up') === 0)
    t.equal(value(samples, 'lifeboat_collector_success', { collector: 'server' }), 0)
    t.equal(value(samples, 'lifeboat_backups', dumps('one')), 1)
    await cluster.server.start()
  })
})

await t.test('after a restart the same disk gives the same metrics', async (t) => {
  const cluster = await startCluster(t)
  await cluster.createDatabase('app', 'create table people as select generate_series(1, 10) as id')
  const directory = await scratchDirectory(t)
  const first = await Sidecar.start(t, cluster, directory)
  await first.run('backup')
  await first.run('verify', { repository: 'one', level: 'restore' })
  const stable = (samples: readonly Sample[]) =>
    samples
      .filter(({ name }) =>
        /^lifeboat_(backup|verification|recovery|job_(runs|failures|last)|policy|cluster_info)/.test(name),
      )
      .map(({ name, labels, value: number }) => `${name} ${JSON.stringify(labels)} ${number}`)
      .sort()
  const proven = (all: readonly Sample[]) =>
    value(all, 'lifeboat_backup_proven_timestamp_seconds') !== undefined &&
    value(all, 'lifeboat_job_runs_total', { job: 'verify' }) === 1
  const before = await first.until('the proof', proven)
  await first.app.stop()
  const second = await Sidecar.start(t, cluster, directory)
  const after = await second.until(
    'everything',
    (all) =>
      proven(all) &&
      value(all, 'lifeboat_up') === 1 &&
      ['one', 'two'].every((repository) => value(all, 'lifeboat_repository_up', { repository }) === 1),
  )
  t.same(stable(after), stable(before))
  t.same(await readdir(join(directory, 'state', 'work')).catch(() => []), [], 'no work folder is left')
})

await t.test('when the server is lost, a restart does not lose what alerts are made of', async (t) => {
  const cluster = await startCluster(t)
  await cluster.createDatabase('app', 'create table people as select generate_series(1, 10) as id')
  const directory = await scratchDirectory(t)
  const { host, port } = cluster.source
  const all = { postgres: { host, port, user: 'postgres' }, observe: { interval: '1s' } }
  const first = await Sidecar.start(t, cluster, directory, all)
  t.match(await first.run('backup'), { state: 'succeeded' })
  const kept = (samples: readonly Sample[]) =>
    samples
      .filter(({ name }) => /^lifeboat_(recovery_point|policy|cluster_info|backup_last_success)/.test(name))
      .map(({ name, labels, value: number }) => `${name} ${JSON.stringify(labels)} ${number}`)
      .sort()
  const limit = (samples: readonly Sample[], database: string) =>
    value(samples, 'lifeboat_policy_backup_max_age_seconds', { database })
  const isWhole = (samples: readonly Sample[]) =>
    ['one', 'two'].every(
      (repository) => value(samples, 'lifeboat_recovery_point_timestamp_seconds', { repository }) !== undefined,
    )
  await first.until('both recovery points', isWhole)
  await cluster.sql('create database new')
  const before = await first.until('the new database', (samples) => limit(samples, 'new') !== undefined)
  t.ok(isWhole(before), 'a database that has just been created ends no recovery point')
  await first.app.stop()
  await cluster.server.stop()

  const down = (samples: readonly Sample[]) => value(samples, 'lifeboat_up') === 0 && isWhole(samples)
  const second = await Sidecar.start(t, cluster, directory, all)
  t.same(kept(await second.until('the server down', down)), kept(before))
  t.match(await second.run('backup'), { state: 'failed', failure: { code: 'server-unreachable' }, items: [] })
  const failed = await second.until(
    'the failed attempts',
    (samples) => value(samples, 'lifeboat_backup_last_failure_timestamp_seconds') !== undefined,
  )
  for (const database of ['app', 'new', 'postgres']) {
    t.ok(value(failed, 'lifeboat_backup_last_failure_timestamp_seconds', { database }), database)
  }
  await second.app.stop()

  await rm(join(directory, 'state'), { recursive: true })
  const third = await Sidecar.start(t, cluster, directory, all)
  const inferred = await third.until('the server down, and no memory', down)
  t.ok(limit(inferred, 'app') !== undefined && limit(inferred, 'new') === undefined, 'by the backups that there are')
  t.ok(value(inferred, 'lifeboat_cluster_info'))
  t.ok(third.lines.some(({ level, msg }) => level === 40 && /cannot hold an RPO of 1h/.test(String(msg))))
})

await t.test('an address that is taken is said so', async (t) => {
  const cluster = await startCluster(t)
  const directory = await scratchDirectory(t)
  const other = createServer()
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
  t.teardown(() => other.close())
  const { port } = other.address() as { port: number }
  await t.rejects(Sidecar.start(t, cluster, directory, { listen: `127.0.0.1:${port}` }), {
    code: 'conflict',
    message: /cannot listen/,
  })
  await rm(directory, { recursive: true, force: true })
})

await t.test('what was missed is made up for once it is up, and not by a start that fails', async (t) => {
  const cluster = await startCluster(t)
  await cluster.createDatabase('app', 'create table t as select 1 as x')
  const directory = await scratchDirectory(t)
  const first = await Sidecar.start(t, cluster, directory)
  await first.app.stop()
  const db = new DatabaseSync(join(directory, 'state', 'lifeboat.db'))
  const twoDaysAgo = new Date(systemClock.now().getTime() - 2 * 86_400_000).toISOString()
  const { changes } = db
    .prepare(`update facts set value = json_set(value, '$.at', ?) where name like 'schedule dump %'`)
    .run(twoDaysAgo)
  t.equal(changes, 1)
  db.close()

  const other = createServer()
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
  t.teardown(() => other.close())
  const { port } = other.address() as { port: number }
  await t.rejects(Sidecar.start(t, cluster, directory, { listen: `127.0.0.1:${port}` }), { code: 'conflict' })

  const second = await Sidecar.start(t, cluster, directory)
  await second.until(
    'a run, and its backup',
    (all) =>
      value(all, 'lifeboat_backups', dumps('one')) === 1 &&
      value(all, 'lifeboat_job_runs_total', { job: 'dump' }) === 1,
  )
  t.match((await second.request('/api/runs')).json, {
    runs: [{ job: 'dump', trigger: 'catch-up', state: 'succeeded' }],
  })
})
