import { mkdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type Clock, systemClock } from '../../src/clock.ts'
import { LifeboatError } from '../../src/domain/errors.ts'
import type { PostureFinding } from '../../src/domain/posture.ts'
import { renderCatalog } from '../../src/metrics/registry.ts'
import type { Catalog, ServerState } from '../../src/observe/catalog.ts'
import {
  createObserver,
  type ObservedRepository,
  type Observer,
  type ObserverOptions,
} from '../../src/observe/observer.ts'
import { inProgressKey } from '../../src/repository/layout.ts'
import { Repository } from '../../src/repository/repository.ts'
import type { JobSummary } from '../../src/runner/job.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { at, policies, retention, serverState } from '../support/catalog.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { keptLog } from '../support/log.ts'
import { store, storedCluster, storeManifest, storeProof } from '../support/stored.ts'

const unreachable = {
  look: async () => {
    throw new LifeboatError('server-unreachable', 'connection refused')
  },
  remembered: null,
}
const noHistory = { jobs: () => [], backupFailures: () => [] }

type ObserveOptions = Partial<ObserverOptions> & Pick<ObservedRepository, 'posture'> & { readonly watch?: boolean }

function observe(t: Test, root: string, options: ObserveOptions = {}) {
  const storage = new LocalStorage({ root })
  const repository = new Repository({ name: 'local', cluster: storedCluster, storage, clock: systemClock })
  const { log, lines } = keptLog()
  const observer = createObserver({
    repositories: [
      { repository, watchRoot: options.watch ? root : null, capacity: null, posture: options.posture ?? null },
    ],
    watches: [],
    server: { look: async () => serverState(['app']), remembered: null },
    archiver: null,
    wal: null,
    databases: null,
    history: noHistory,
    clock: systemClock,
    log,
    // So long that in these tests nothing shows by the periodic look.
    intervalSeconds: 3_600,
    timeoutSeconds: 10,
    ...options,
  })
  t.teardown(() => observer.stop())
  return { observer, lines }
}

/** Resolves with the first catalog, from now on, that passes the test. */
function seen(observer: Observer, passes: (catalog: Catalog) => boolean): Promise<Catalog> {
  const { promise, resolve } = Promise.withResolvers<Catalog>()
  // The clock's timers do not keep the process alive, as in an application a listening socket does.
  const alive = setInterval(() => {}, 60_000)
  const check = (catalog: Catalog) => {
    if (passes(catalog)) resolve(catalog)
  }
  const end = observer.onChange(check)
  check(observer.catalog())
  return promise.finally(() => {
    end()
    clearInterval(alive)
  })
}

/** Real time, twenty times as fast: what is to show in a second shows in 50 ms. */
const fast: Clock = {
  now: () => systemClock.now(),
  monotonic: () => systemClock.monotonic() * 20,
  sleep: (ms, signal) => systemClock.sleep(ms / 20, signal),
}

const ids = (catalog: Catalog) => catalog.repositories.flatMap((state) => state.backups.map((backup) => backup.id))

await t.test('from nothing known to everything seen', async (t) => {
  const root = t.testdir({})
  const { backupId } = await storeManifest(root, { startedAt: at(10) })
  const { observer } = observe(t, root)
  const first = observer.catalog()
  t.match(first, { server: null, repositories: [], jobs: [], backupFailures: [], complete: false })
  t.same(
    first.collectors.map(({ collector, success }) => [collector, success]),
    [
      ['server', null],
      ['repository:local', null],
      ['history', null],
    ],
  )
  observer.start()
  const catalog = await seen(observer, (catalog) => catalog.complete)
  t.same(ids(catalog), [backupId])
  t.match(catalog.server, serverState(['app']))
  t.ok(catalog.collectors.every((state) => state.success))
  t.not(catalog, first)
  t.ok([catalog, catalog.repositories, catalog.collectors, catalog.jobs, catalog.backupFailures].every(Object.isFrozen))
})

