import t, { type Test } from 'tap'
import { segmentName } from '../../src/domain/wal.ts'
import { createRepositoryLook } from '../../src/observe/repository.ts'
import { StoredWalIndex } from '../../src/observe/stored-wal.ts'
import { manifestKey, proofKey, walKey } from '../../src/repository/layout.ts'
import { RememberedStorage } from '../../src/repository/remembered.ts'
import { Repository } from '../../src/repository/repository.ts'
import { openHistory } from '../../src/runner/history.ts'
import { S3Storage } from '../../src/storage/s3.ts'
import { listed } from '../contract/storage.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { type FakeS3, fakeS3 } from '../support/fake-s3.ts'
import { keptLog } from '../support/log.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { dumpManifest, proofText, type StoredBackup, storedCluster } from '../support/stored.ts'

const { signal } = new AbortController()
const size = 16 * 1024 * 1024
const system = '7500000000000000001'
const hour = 3_600_000

/** A repository in a bucket, and the observers of a sidecar on it. */
async function place(t: Test) {
  const clock = new FakeClock()
  const server = await fakeS3(t, () => clock.now())
  const storage = new S3Storage({ settings: server.settings, random: () => 0 })
  const { log, lines } = keptLog()
  const base = await scratchDirectory(t)
  const history = openHistory({ file: `${base}/lifeboat.db`, clock, log })
  t.teardown(() => history.close())
  const identity = { ledger: history, lifeboat: '1.2.3', exists: () => storage.exists() }
  const of = { name: 'offsite', cluster: storedCluster, clock, identity }
  const real = new Repository({ ...of, storage })
  const objects = new RememberedStorage({ storage, cluster: storedCluster, clock })
  const observed = new Repository({ ...of, storage: objects })
  const look = createRepositoryLook({ repository: observed, capacity: null, objects, log })
  const wal = new StoredWalIndex({
    ...{ repository: observed, records: history.wal.index, segmentSize: () => size, clock, log, isCostly: true },
    confirm: (options) => real.checkPresence(options),
  })
  t.teardown(() => wal.close())
  await real.adopt()
  return {
    ...{ clock, server, storage, real, objects, lines },
    look: () => look(signal),
    lookAtWal: () => wal.look(signal),
    lookAtAllWal: () => wal.lookAtAll(signal),
    putSegments: (from: number, to: number, timeline = 1) => {
      for (let segment = from; segment <= to; segment++) server.put(segmentKey(segment, timeline), 'x')
    },
  }
}

function segmentKey(segment: number, timeline = 1): string {
  const name = segmentName(timeline, segment, size)
  return walKey(storedCluster, { systemIdentifier: system, name, hash: 'abcdef012345', isEncrypted: false })
}

function putBackup(server: FakeS3, options: StoredBackup) {
  const { text, manifest } = dumpManifest(options)
  for (const { name, stored } of manifest.artifacts) {
    server.put(artifact(manifest.backupId, name), Buffer.alloc(stored.bytes, name))
  }
  server.put(manifestKey(storedCluster, manifest.backupId), text)
  return manifest
}

const artifact = (id: string, name: string) => manifestKey(storedCluster, id).replace('manifest.json', name)
const ago = (clock: FakeClock, ms: number) => new Date(clock.now().getTime() - ms)

t.test('a round over 100,000 objects costs what is new', async (t) => {
  const { clock, server, look, lookAtWal, lookAtAllWal, putSegments } = await place(t)
  const backups = 100
  for (let index = 0; index < backups; index++)
    putBackup(server, { startedAt: ago(clock, (backups - index) * 6 * hour) })
  putSegments(1000, 1000 + 100_000 - server.keys().length - 1)
  const last = 1000 + 100_000 - 5 * backups - 2
  t.equal(server.keys().length, 100_000)

  server.asked()
  const state = await look()
  t.equal(state.backups.length, backups)
  const readAll = server.asked()
  t.equal(readAll.filter((what) => what === 'GET list').length, 1, 'one listing for all but the WAL')
  t.equal((await lookAtAllWal()).systems.get(system)?.segments, 100_000 - 5 * backups - 1)
  const reconciled = server.asked()
  t.ok(reconciled.length <= 100_000 / 1000 + 10, `everything: ${reconciled.length} requests`)

  for (let round = 0; round < 12; round++) {
    await clock.advance(60_000)
    await Promise.all([look(), lookAtWal()])
    const asked = server.asked()
    t.ok(asked.length <= 3, `nothing is new: ${asked.join(', ')}`)
  }
  await clock.advance(60_000)
  const { backupId } = putBackup(server, { startedAt: ago(clock, hour) })
  putSegments(last + 1, last + 5)
  t.equal(server.keys().length, 100_010)
  const [repository, wal] = await Promise.all([look(), lookAtWal()])
  t.equal(repository.backups.at(-1)?.id, backupId)
  t.equal(wal.systems.get(system)?.coverage.segments(1).last, last + 5)
  const asked = server.asked()
  t.ok(asked.length <= 5, `ten are new: ${asked.join(', ')}`)
})

