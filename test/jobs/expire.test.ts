import { existsSync, readdirSync } from 'node:fs'
import { mkdir, rename, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { loadConfig } from '../../src/config/load.ts'
import { type Core, createCore } from '../../src/core.ts'
import type { Manifest } from '../../src/domain/backup.ts'
import type { RepositoryState } from '../../src/observe/catalog.ts'
import { lookForExpiry } from '../../src/observe/expiry-look.ts'
import { LeaseClaim } from '../../src/repository/lease.ts'
import type { Repository } from '../../src/repository/repository.ts'
import type { JobParams, Run } from '../../src/runner/job.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { keptLog } from '../support/log.ts'
import { publishFull } from '../support/physical.ts'
import { store, storeBackup, storedCluster, storeProof } from '../support/stored.ts'

const dayMs = 86_400_000
const start = new Date('2026-06-15T05:00:00Z')
const daysAgo = (days: number) => new Date(start.getTime() - days * dayMs)

/** The acting half of Lifeboat on directories, in its own time. There is no server, and no need of one. */
async function begin(
  t: Test,
  retention: object = { keepFor: '10d', keepAtLeast: 1 },
  names: readonly string[] = ['one'],
) {
  const directory = t.testdir({})
  const clock = new FakeClock(start)
  const roots = names.map((name) => join(directory, name))
  for (const root of roots) await mkdir(root)
  const yaml = {
    cluster: storedCluster,
    stateDir: join(directory, 'state'),
    postgres: { host: join(directory, 'nowhere') },
    repositories: names.map((name) => ({ name, url: `file://${join(directory, name)}`, retention })),
  }
  const config = await loadConfig({ text: JSON.stringify(yaml), env: {} })
  const { log, lines } = keptLog()
  const open: Core[] = []
  const makeCore = async (watched?: () => readonly RepositoryState[]) => {
    const core = await createCore(config, { clock, log, version: '0.0.0-test', ...(watched && { watched }) })
    open.push(core)
    return core
  }
  const core = await makeCore()
  t.teardown(() => Promise.all(open.map((one) => one.close())))
  const expire = async (params: JobParams = {}, by = core): Promise<Run> => {
    const all = { repository: null, confirmClock: false, ...params }
    const { id } = by.runner.trigger({ job: 'expire', params: all, trigger: 'cli', requestedBy: 'test' })
    return by.runner.wait(id)
  }
  const [root = ''] = roots
  const backups = (of = root) => {
    const folder = join(of, storedCluster, 'backups')
    return existsSync(folder) ? readdirSync(folder).sort() : []
  }
  let count = 0
  const dump = async (days: number, of = root, database = 'app'): Promise<Manifest> => {
    count += 1
    const random = count.toString(16).padStart(6, '0')
    return storeBackup(of, { startedAt: daysAgo(days), database, random })
  }
  return { directory, clock, core, makeCore, expire, root, roots, backups, dump, lines }
}

function repositoryOf({ repositories }: Core): Repository {
  const [first] = repositories
  if (first === undefined) throw new Error('there is a repository')
  return first.repository
}

const ids = (manifests: readonly Manifest[]) => manifests.map(({ backupId }) => backupId).sort()

t.test('removes what the policy lets go, and nothing else', async (t) => {
  const { expire, root, backups, dump, core } = await begin(t)
  const kept = [await dump(1), await dump(9), await dump(50, root, 'other "\n')]
  const proven = await dump(30)
  await storeProof(root, proven, daysAgo(29))
  const [old, older] = [await dump(20), await dump(40)]
  const held = await dump(45)
  const repository = core.repositories[0]?.repository
  const hold = { heldAt: start.toISOString(), heldBy: 'x', reason: '', lifeboat: '0' }
  await repository?.hold({ ...hold, backupId: held.backupId, until: null })
  await repository?.hold({ ...hold, backupId: old.backupId, until: daysAgo(1).toISOString() })
  const run = await expire()
  t.match(run, { state: 'succeeded', failure: null, progress: { message: '2 of 7 backups in one were removed' } })
  t.same(
    run.items.map(({ backupId, outcome, database, repository: where }) => [backupId, outcome, database, where]),
    [older, old].map(({ backupId }) => [backupId, 'succeeded', 'app', 'one']),
  )
  t.same(backups(), ids([...kept, proven, held]))
  t.same(readdirSync(join(root, storedCluster, 'holds')), [`${held.backupId}.json`], 'a hold that had ended goes along')
  t.ok(existsSync(join(root, storedCluster, 'proofs')), 'proofs stay')
  t.match(await expire(), { state: 'succeeded', items: [] }, 'there is nothing left to do')
})

t.test('forever is forever', async (t) => {
  const { expire, backups, dump } = await begin(t, { keepFor: 'forever' })
  const all = [await dump(1), await dump(4000)]
  t.match(await expire(), { state: 'succeeded', items: [] })
  t.same(backups(), ids(all))
})

t.test('a repository that is in doubt loses nothing, and keeps no other from it', async (t) => {
  const names = ['one', 'two', 'three']
  const { expire, roots, backups, dump } = await begin(t, { keepFor: '10d', keepAtLeast: 1 }, names)
  const [one = '', two = ''] = roots // the third one is empty
  const bad = await dump(1, one)
  await dump(20, one)
  await writeFile(join(one, storedCluster, 'backups', bad.backupId, 'manifest.json'), '{"torn')
  await dump(30, one)
  const kept = await dump(2, two)
  await dump(20, two)
  const run = await expire()
  t.match(run, {
    state: 'failed',
    failure: {
      code: 'retention-refused',
      message: `nothing expires in one: manifests cannot be read: ${bad.backupId}`,
    },
  })
  t.equal(backups(one).length, 3)
  t.same(backups(two), ids([kept]))
  t.match(await expire({ repository: 'two' }), { state: 'succeeded' })
  t.match(await expire({ repository: 'four' }), { state: 'failed', failure: { code: 'not-found' } })
})

t.test('files that are missing or torn make a backup count for none, and block nothing', async (t) => {
  const { expire, root, backups, dump } = await begin(t)
  const file = (manifest: Manifest, name: string) => join(root, storedCluster, 'backups', manifest.backupId, name)
  const [lost, torn, good, older] = [await dump(1), await dump(2), await dump(20), await dump(30)]
  await rm(file(lost, 'dump.tar'))
  await truncate(file(torn, 'globals.sql'), 7)
  t.match(await expire(), { state: 'succeeded', items: [{ backupId: older.backupId }] })
  t.same(backups(), ids([lost, torn, good]), 'the good one stays, however old it is')
  const newer = await dump(0.5)
  t.match(await expire(), { state: 'succeeded', items: [{ backupId: good.backupId }] })
  t.same(backups(), ids([lost, torn, newer]), 'they are as old as any')
  await rm(file(newer, 'RESTORE.md'))
  t.match(await expire(), { state: 'succeeded', items: [] })
})

t.test('what was replaced is known to who watches the repository', async (t) => {
  const { core, root, dump, makeCore, expire, backups } = await begin(t)
  const [newest, good] = [await dump(1), await dump(20)]
  const state = await lookForExpiry(repositoryOf(core), { log: keptLog().log, signal: new AbortController().signal })
  const summary = state.backups.find(({ id }) => id === newest.backupId)
  const failure = { code: 'artifact-invalid' as const, message: 'dump.tar was replaced' }
  const unusable = [{ id: newest.backupId, state: 'invalid' as const, failure, ...(summary && { summary }) }]
  const watching = await makeCore(() => [{ ...state, backups: [], unusable }])
  t.match(await expire({}, watching), { state: 'succeeded', items: [] })
  t.same(backups(root), ids([newest, good]))
  t.match(await expire(), { state: 'succeeded', items: [{ backupId: good.backupId }] }, 'a listing does not show it')
})

t.test('chains stay while a repository that may build on them cannot be looked at', async (t) => {
  const { expire, roots, backups, dump, core, lines } = await begin(t, undefined, ['one', 'two'])
  const [one = '', two = ''] = roots
  const repository = repositoryOf(core)
  const startedAt = daysAgo(30)
  const full = await publishFull(repository, { startedAt, lsn: '0/2000028' })
  const newer = await publishFull(repository, { startedAt: daysAgo(1), lsn: '0/4000028', random: 'bcdefa' })
  const [kept, old] = [await dump(1), await dump(20)]
  await dump(1, two)
  for (const one of core.repositories) await one.repository.adopt()
  await rename(two, `${two}.away`)
  t.match(await expire(), { state: 'failed', items: [{ backupId: old.backupId }] }, 'dumps build on nothing')
  t.same(backups(one), ids([full, newer, kept]))
  t.match(
    lines.find(({ msg }) => /^chains stay/.test(String(msg))),
    { repository: 'one', unseen: ['two'], backups: 2 },
  )
  await rename(`${two}.away`, two)
  t.match(await expire(), { state: 'succeeded', items: [{ backupId: full.backupId }] })
  t.same(backups(one), ids([newer, kept]))
})

t.test('a proof that cannot be read keeps its backup', async (t) => {
  const { expire, root, backups, dump } = await begin(t)
  const [first, second] = [await dump(1), await dump(20)]
  const key = await storeProof(root, second, daysAgo(19), 'fail')
  await writeFile(join(root, key), 'torn')
  t.match(await expire(), { state: 'succeeded', items: [] })
  t.same(backups(), ids([first, second]))
})

t.test('a clock that was set', async (t) => {
  const { clock, expire, backups, dump, makeCore } = await begin(t)
  const all = [await dump(0.1), await dump(5)]
  t.match(await expire(), { state: 'succeeded' })

  clock.jump(new Date(start.getTime() - 3_600_000))
  const back = { state: 'failed', failure: { code: 'retention-refused', message: /the clock went back/ } }
  t.match(await expire(), back, 'an hour back')
  clock.jump(start)
  t.match(await expire(), { state: 'succeeded' }, 'right again')

  clock.jump(daysAgo(-365))
  const forward = { state: 'failed', failure: { code: 'retention-refused', message: /forward by 36[45] days/ } }
  t.match(await expire(), forward, 'a year forward')
  const late = await dump(-364.9)
  t.match(await expire(), forward, 'a backup that is dated by it explains nothing')
  t.match(await expire({}, await makeCore()), forward, 'nor does a restart')
  t.same(backups(), ids([...all, late]))
  t.match(
    await expire({ confirmClock: true }),
    { state: 'succeeded', items: { length: 2 } },
    'somebody says that it is right',
  )
  t.same(backups(), ids([late]))
  t.match(await expire(), { state: 'succeeded', items: [] }, 'which counts from then on')
})

t.test('weeks without a sidecar, in which another one took backups', async (t) => {
  const { clock, expire, dump } = await begin(t)
  await dump(1)
  t.match(await expire(), { state: 'succeeded' })
  for (let days = 0; days < 28; days += 7) await dump(-days)
  clock.jump(daysAgo(-28))
  t.match(await expire(), { state: 'succeeded' })
})

t.test('a new state directory beside an old repository', async (t) => {
  const { expire, backups, dump } = await begin(t)
  await dump(100)
  await dump(200)
  t.match(await expire(), { state: 'failed', failure: { message: /forward by 99 days/ } }, 'is the clock wrong?')
  t.equal(backups().length, 2)
  t.match(await expire({ confirmClock: true }), { state: 'succeeded', items: { length: 1 } })
})

t.test('a mark of use of a holder that died', async (t) => {
  const { clock, core, expire, root, backups, dump } = await begin(t)
  const [last, old] = [await dump(1), await dump(20)]
  const repository = core.repositories[0]?.repository
  const use = await repository?.useBackup(old.backupId, { runId: 'of-another-host', purpose: 'verify' })
  t.match(await expire(), { state: 'succeeded', items: [] }, 'it lives')
  await use?.release()
  const mark = (at: Date, runId: string) =>
    store(
      root,
      `${storedCluster}/uses/${old.backupId}-000000000000.json`,
      JSON.stringify({
        runId,
        token: 't',
        host: 'h',
        pid: 1,
        startedAt: at.toISOString(),
        heartbeatAt: at.toISOString(),
        purpose: 'verify',
      }),
    )
  const silentSince = daysAgo(0.5)
  await mark(silentSince, 'of-another-host')
  const watched = async (during: () => Promise<void>) => {
    const sleepers = clock.sleeping
    const run = expire()
    // The runner sleeps from second to second; once it is seen who answers, the watch is one sleeper more.
    const isLooking = () => core.runner.list({ state: 'running' }).some(({ progress }) => progress !== null)
    while (!isLooking() || clock.sleeping < sleepers + 2) await new Promise((resolve) => setImmediate(resolve))
    await during()
    await clock.advance(80_000)
    return run
  }
  t.match(
    await watched(() => mark(silentSince, 'of-another-host')),
    { state: 'succeeded', items: [] },
    'its clock is slow, but it lives',
  )
  t.match(await watched(async () => {}), { state: 'succeeded', items: [{ backupId: old.backupId }] }, 'it is silent')
  t.same(backups(), ids([last]))
  t.notOk(existsSync(join(root, storedCluster, 'uses')), 'the mark is gone too')

  const other = await dump(21)
  const ended = await expire()
  t.match(ended, { items: [{ backupId: other.backupId }] })
  const third = await dump(22)
  await store(
    root,
    `${storedCluster}/uses/${third.backupId}-000000000001.json`,
    JSON.stringify({
      runId: ended.id,
      token: 't',
      host: 'h',
      pid: 1,
      startedAt: clock.now().toISOString(),
      heartbeatAt: clock.now().toISOString(),
    }),
  )
  t.match(await expire(), { items: [{ backupId: third.backupId }] }, 'a run that is known to have ended uses nothing')
})

t.test('what an expiry that was killed had begun is brought to its end', async (t) => {
  const { expire, root, backups, dump } = await begin(t)
  const last = await dump(1)
  const half = await dump(20)
  const folder = join(root, storedCluster, 'backups', half.backupId)
  const at = daysAgo(1).toISOString()
  const claim = { runId: 'e', token: 't', host: 'h', pid: 1, startedAt: at, heartbeatAt: at, purpose: 'expire' }
  await store(root, `${storedCluster}/backups/${half.backupId}/.inprogress`, JSON.stringify(claim))
  await rm(join(folder, 'manifest.json'))
  await store(root, `${storedCluster}/backups/20260601T000000Z-dump-ffffff/dump.tar`, 'somebody writes it')
  t.match(await expire(), { state: 'succeeded' })
  t.same(backups(), [...ids([last]), '20260601T000000Z-dump-ffffff'].sort())
})

/** Another lifeboat takes the lease on a repository, or has it already. */
async function takeLease(root: string, clock: FakeClock): Promise<void> {
  const place = { name: 'x', cluster: storedCluster, storage: new LocalStorage({ root, clock }) }
  const claim = new LeaseClaim({ place, clock, holder: () => 'another', ttlSeconds: 60, host: 'far away' })
  for (;;) {
    const found = await claim.look()
    if (found.state === 'held') return
    // It was seen to stand still, by a clock of its own.
    Object.assign(clock, {
      monotonic: (
        (now) => () =>
          now
      )(clock.monotonic() + found.lapsesInMs),
    })
  }
}

t.test('who loses the lease meanwhile is told so', async (t) => {
  const { expire, root, backups, dump, core, clock } = await begin(t)
  const all = [await dump(1), await dump(20), await dump(30), await dump(40)]
  let taken: Promise<void> | undefined
  const [repository] = core.repositories
  const storage = repository?.storage as LocalStorage
  const remove = storage.remove.bind(storage)
  storage.remove = async (...args) => {
    if (args[0].endsWith('manifest.json')) taken ??= takeLease(root, new FakeClock(clock.now()))
    await taken
    return remove(...args)
  }
  const run = await expire()
  t.match(run, {
    state: 'failed',
    failure: { code: 'conflict', message: /the lease on the repository one is held by far away/ },
  })
  t.equal(run.items.length, 1, 'the one that was being removed')
  t.equal(backups().length, all.length - 1)
})

t.test('a repository of another lifeboat is left out', async (t) => {
  const { expire, roots, backups, dump, core, clock, lines } = await begin(t, undefined, ['one', 'two'])
  const [one = '', two = ''] = roots
  for (const root of roots) for (const days of [1, 20]) await dump(days, root)
  for (const { repository } of core.repositories) await repository.adopt()
  await takeLease(one, clock)
  await core.leases.start(5000)
  t.match(await expire(), { state: 'succeeded', failure: null, items: [{ repository: 'two' }] })
  t.same([backups(one).length, backups(two).length], [2, 1])
  t.match(
    lines.find(({ msg }) => /^left out/.test(String(msg))),
    { repository: 'one' },
  )
})