await t.test('postures are looked at seldom, and nothing waits for them', async (t) => {
  const clock = new FakeClock()
  let looks = 0
  let answer = Promise.withResolvers<PostureFinding[]>()
  const look = () => {
    looks += 1
    return answer.promise
  }
  const { observer } = observe(t, t.testdir({}), { clock, posture: look })
  observer.start()
  const until = async (passes: (catalog: Catalog) => boolean) => {
    while (!passes(observer.catalog())) await clock.advance(1)
    return observer.catalog()
  }
  const catalog = await until(({ complete }) => complete)
  t.same(catalog.postures, [])
  t.match(catalog.collectors.at(-1), { collector: 'posture:local', success: null })
  answer.reject(new LifeboatError('storage-unreachable', 'no answer'))
  await until(({ collectors }) => collectors.at(-1)?.success === false)
  await observer.refresh()
  t.equal(looks, 1, 'a refresh of everything leaves it alone')
  answer = Promise.withResolvers()
  answer.resolve([{ check: 'versioning', state: 'good' }])
  await clock.advance(15 * 60_000)
  const told = await until(({ postures }) => postures.length > 0)
  t.same(told.postures, [{ repository: 'local', findings: [{ check: 'versioning', state: 'good' }] }])
  t.equal(looks, 2, 'one that failed is tried again soon')
  await clock.advance(5 * 3_600_000)
  t.equal(looks, 2)
  await clock.advance(3_600_000)
  t.equal(looks, 3)
  await observer.refresh('posture:local')
  t.equal(looks, 4, 'unless it is asked for')
})

await t.test('a refresh on demand: all, one, or one that is not there', async (t) => {
  const root = t.testdir({})
  const { observer } = observe(t, root)
  await observer.refresh()
  t.ok(observer.catalog().complete)
  let told: Catalog | null = null
  observer.onChange((catalog) => {
    told = catalog
  })
  const { backupId } = await storeManifest(root, { startedAt: at(10) })
  await observer.refresh('server')
  t.same(ids(observer.catalog()), [])
  await observer.refresh('repository:local')
  t.same(ids(observer.catalog()), [backupId])
  t.equal(told, observer.catalog(), 'the listeners know it')
  await t.rejects(observer.refresh('repository:other'), {
    code: 'not-found',
    hint: 'Use one of server, repository:local, history.',
  })
})

await t.test('a server that hangs leaves the others alone, and its last state stays', async (t) => {
  const clock = new FakeClock()
  let look: () => Promise<ServerState> = async () => serverState(['app', 'crm'])
  const root = t.testdir({})
  const { observer, lines } = observe(t, root, {
    clock,
    server: { look: () => look(), remembered: null },
    intervalSeconds: 30,
    timeoutSeconds: 5,
  })
  await observer.refresh()
  look = () => new Promise(() => {})
  const { backupId } = await storeManifest(root, { startedAt: at(10) })
  const hung = observer.refresh('server')
  await observer.refresh('repository:local')
  t.same(ids(observer.catalog()), [backupId])
  await clock.advance(5_000)
  await hung
  const state = () => observer.catalog().collectors.find((one) => one.collector === 'server')
  t.match(state(), { success: false, failure: { code: 'timed-out' }, lastSuccessAt: new Date('2026-03-01T00:00:00Z') })
  t.same(observer.catalog().server?.databases, ['app', 'crm'])
  t.match(lines, [{ collector: 'server', msg: 'look failed' }])

  look = async () => {
    throw new LifeboatError('server-authentication', 'password authentication failed')
  }
  await clock.advance(3_600_000)
  await observer.refresh('server')
  t.match(state(), { success: false, failure: { code: 'server-authentication' } })
  look = async () => serverState(['app'])
  await observer.refresh('server')
  t.match(state(), { success: true, failure: null })
  t.same(observer.catalog().server?.databases, ['app'])
})

