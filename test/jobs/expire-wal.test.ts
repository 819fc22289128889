import { existsSync, readdirSync } from 'node:fs'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { loadConfig } from '../../src/config/load.ts'
import { createCore } from '../../src/core.ts'
import { segmentName } from '../../src/domain/wal.ts'
import { LeaseClaim } from '../../src/repository/lease.ts'
import type { Repository } from '../../src/repository/repository.ts'
import type { JobParams, Run } from '../../src/runner/job.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { keptLog } from '../support/log.ts'
import { publishFull, storedSystem, storeWal } from '../support/physical.ts'
import { startCluster } from '../support/postgres.ts'
import { store, storedCluster, storeManifest } from '../support/stored.ts'

const size = 16 * 1024 * 1024
const dayMs = 86_400_000
const start = new Date('2026-06-15T05:00:00Z')
const daysAgo = (days: number) => new Date(start.getTime() - days * dayMs)

/** The acting half of Lifeboat on one directory, in its own time. */
async function begin(t: Test, retention: object = { keepFor: '10d' }, postgres?: object) {
  const directory = t.testdir({})
  const clock = new FakeClock(start)
  const root = join(directory, 'one')
  await mkdir(root)
  const yaml = {
    cluster: storedCluster,
    stateDir: join(directory, 'state'),
    postgres: postgres ?? { host: join(directory, 'nowhere') },
    repositories: [{ name: 'one', url: `file://${root}`, retention }],
  }
  const { log, lines } = keptLog()
  const core = await createCore(await loadConfig({ text: JSON.stringify(yaml), env: {} }), {
    ...{ clock, log, version: '0.0.0-test' },
  })
  t.teardown(() => core.close())
  const repository = core.repositories[0]?.repository as Repository
  // What says that time has passed, and that there is a repository.
  const tell = async () => {
    await storeManifest(root, { startedAt: daysAgo(0.1) })
    await repository.adopt()
  }
  await tell()
  const expire = async (params: JobParams = {}): Promise<Run> => {
    const all = { repository: null, confirmClock: false, ...params }
    const { id } = core.runner.trigger({ job: 'expire', params: all, trigger: 'cli', requestedBy: 'test' })
    return core.runner.wait(id)
  }
  const wal = (timeline: number, first: number, last: number, days: number, options: object = {}) =>
    storeMany(root, timeline, first, last, daysAgo(days), options)
  const folder = (system: string) => join(root, storedCluster, 'wal', system)
  const left = (system = storedSystem) => segmentsBelow(folder(system))
  const plain = (system = storedSystem) => namesBelow(folder(system)).filter((name) => name.length !== 24)
  return { root, clock, core, repository, expire, wal, left, plain, lines }
}

async function storeMany(root: string, timeline: number, first: number, last: number, at: Date, options: object) {
  for (let segment = first; segment <= last; segment += 1)
    await storeWal(root, segmentName(timeline, segment, size), at, options)
}

/** Names of WAL files below a folder, without their hashes. */
function namesBelow(folder: string): string[] {
  if (!existsSync(folder)) return []
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ name }) => name.replace(/-[0-9a-f]{12}\.zst$/, ''))
    .sort()
}

/** Timeline and segment of what is there, e.g. `1/1 1/2`. */
function segmentsBelow(folder: string): string {
  return namesBelow(folder)
    .filter((name) => name.length === 24)
    .map(short)
    .join(' ')
}

function short(name: string): string {
  return `${Number(name.slice(0, 8))}/${Number.parseInt(name.slice(8), 16).toString(16)}`
}