t.test('artifacts that are missing, truncated or replaced', async (t) => {
  const { clock, server, look, lines } = await place(t)
  const { backupId: good } = putBackup(server, { startedAt: ago(clock, 3 * hour), random: '000001' })
  const manifest = putBackup(server, { startedAt: ago(clock, 2 * hour), random: '000002' })
  const key = artifact(manifest.backupId, 'dump.tar')
  const bytes = Buffer.alloc(1000, 'dump.tar')
  t.equal((await look()).backups.length, 2)
  const spoiled = async () => {
    const state = await look()
    t.ok(state.backups.some(({ id }) => id === good))
    return state.unusable.map(({ state, failure }) => `${state}: ${failure?.code}: ${failure?.message}`).join()
  }
  for (const [what, spoil, words] of [
    ['missing', () => server.remove(key), /^invalid: artifact-invalid: dump\.tar of backup .* is missing$/],
    ['truncated', () => server.put(key, bytes.subarray(0, 999)), /has 999 bytes, not the 1000 of its manifest$/],
    ['replaced', () => server.put(key, Buffer.alloc(1000, 'other')), /was replaced$/],
  ] as const) {
    spoil()
    t.match(await spoiled(), words, what)
    const told = lines.length
    server.asked()
    t.match(await spoiled(), words, `${what}, still`)
    t.same(server.asked().slice(1), [], 'nothing is asked twice')
    t.equal(lines.length, told, 'told of once')
    server.put(key, bytes)
    t.equal(await spoiled(), '', 'it is back')
  }
  t.same(
    server.asked().filter((what) => what.includes('dump.tar') && !what.startsWith('HEAD')),
    [],
    'not a byte of it is read',
  )

  server.put(key, bytes, { etag: 'of-parts-2' })
  t.match(await spoiled(), /replaced/, 'the same bytes, for all that anybody knows')
  const at = clock.now()
  server.put(
    proofKey(storedCluster, at, manifest.backupId),
    proofText(manifest, at, { hashed: { 'dump.tar': 'of-parts-2' } }),
  )
  t.equal(await spoiled(), '', 'until a verification has read them')
  const headers = { 'x-amz-meta-sha256': 'a'.repeat(64) }
  server.put(key, bytes, { etag: 'of-parts-3', headers })
  t.equal(await spoiled(), '', 'or the server has kept their hash')
  const checksum = Buffer.from('a'.repeat(64), 'hex').toString('base64')
  server.put(key, bytes, { etag: 'of-parts-4', headers: { 'x-amz-checksum-sha256': checksum } })
  t.equal(await spoiled(), '')

  for (const name of server.keys().filter((one) => one.includes(manifest.backupId))) server.remove(name)
  t.equal(await spoiled(), '', 'what is gone altogether is no backup any more')
})

t.test('what else is in the bucket', async (t) => {
  const { clock, server, look, lines } = await place(t)
  const { backupId } = putBackup(server, { startedAt: ago(clock, 2 * hour) })
  const before = await look()
  t.equal(before.foreign, 0)
  t.equal(before.objects, server.keys().length, 'all that is in the part of the cluster')
  for (const key of [
    `backups/${backupId}/dump.tar.bak`,
    `backups/${backupId}/deeper/dump.tar`,
    'backups/nightly.sql.gz',
    'proofs/readme',
    'zoo',
  ]) {
    server.put(`${storedCluster}/${key}`, 'x')
  }
  server.put('elsewhere', 'x')
  server.put(`${storedCluster}/leases/00000000000000000001.json`, 'x')
  server.put(`${storedCluster}/quarantine/unknown/000000010000000000000001-abcdef012345.zst`, 'x')
  for (let again = 0; again < 2; again++)
    t.equal((await look()).foreign, 4, 'what comes after the WAL is not looked at')
  t.equal((await look()).objects, (before.objects ?? 0) + 6, 'foreign ones and leases as well')
  t.match(lines, [
    { count: 4, msg: /somebody else/, examples: [`${storedCluster}/backups/${backupId}/deeper/dump.tar`] },
  ])
  t.equal(lines.length, 1)
})