await t.test('the first look may fail: complete means looked at, not good', async (t) => {
  const { observer } = observe(t, t.testdir({}), {
    server: unreachable,
    history: {
      jobs: () => {
        throw new LifeboatError('unexpected', 'database is locked')
      },
      backupFailures: () => [],
    },
  })
  await observer.refresh()
  t.match(observer.catalog(), { complete: true, server: null, jobs: [] })
  t.same(
    observer.catalog().collectors.map((state) => state.success),
    [false, true, false],
  )
})

await t.test('a key that is gone is a look that fails, and nothing else', async (t) => {
  const keys = async () => {
    throw new LifeboatError('config-invalid', 'key.txt: there is no such file')
  }
  const { observer } = observe(t, t.testdir({}), { keys })
  await observer.refresh()
  const failing = observer.catalog().collectors.filter(({ success }) => success !== true)
  t.match(failing, [{ collector: 'encryption', success: false, failure: { code: 'config-invalid' } }])
  t.equal(failing.length, 1)
})

await t.test('a server that cannot be seen is known by what there is', async (t) => {
  const root = t.testdir({})
  await storeManifest(root, { startedAt: at(10), database: 'stored' })
  const remembered = serverState(['app'], { source: 'memory' })
  const { observer: second } = observe(t, root, { server: { ...unreachable, remembered } })
  t.equal(second.catalog().server, remembered, 'from the first moment on')
  await second.refresh()
  t.equal(second.catalog().server, remembered)

  const { observer } = observe(t, root, { server: unreachable })
  await observer.refresh('repository:local')
  t.equal(observer.catalog().server, null, 'nobody guesses before the first look')
  await observer.refresh('server')
  const { server } = observer.catalog()
  t.match(server, { source: 'inferred', databases: ['stored'] })
  await observer.refresh('history')
  t.equal(observer.catalog().server, server, 'the same while the repositories are')
  await storeManifest(root, { startedAt: at(11), database: 'added', random: '000001' })
  await observer.refresh('repository:local')
  t.same(observer.catalog().server?.databases, ['added', 'stored'])

  const { observer: configured } = observe(t, t.testdir({}), { server: unreachable, databases: ['wanted'] })
  await configured.refresh()
  t.match(configured.catalog().server, { source: 'inferred', systemIdentifier: null, databases: ['wanted'] })
})

await t.test('history shows soon, listeners are told five times a second at most', async (t) => {
  const clock = new FakeClock()
  let runs = 0
  const summary: JobSummary = {
    job: 'dump',
    lane: 'dump',
    timeoutSeconds: 3_600,
    schedule: null,
    nextRunAt: null,
    runs: 0,
    failures: 0,
    lastStartAt: null,
    lastSuccessAt: null,
    lastDurationSeconds: null,
    running: true,
    progressRatio: null,
  }
  const history = { jobs: () => [{ ...summary, runs: ++runs }], backupFailures: () => [] }
  const { observer, lines } = observe(t, t.testdir({}), { clock, history })
  await observer.refresh()
  await clock.advance(1_000)
  const told: (number | undefined)[] = []
  const end = observer.onChange((catalog) => told.push(catalog.jobs[0]?.runs))
  observer.onChange(() => {
    throw new Error('a bad listener')
  })
  runs = 0
  for (let progress = 0; progress < 100; progress++) {
    observer.historyChanged()
    await clock.advance(10)
  }
  await clock.advance(1_000)
  t.ok(told.length >= 5 && told.length <= 7, `${told.length} in a second`)
  t.equal(told.at(-1), runs, 'the last word is told')
  t.ok(runs <= 7, 'nor is the history read more often')
  t.match(lines[0], { msg: 'a listener to the catalog failed' })
  end()
  const before = told.length
  observer.historyChanged()
  await clock.advance(1_000)
  t.equal(told.length, before)
})