t.test('what no backup and no window needs, and nothing else', async (t) => {
  const { root, repository, expire, wal, left, plain, lines } = await begin(t, { keepFor: '10d', keepAtLeast: 1 })
  await publishFull(repository, { startedAt: daysAgo(20), lsn: '0/2000028', random: '000001' })
  const kept = await publishFull(repository, { startedAt: daysAgo(5), lsn: '0/5000028', random: '000002' })
  await wal(1, 1, 6, 15)
  await wal(1, 7, 8, 1)
  await storeWal(root, '00000002.history', daysAgo(900), { text: '1\t0/8000028\tx\n' })
  await storeWal(root, '000000010000000000000002.00000028.backup', daysAgo(900), { text: 'label' })
  const run = await expire()
  t.match(run, {
    state: 'succeeded',
    items: [{ backupType: 'full' }],
    progress: { done: 4, total: 4, unit: 'files', message: 'removed 4 files of WAL (0 MiB) from one' },
  })
  t.equal(left(), '1/5 1/6 1/7 1/8')
  t.same(plain(), ['000000010000000000000002.00000028.backup', '00000002.history'])
  t.match(
    lines.find(({ msg }) => msg === 'WAL has expired'),
    {
      repository: 'one',
      systemIdentifier: storedSystem,
      timeline: 1,
      first: '000000010000000000000001',
      last: '000000010000000000000004',
      files: 4,
      bytes: 0,
    },
  )
  t.match(await expire(), { state: 'succeeded', progress: { unit: 'backups' } }, 'nothing is left to do')
  await repository.removeBackup(kept.backupId)
  t.match(await expire(), { state: 'succeeded', progress: { unit: 'files', done: 2 } })
  t.equal(left(), '1/7 1/8', 'without a backup the window alone')
})

t.test('a backup that is held keeps its WAL', async (t) => {
  const { repository, expire, wal, left } = await begin(t, { keepFor: '10d', keepAtLeast: 1 })
  const held = await publishFull(repository, { startedAt: daysAgo(30), lsn: '0/2000028', random: '000001' })
  await publishFull(repository, { startedAt: daysAgo(5), lsn: '0/5000028', random: '000002' })
  await wal(1, 1, 6, 15)
  const hold = { heldAt: start.toISOString(), heldBy: 'x', reason: '', lifeboat: '0', until: null }
  await repository.hold({ ...hold, backupId: held.backupId })
  await expire()
  t.equal(left(), '1/2 1/3 1/4 1/5 1/6')
  await repository.releaseHold(held.backupId)
  await expire()
  t.equal(left(), '1/5 1/6')
})

t.test('timelines that fork twice', async (t) => {
  const { root, repository, expire, wal, left } = await begin(t)
  const full = await publishFull(repository, { startedAt: daysAgo(12), lsn: '0/4000028' })
  for (const [timeline, first, last] of [
    [1, 1, 6],
    [2, 3, 5],
    [3, 5, 7],
    [4, 7, 9],
  ] as const)
    await wal(timeline, first, last, 30)
  await storeWal(root, '00000002.history', daysAgo(30), { text: '1\t0/30001' })
  await storeWal(root, '00000003.history', daysAgo(30), { text: '1\t0/5000100\tx\n' })
  await storeWal(root, '00000004.history', daysAgo(30), { text: '1\t0/5000100\tx\n3\t0/7000100\ty\n' })
  await expire()
  t.equal(left(), '1/4 1/5 1/6 2/4 2/5 3/5 3/6 3/7 4/7 4/8 4/9', 'nobody knows where 2 came from')
  await storeWal(root, '00000002.history', daysAgo(30), { text: '1\t0/3000100\tx\n' })
  await expire()
  t.equal(left(), '1/4 1/5 1/6 2/5 3/5 3/6 3/7 4/7 4/8 4/9', 'it was left behind')
  await repository.removeBackup(full.backupId)
  await publishFull(repository, { startedAt: daysAgo(12), timeline: 3, lsn: '0/6000028' })
  await expire()
  t.equal(left(), '1/6 2/5 3/6 3/7 4/7 4/8 4/9')
})