t.test('more backups than a page', async (t) => {
  const { clock, server, look, storage, objects } = await place(t)
  const old = 250
  const made = Array.from({ length: old }, (_, index) =>
    putBackup(server, { startedAt: ago(clock, (old + 48 - index) * hour) }),
  )
  const inProgress = (id: string, text = '') => server.put(artifact(id, '.inprogress'), text)
  const longAgo = { startedAt: ago(clock, 47 * hour), random: '00000f' }
  const { backupId: long } = dumpManifest(longAgo).manifest
  inProgress(long)
  for (let index = 0; index < 100; index++) {
    const at = ago(clock, (150 - index) * hour)
    const of = made[index]
    if (of !== undefined) server.put(proofKey(storedCluster, at, of.backupId), proofText(of, at))
  }
  t.equal((await look()).backups.length, old)
  server.asked()
  await clock.advance(60_000)
  const seen = await look()
  t.same([seen.backups.length, seen.proofs.size, seen.unusable.map(({ id }) => id)], [old, 100, [long]])
  t.same(server.asked(), ['GET list', 'GET list', 'GET list'], 'a page of it, new backups, new proofs')

  const newest = putBackup(server, { startedAt: ago(clock, hour) })
  server.put(proofKey(storedCluster, clock.now(), newest.backupId), proofText(newest, clock.now()))
  putBackup(server, longAgo)
  server.remove(artifact(long, '.inprogress'))
  const state = await look()
  t.same(
    state.backups.slice(-2).map(({ id }) => id),
    [long, newest.backupId],
    'what is new is found at once, also what has begun long ago',
  )
  t.ok(state.proofs.has(newest.backupId))
  server.remove(`${storedCluster}/repository.json`)
  await t.rejects(look(), { code: 'storage-failed', message: /not the repository that it was/ }, 'so is another bucket')
  await objects.refresh()

  const [first, middle] = [made[3], made[150]]
  if (first === undefined || middle === undefined) throw new Error('there are more')
  for (const { backupId } of [first, middle]) server.remove(artifact(backupId, 'dump.tar'))
  server.remove(manifestKey(storedCluster, middle.backupId))
  for (let round = 0; round < 3; round++) await objects.refresh()
  t.notOk(
    objects.ofBackup(middle.backupId).some(({ key }) => /manifest\.json|dump\.tar/.test(key)),
    'what is old, within a few rounds',
  )
  t.notOk(objects.ofBackup(first.backupId).some(({ key }) => key.endsWith('dump.tar')))

  for (const folder of ['backups/', 'proofs/', `backups/${long}/`, 'holds/', 'uses/']) {
    for (const options of [
      {},
      { delimiter: '/' as const },
      { startAfter: `${storedCluster}/backups/${long}/dump.tar` },
    ]) {
      const prefix = `${storedCluster}/${folder}`
      t.same(await listed(objects, prefix, options), await listed(storage, prefix, options), folder)
    }
  }
})

t.test('a backup that is published while it is looked at', async (t) => {
  const { clock, server, look, storage } = await place(t)
  await look()
  const { text, manifest } = dumpManifest({ startedAt: ago(clock, hour) })
  const claim = artifact(manifest.backupId, '.inprogress')
  server.put(claim, 'who knows')
  const get = storage.get.bind(storage)
  storage.get = async (key, options) => {
    if (key === claim) {
      server.put(manifestKey(storedCluster, manifest.backupId), text)
      server.remove(claim)
    }
    return get(key, options)
  }
  t.match(await look(), { backups: [], unusable: [] }, 'is not told to be incomplete')
  for (const { name } of manifest.artifacts) server.put(artifact(manifest.backupId, name), Buffer.alloc(1000))
  t.match(await look(), { backups: [{ id: manifest.backupId }], unusable: [] })
})