await t.test('changes in a local repository show by themselves', async (t) => {
  const root = t.testdir({})
  const { observer } = observe(t, root, { watch: true, clock: fast })
  observer.start()
  await seen(observer, (catalog) => catalog.complete)

  const one = await storeManifest(root, { startedAt: at(10) })
  await seen(observer, (catalog) => ids(catalog).includes(one.backupId))
  t.pass('the first backup, in directories that did not exist')

  await storeProof(root, one, at(20))
  await seen(observer, (catalog) => catalog.repositories[0]?.proofs.size === 1)
  t.pass('a proof')

  const two = { startedAt: at(30), random: '000002' }
  await store(root, inProgressKey(storedCluster, '20260301T003000Z-dump-000002'), '{}')
  await seen(observer, (catalog) => catalog.repositories[0]?.unusable.length === 1)
  const { backupId } = await storeManifest(root, two)
  await seen(observer, (catalog) => ids(catalog).includes(backupId))
  t.pass('a manifest in a folder that was there without one')

  await rm(join(root, storedCluster), { recursive: true })
  await seen(observer, (catalog) => ids(catalog).length === 0)
  t.pass('everything vanished')

  await storeManifest(root, { startedAt: at(10) })
  await seen(observer, (catalog) => ids(catalog).length === 1)
  await storeManifest(root, two)
  await seen(observer, (catalog) => ids(catalog).length === 2)
  t.pass('and came back: new directories of the same names are watched again')

  await rename(join(root, storedCluster, 'backups'), join(root, 'aside'))
  await seen(observer, (catalog) => ids(catalog).length === 0)
  await rename(join(root, 'aside'), join(root, storedCluster, 'backups'))
  await seen(observer, (catalog) => ids(catalog).length === 2)
  t.pass('moved away and back')
})

await t.test('without a root nothing can be watched, and the periodic look goes on', async (t) => {
  const parent = t.testdir({})
  const root = join(parent, 'later')
  const { observer } = observe(t, root, { clock: fast, watch: true, intervalSeconds: 1 })
  observer.start()
  await seen(observer, (catalog) => catalog.complete)
  t.same(ids(observer.catalog()), [])
  await mkdir(root)
  const { backupId } = await storeManifest(root, { startedAt: at(10) })
  t.ok(await seen(observer, (catalog) => ids(catalog).includes(backupId)))
})

await t.test('after a restart the same disk gives the same metrics', async (t) => {
  const root = t.testdir({})
  for (let index = 0; index < 20; index++) {
    const manifest = await storeManifest(root, { startedAt: at(index), random: `0000${index + 10}` })
    if (index % 3 === 0) await storeProof(root, manifest, at(100 + index), index % 2 === 0 ? 'pass' : 'fail')
  }
  const policy = {
    rpoSeconds: 1,
    rtoSeconds: 2,
    dumpMaxAgeSeconds: 3,
    fullMaxAgeSeconds: null,
    incrementalMaxAgeSeconds: null,
    verificationMaxAgeSeconds: 4,
    alertPathMaxAgeSeconds: null,
    retention: policies,
    growth: { shrinkBelow: 0.7, growAbove: 1.5 },
  }
  const about = { version: '1', revision: '', nodeVersion: '', cluster: storedCluster }
  const options = { ...about, policy, retention: retention() }
  // Its time stands still, so that what the collectors say of themselves is equal too.
  const still: Clock = { now: () => at(600), monotonic: () => 0, sleep: (ms, signal) => systemClock.sleep(ms, signal) }
  const texts: string[] = []
  for (let start = 0; start < 2; start++) {
    const { observer } = observe(t, root, { clock: still })
    await observer.refresh()
    texts.push(await renderCatalog(options, observer.catalog()))
    await observer.stop()
  }
  t.equal(texts[1], texts[0])
  t.match(texts[0], /lifeboat_backups\{[^}]*backup_type="dump"\} 20/)
  t.match(texts[0], /lifeboat_backup_proven_timestamp_seconds\{/)
})

await t.test('stop ends everything, any number of times', async (t) => {
  const root = t.testdir({})
  const { observer } = observe(t, root, { watch: true })
  observer.start()
  await seen(observer, (catalog) => catalog.complete)
  await Promise.all([observer.stop(), observer.stop()])
  const last = observer.catalog()
  await storeManifest(root, { startedAt: at(10) })
  observer.historyChanged()
  await observer.refresh()
  t.equal(observer.catalog(), last)
})