t.test('segments of 1 MiB, and of sizes that nobody is sure of', async (t) => {
  const { root, repository, expire, left } = await begin(t)
  const mib = 1024 * 1024
  const first = await publishFull(repository, {
    ...{ startedAt: daysAgo(5), lsn: '1/300028', segmentSize: mib, random: '000001' },
  })
  for (const segment of [0xffe, 0xfff, 0x1000, 0x1002, 0x1003, 0x1004])
    await storeWal(root, segmentName(1, segment, mib), daysAgo(30))
  const other = await publishFull(repository, {
    ...{ startedAt: daysAgo(4), lsn: '1/4000028', segmentSize: size, random: '000002' },
  })
  await expire()
  t.equal(left(), '1/100000000 1/100000002 1/100000003 1/100000004', 'by logs')
  await repository.removeBackup(other.backupId)
  await expire()
  t.equal(left(), '1/100000003 1/100000004')
  await repository.removeBackup(first.backupId)
})

t.test('nothing goes while something is in doubt', async (t) => {
  const { root, clock, repository, expire, wal, left } = await begin(t)
  await wal(1, 1, 3, 30)
  const full = await publishFull(repository, { startedAt: daysAgo(5), lsn: '0/3000028' })
  const manifest = join(root, storedCluster, 'backups', full.backupId, 'manifest.json')
  await writeFile(manifest, '{"torn')
  const refused = { state: 'failed', failure: { code: 'retention-refused' } }
  t.match(await expire(), { ...refused, failure: { message: /manifests cannot be read/ } })
  await rm(manifest)
  t.match(await expire(), { state: 'succeeded' })
  t.equal(left(), '1/3', 'now that it is a leftover of five days ago')
  await wal(1, 4, 6, 30)
  clock.jump(new Date(start.getTime() + 400 * dayMs))
  t.match(await expire(), { ...refused, failure: { message: /the clock went forward/ } })
  clock.jump(new Date(start.getTime() - dayMs))
  t.match(await expire(), { ...refused, failure: { message: /the clock went back/ } })
  t.equal(left(), '1/3 1/4 1/5 1/6')
})

t.test('a new state directory beside WAL alone', async (t) => {
  const { root, repository, expire, wal, left } = await begin(t)
  await wal(1, 1, 2, 100)
  for await (const id of repository.listBackups()) await repository.removeBackup(id)
  t.match(await expire(), { state: 'failed', failure: { message: /forward by 100 days/ } }, 'is the clock wrong?')
  t.equal(left(), '1/1 1/2')
  await wal(1, 3, 3, 1)
  t.match(await expire(), { state: 'succeeded' }, 'WAL that came since bears witness')
  t.equal(left(), '1/3')
  t.ok(existsSync(root))
})

t.test('a physical backup that is being made keeps what came since it began', async (t) => {
  const { root, expire, wal, left } = await begin(t, { keepFor: '10d', walKeepFor: '1h' })
  await wal(1, 1, 2, 3)
  await wal(1, 3, 3, 1.01)
  await wal(1, 4, 6, 0.5)
  const at = start.toISOString()
  const claim = { runId: 'b', token: 't', host: 'h', pid: 1, startedAt: at, heartbeatAt: at }
  const key = `${storedCluster}/backups/20260614T050000Z-full-abcdef/.inprogress`
  await store(root, key, JSON.stringify(claim))
  await expire()
  t.equal(left(), '1/3 1/4 1/5 1/6')
  await rm(join(root, key))
  await expire()
  t.equal(left(), '1/6')
})

t.test('two system identifiers', async (t) => {
  const cluster = await startCluster(t)
  const [row] = await cluster.sql<{ id: string }>('select system_identifier::text as id from pg_control_system()')
  const present = row?.id ?? ''
  const { host, user } = cluster.source
  const { root, repository, expire, wal, left, plain } = await begin(t, { keepFor: '10d' }, { host, user })
  const [former, held] = ['7400000000000000001', '7400000000000000002']
  for (const systemIdentifier of [present, former, held]) await wal(1, 1, 3, 30, { systemIdentifier })
  await storeWal(root, '00000001.history', daysAgo(99), { systemIdentifier: former, text: 'x' })
  await wal(1, 4, 4, 2, { systemIdentifier: former })
  await publishFull(repository, { startedAt: daysAgo(5), lsn: '0/2000028', systemIdentifier: held })
  await expire()
  t.equal(left(present), '1/3', 'of the server the newest stays')
  t.equal(left(held), '1/2 1/3')
  t.equal(left(former), '1/1 1/2 1/3 1/4', 'a former one goes as a whole')
  await wal(1, 4, 4, 11, { systemIdentifier: former })
  await cluster.server.stop()
  await expire()
  t.equal(left(former), '1/4', 'as long as the server does not say which one is former, as any other')
  await cluster.server.start()
  await expire()
  t.same([left(former), plain(former)], ['', ['00000001.history']])
  t.equal(left(present), '1/3')
})