t.test('a server that fails tells nothing, and costs what is counted', async (t) => {
  const { clock, server, look, storage } = await place(t)
  putBackup(server, { startedAt: ago(clock, hour) })
  await look()
  server.refuse(500)
  await t.rejects(look(), { code: 'storage-unreachable' })
  server.refuse(null)
  t.equal((await look()).backups.length, 1)
  t.equal(await storage.head('nothing'), null)
  const counts = Object.fromEntries(storage.requestCounts().map(({ operation, ...count }) => [operation, count]))
  t.match(counts, { ListObjectsV2: { errors: 5 }, HeadObject: { errors: 0 }, GetObject: { errors: 0 } })
  const sent = Object.values(counts).reduce((sum, { requests }) => sum + requests, 0)
  t.equal(sent, server.asked().length, 'all of them, retries included')
})

t.test('what the bucket has replicated', async (t) => {
  const { clock, server, look } = await place(t)
  const put = (hours: number, status: string | null) => {
    const { text, manifest } = dumpManifest({ startedAt: ago(clock, hours * hour) })
    for (const { name } of manifest.artifacts) server.put(artifact(manifest.backupId, name), Buffer.alloc(1000))
    const headers = status === null ? {} : { 'x-amz-replication-status': status }
    server.put(manifestKey(storedCluster, manifest.backupId), text, { headers })
  }
  put(9, null)
  t.equal((await look()).replication, undefined, 'it does not')
  server.asked()
  await look()
  t.same(server.asked(), ['GET list'], 'and is not asked again')
  put(8, 'REPLICA')
  t.equal((await look()).replication, undefined, 'it is the copy')
  put(7, 'COMPLETED')
  put(6, 'FAILED')
  put(5, 'PENDING')
  t.same((await look()).replication, { pending: 1, completed: 1, failed: 1 })
  put(5, 'COMPLETED')
  t.same((await look()).replication, { pending: 0, completed: 2, failed: 1 })
})

t.test('timelines, systems, beginnings and gaps in a bucket, each in its turn', async (t) => {
  const { clock, server, look, lookAtWal, lookAtAllWal, putSegments } = await place(t)
  putSegments(1, 300)
  await look()
  await lookAtAllWal()
  const of = async () => (await lookAtWal()).systems.get(system)?.coverage
  const until = async (
    what: string,
    most: number,
    is: (coverage: Awaited<ReturnType<typeof of>>) => boolean | undefined,
  ) => {
    for (let round = 1; round <= most; round++) if (is(await of()) === true) return t.pass(`${what}: round ${round}`)
    t.fail(what)
  }
  for (let segment = 1; segment <= 20; segment++) server.remove(segmentKey(segment))
  await until('expired', 10, (coverage) => coverage?.segments(1).first === 21)
  putSegments(330, 340)
  await until('new', 1, (coverage) => coverage?.segments(1).last === 340)
  putSegments(301, 329)
  await until('what was late', 1, (coverage) => coverage?.segments(1).gaps(21, 340).next().done === true)
  putSegments(341, 345, 2)
  await until('a new timeline', 2, (coverage) => coverage?.segments(2).last === 345)
  putSegments(346, 350, 2)
  await until('goes on', 1, (coverage) => coverage?.segments(2).last === 350)
  putSegments(341, 342)
  await until('the former one, too', 20, (coverage) => coverage?.segments(1).last === 342)
  // Amid the rest nothing but the rare listing of everything finds it.
  server.remove(segmentKey(100))
  for (let round = 0; round < 20; round++) t.ok((await of())?.segments(1).has(100))
  await clock.advance(30 * hour)
  await look()
  await until('what is gone amid the rest', 1000, (coverage) => coverage?.segments(1).has(100) === false)
  const other = walKey(storedCluster, {
    ...{ systemIdentifier: '7600000000000000001', name: segmentName(1, 5, size), hash: 'abcdef012345' },
    isEncrypted: false,
  })
  server.put(other, 'x')
  for (let round = 0; round < 20; round++) await lookAtWal()
  t.ok((await lookAtWal()).systems.get('7600000000000000001')?.coverage.segments(1).has(5))
  for (const key of server.keys().filter((one) => one.includes('/00000001/'))) server.remove(key)
  await until('a timeline that is gone', 20, (coverage) => coverage?.segments(1).size === 0)
})