t.test('how long', async (t) => {
  await t.test('all of it for ever', async (t) => {
    const { expire, wal, left } = await begin(t, { keepFor: '10d', walKeepFor: 'forever' })
    await wal(1, 1, 3, 900)
    t.match(await expire(), { state: 'succeeded' })
    t.equal(left(), '1/1 1/2 1/3')
  })
  await t.test('backups for ever, and WAL not', async (t) => {
    const { repository, expire, wal, left } = await begin(t, { keepFor: 'forever', walKeepFor: '5d' })
    await wal(1, 1, 3, 6)
    await wal(1, 4, 4, 4)
    await expire()
    t.equal(left(), '1/4')
    await wal(1, 2, 3, 6)
    await publishFull(repository, { startedAt: daysAgo(900), lsn: '0/3000028' })
    await expire()
    t.equal(left(), '1/3 1/4')
  })
})

t.test('a storage that refuses, or has got another writer', async (t) => {
  const { root, clock, repository, core, expire, wal, left } = await begin(t)
  await wal(1, 1, 40, 30)
  const storage = repository.storage as LocalStorage
  const remove = storage.remove.bind(storage)
  let removed = 0
  storage.remove = async (...args) => {
    if (removed === 3) throw Object.assign(new Error('read-only'), { code: 'EROFS' })
    removed += 1
    return remove(...args)
  }
  t.match(await expire(), { state: 'failed' })
  t.match(left(), /^1\/4 1\/5 .* 1\/28$/, 'the oldest are gone')
  await core.leases.start(5000)
  storage.remove = async (...args) => {
    if (removed === 4) {
      const place = { name: 'x', cluster: storedCluster, storage: new LocalStorage({ root, clock }) }
      const other = new FakeClock(clock.now())
      const claim = new LeaseClaim({ place, clock: other, holder: () => 'another', ttlSeconds: 60, host: 'far away' })
      for (let found = await claim.look(); found.state !== 'held'; found = await claim.look())
        await other.advance(found.lapsesInMs)
    }
    removed += 1
    return remove(...args)
  }
  t.match(await expire(), { state: 'failed', failure: { code: 'conflict', message: /held by far away/ } })
  t.match(left(), /^1\/14 1\/15 .* 1\/28$/, 'after the batch that it was at')
})

t.test('thousands, and what is cut off by a cancellation', { timeout: 120_000 }, async (t) => {
  const { core, repository, expire, wal, left } = await begin(t)
  await wal(1, 0, 1499, 30)
  await wal(1, 1500, 1501, 1)
  const storage = repository.storage as LocalStorage
  const remove = storage.remove.bind(storage)
  let removed = 0
  storage.remove = async (...args) => {
    removed += 1
    if (removed === 700) for (const { id } of core.history.list({ state: 'running' })) core.runner.cancel(id)
    return remove(...args)
  }
  t.match(await expire(), { state: 'cancelled' })
  const rest = left().split(' ')
  t.ok(rest.length >= 1502 - 700 && rest.length <= 1502 - 699, `${rest.length} are left`)
  const newest = Array.from({ length: 1502 }, (_, segment) => segmentName(1, segment, size)).slice(-rest.length)
  t.same(rest, newest.map(short), 'the newest, without a hole')
  t.match(await expire(), { state: 'succeeded', progress: { done: rest.length - 2 } })
  t.same(left().split(' '), newest.slice(-2).map(short))
})
