import { createHash } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { LifeboatError } from '../../src/domain/errors.ts'
import type { ManifestBody } from '../../src/repository/manifest.ts'
import { type BackupWriter, Repository } from '../../src/repository/repository.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import type { PutOptions, Storage } from '../../src/storage/storage.ts'
import { codeOf } from '../contract/storage.ts'
import { dumpBody, dumpId, ManualClock, proofBody, putDump } from './fixtures/manifests.ts'

const otherId = '20260302T020000Z-dump-ffffff'

function make(t: Test) {
  const outside = { 'dump.tar': 'secret', folder: { 'manifest.json': 'x', 'dump.tar': 'y' } }
  const base = t.testdir({ root: {}, outside })
  const root = join(base, 'root')
  const clock = new ManualClock()
  const storage = new LocalStorage({ root })
  const repository = new Repository({ name: 'local', cluster: 'prod', storage, clock })
  const controller = new AbortController()
  const begin = (id = dumpId): Promise<BackupWriter> =>
    repository.beginBackup(id, { runId: 'run-1', signal: controller.signal })
  const backUp = async (id = dumpId): Promise<void> => {
    const writer = await begin(id)
    await putDump(writer)
    await writer.publish(dumpBody(id))
  }
  const folder = (id = dumpId): string => join(root, 'prod/backups', id)
  return { base, root, clock, storage, repository, controller, begin, backUp, folder }
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = []
  for await (const item of items) found.push(item)
  return found
}

await t.test('a backup from begin to removal', async (t) => {
  const { repository, begin, folder, clock } = make(t)
  t.same(await all(repository.listBackups()), [])
  t.equal(await repository.inspect(dumpId), null)
  t.equal(await codeOf(repository.readManifest(dumpId)), 'manifest-missing')

  const writer = await begin()
  t.match(await repository.inspect(dumpId), {
    id: dumpId,
    state: 'in-progress',
    manifest: null,
    inProgress: { runId: 'run-1', startedAt: '2026-03-01T02:00:00.000Z', heartbeatAt: '2026-03-01T02:00:00.000Z' },
  })
  const large = Buffer.alloc(2_500_000, 'large')
  const artifact = await writer.put('dump.tar', Readable.from([large.subarray(0, 7), large.subarray(7)]))
  const stored = { bytes: large.length, sha256: createHash('sha256').update(large).digest('hex') }
  t.same(artifact, { name: 'dump.tar', plain: stored, stored })
  await writer.put('globals.sql', Buffer.from('create role'))
  await writer.put('RESTORE.md', Readable.from([]))
  t.equal(await repository.headManifest(dumpId), null, 'no backup before its manifest')

  clock.advance(30_000)
  while ((await repository.inspect(dumpId))?.inProgress?.heartbeatAt === '2026-03-01T02:00:00.000Z')
    await new Promise(setImmediate)
  t.match((await repository.inspect(dumpId))?.inProgress, {
    heartbeatAt: '2026-03-01T02:00:30.000Z',
    startedAt: '2026-03-01T02:00:00.000Z',
  })

  const manifest = await writer.publish(dumpBody())
  t.same(
    manifest.artifacts.map(({ name }) => name),
    ['dump.tar', 'globals.sql', 'RESTORE.md'],
  )
  t.same(await repository.readManifest(dumpId), manifest)
  t.same(new Set(readdirSync(folder())), new Set(['dump.tar', 'globals.sql', 'RESTORE.md', 'manifest.json']))
  const found = await repository.inspect(dumpId)
  t.same(found, { id: dumpId, state: 'complete', manifest: await repository.headManifest(dumpId), inProgress: null })
  t.ok((await buffer(await repository.readArtifact(dumpId, 'dump.tar'))).equals(large))
  t.equal((await repository.headArtifact(dumpId, 'dump.tar'))?.bytes, large.length)
  t.equal(await repository.headArtifact(dumpId, 'other'), null)
  t.equal(await codeOf(repository.readArtifact(dumpId, 'other')), 'object-missing')

  clock.advance(60_000)
  await writer.abandon()
  t.same(await repository.readManifest(dumpId), manifest, 'to abandon what is published does nothing')
  t.notOk(existsSync(join(folder(), '.inprogress')), 'no heartbeat comes back')
  t.equal(await codeOf(writer.put('late', Buffer.from('x'))), 'conflict')
  t.equal(await codeOf(writer.publish(dumpBody())), 'conflict')
  t.equal(await codeOf(begin()), 'conflict', 'an id is used once')
  t.same(await repository.readManifest(dumpId), manifest)
  t.notOk(existsSync(join(folder(), '.inprogress')), 'and no claim is left by the attempt')

  await repository.removeBackup(dumpId)
  await repository.removeBackup(dumpId)
  t.notOk(existsSync(folder()))
})

await t.test('what a writer refuses', async (t) => {
  const { repository, begin, folder } = make(t)
  const writer = await begin()
  for (const name of ['../x', '.inprogress', 'manifest.json', 'a/b', '', '-x']) {
    const body = Readable.from([Buffer.from('x')])
    t.equal(await codeOf(writer.put(name, body)), 'usage-invalid', JSON.stringify(name))
    t.ok(body.destroyed)
  }
  t.equal(await codeOf(writer.publish(dumpBody())), 'usage-invalid', 'a backup of nothing')
  await writer.put('dump.tar', Buffer.from('bytes'))
  t.equal(await codeOf(writer.put('dump.tar', Buffer.from('other'))), 'object-exists')
  const failing = new Readable({ read: () => {} })
  failing.destroy(new LifeboatError('program-failed', 'tar failed'))
  t.equal(await codeOf(writer.put('globals.sql', failing)), 'program-failed', 'the reason of the source comes through')
  await writer.put('globals.sql', Buffer.from('second try'))

  const silent = new Readable({ read: () => {} })
  const pending = writer.put('RESTORE.md', silent)
  t.equal(await codeOf(writer.publish(dumpBody())), 'usage-invalid', 'while an artifact is being put')
  silent.push(null)
  await pending
  t.equal(await codeOf(writer.publish(dumpBody(otherId))), 'usage-invalid', 'the manifest of another backup')
  t.equal(await codeOf(writer.publish(dumpBody(dumpId, { cluster: 'x' }))), 'usage-invalid')
  t.equal(await codeOf(writer.publish({ ...dumpBody(), timeline: -1 } as ManifestBody)), 'usage-invalid')
  truncateSync(join(folder(), 'dump.tar'), 1)
  t.equal(await codeOf(writer.publish(dumpBody())), 'artifact-invalid', 'an artifact that was cut')
  rmSync(join(folder(), 'dump.tar'))
  t.equal(await codeOf(writer.publish(dumpBody())), 'artifact-invalid', 'an artifact that has gone')
  t.equal(await repository.headManifest(dumpId), null)
  await writer.abandon()
  await writer.abandon()
  t.notOk(existsSync(folder()))
  t.equal(await codeOf(writer.put('late', Buffer.from('x'))), 'conflict')
  for (const id of ['', '..', '../x', `${dumpId}/x`, '20260231T020000Z-dump-0a1b2c', '20260301T240000Z-dump-0a1b2c']) {
    t.equal(
      await codeOf(repository.beginBackup(id, { runId: 'r', signal: AbortSignal.timeout(9999) })),
      'usage-invalid',
      id,
    )
    t.equal(await codeOf(repository.inspect(id)), 'usage-invalid')
    t.equal(await codeOf(repository.removeBackup(id)), 'usage-invalid')
    t.equal(await codeOf(repository.latestProof(id)), 'usage-invalid')
  }
  const { storage } = repository
  for (const cluster of ['', '..', 'a/b', '.x']) {
    t.throws(() => new Repository({ name: 'x', cluster, storage, clock: new ManualClock() }), { code: 'usage-invalid' })
  }
})

await t.test('two writers of one id', async (t) => {
  const { repository, begin } = make(t)
  const results = await Promise.allSettled(Array.from({ length: 8 }, () => begin()))
  const writers = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
  t.equal(writers.length, 1, 'one of eight gets the folder')
  for (const result of results) if (result.status === 'rejected') t.match(result.reason, { code: 'conflict' })
  await putDump(writers[0] as BackupWriter)
  t.equal(await codeOf(begin()), 'conflict')
  await writers[0]?.publish(dumpBody())
  t.equal((await repository.inspect(dumpId))?.state, 'complete', 'the losers did no harm')
})

await t.test('cancelling', async (t) => {
  const { controller, begin, folder, root } = make(t)
  const writer = await begin()
  await writer.put('globals.sql', Buffer.from('x'))
  const silent = new Readable({ read: () => {} })
  silent.push(Buffer.alloc(100_000))
  const putting = codeOf(writer.put('dump.tar', silent))
  controller.abort(new LifeboatError('timed-out', 'too slow'))
  t.equal(await putting, 'timed-out')
  t.ok(silent.destroyed, 'the source is told')
  t.equal(await codeOf(writer.publish(dumpBody())), 'timed-out')
  await writer.abandon()
  t.notOk(existsSync(folder()), 'abandoning works after the signal')
  t.same(readdirSync(join(root, '.lifeboat-tmp')), [])

  const second = make(t)
  const hanging = await second.begin()
  const never = new Readable({ read: () => {} })
  const put = codeOf(hanging.put('dump.tar', never))
  await hanging.abandon()
  t.equal(await put, 'cancelled', 'abandoning stops what is being put')
  t.notOk(existsSync(second.folder()))
})

await t.test('clean-up', async (t) => {
  const { repository, begin, backUp, folder, storage, root } = make(t)
  await backUp()
  const claim = `prod/backups/${dumpId}/.inprogress`
  const dead = await begin(otherId)
  await putDump(dead)
  await storage.put(claim, readFileSync(join(folder(otherId), '.inprogress')))
  const bare = '20260303T020000Z-full-000000'
  mkdirSync(folder(bare))
  writeFileSync(join(folder(bare), 'base.tar.zst'), 'x')
  const torn = '20260304T020000Z-full-000000'
  mkdirSync(folder(torn))
  writeFileSync(join(folder(torn), '.inprogress'), '{"runId": "x"')
  const empty = '20260305T020000Z-full-000000'
  mkdirSync(folder(empty))
  mkdirSync(join(root, 'prod/backups/lost+found'))
  writeFileSync(join(root, 'prod/backups/lost+found/x'), 'foreign')
  writeFileSync(join(root, 'prod/backups/notes.txt'), 'foreign')

  t.same(await all(repository.listBackups()), [dumpId, otherId, bare, torn, empty], 'foreign folders are not listed')
  t.equal(await repository.inspect(empty), null, 'an empty one holds nothing')
  t.match(await repository.inspect(bare), { state: 'incomplete', manifest: null, inProgress: null })
  t.match(await repository.inspect(torn), { state: 'incomplete', inProgress: null }, 'a claim that cannot be read')
  const asked: [string | undefined, string][] = []
  const isLapsed = (claimed: { runId: string } | null, id: string): boolean => {
    asked.push([claimed?.runId, id])
    return id !== otherId && id !== torn
  }
  t.same(await repository.cleanUp({ isLapsed }), [bare])
  t.same(asked, [
    ['run-1', dumpId],
    ['run-1', otherId],
    [undefined, bare],
    [undefined, torn],
  ])
  t.same(
    readdirSync(folder()),
    ['RESTORE.md', 'dump.tar', 'globals.sql', 'manifest.json'],
    'a published backup loses only the claim',
  )
  t.ok(existsSync(join(folder(otherId), 'dump.tar')), 'a live writer keeps its folder')

  t.same(await repository.cleanUp({ isLapsed: async () => true }), [otherId, torn])
  t.same(await all(repository.listBackups()), [dumpId], `and ${empty}, in which nothing is`)
  t.same(readdirSync(join(root, 'prod/backups/lost+found')), ['x'], 'what is not ours stays')
  t.equal(await codeOf(dead.publish(dumpBody(otherId))), 'conflict', 'a writer that was not dead finds out')
  await dead.put('late.sql', Buffer.from('late'))
  await dead.abandon()
  t.notOk(existsSync(folder(otherId)), 'and leaves nothing')
  t.equal(await codeOf(repository.cleanUp({ isLapsed: () => true, signal: AbortSignal.abort() })), 'cancelled')
})

/** A storage in which something happens just before an object is stored. */
function interrupted(storage: Storage, before: (key: string) => Promise<void>): Storage {
  return {
    get: (key, options) => storage.get(key, options),
    head: (key, options) => storage.head(key, options),
    list: (prefix, options) => storage.list(prefix, options),
    remove: (key, options) => storage.remove(key, options),
    put: async (key: string, body: Readable | Uint8Array, options?: PutOptions) => {
      await before(key)
      return storage.put(key, body, options)
    },
  }
}

await t.test('a clean-up in the very moment of publishing', async (t) => {
  const { repository, storage, clock, folder } = make(t)
  const signal = new AbortController().signal
  const suspended = interrupted(storage, async (key) => {
    if (key.endsWith('manifest.json')) t.same(await repository.cleanUp({ isLapsed: () => true }), [dumpId])
  })
  const slow = new Repository({ name: 'slow', cluster: 'prod', storage: suspended, clock })
  const writer = await slow.beginBackup(dumpId, { runId: 'r', signal })
  await putDump(writer)
  t.equal(await codeOf(writer.publish(dumpBody())), 'artifact-invalid', 'the writer notices')
  await writer.abandon()
  t.notOk(existsSync(folder()), 'no manifest without artifacts stays')

  // The other way round: published between the clean-up's first look and its claim.
  const writerOf: { current?: BackupWriter } = {}
  const racing = interrupted(storage, async (key) => {
    if (key.endsWith('.inprogress')) await writerOf.current?.publish(dumpBody())
  })
  writerOf.current = await repository.beginBackup(dumpId, { runId: 'r', signal })
  await putDump(writerOf.current)
  const cleaner = new Repository({ name: 'cleaner', cluster: 'prod', storage: racing, clock })
  t.same(await cleaner.cleanUp({ isLapsed: () => true }), [])
  t.same(readdirSync(folder()), ['RESTORE.md', 'dump.tar', 'globals.sql', 'manifest.json'], 'the backup is whole')
})

await t.test('a clean-up that is half done when the writer publishes', async (t) => {
  const { repository, storage, clock, folder } = make(t)
  const paused = Promise.withResolvers<void>()
  const resume = Promise.withResolvers<void>()
  const cleanersStorage: Storage = {
    ...interrupted(storage, async () => {}),
    remove: async (key, options) => {
      paused.resolve()
      await resume.promise
      await storage.remove(key, options)
    },
  }
  const cleaner = new Repository({ name: 'cleaner', cluster: 'prod', storage: cleanersStorage, clock })
  let cleaning: Promise<string[]> | undefined
  const suspended = interrupted(storage, async (key) => {
    if (!key.endsWith('manifest.json')) return
    cleaning = cleaner.cleanUp({ isLapsed: () => true })
    await paused.promise
  })
  const slow = new Repository({ name: 'slow', cluster: 'prod', storage: suspended, clock })
  const writer = await slow.beginBackup(dumpId, { runId: 'r', signal: new AbortController().signal })
  await putDump(writer)
  t.equal(await codeOf(writer.publish(dumpBody())), 'conflict', 'every artifact is still there, but not for long')
  t.equal(await repository.headManifest(dumpId), null)
  await writer.abandon()
  t.ok(existsSync(folder()), 'the folder belongs to the clean-up')
  resume.resolve()
  t.same(await cleaning, [dumpId])
  t.notOk(existsSync(folder()))
})

await t.test('a heartbeat that is under way while the backup is published', async (t) => {
  const { storage, clock, folder } = make(t)
  const beating = Promise.withResolvers<void>()
  const resume = Promise.withResolvers<void>()
  let claims = 0
  const slowStorage = interrupted(storage, async (key) => {
    if (!key.endsWith('.inprogress') || ++claims === 1) return
    beating.resolve()
    await resume.promise
  })
  const slow = new Repository({ name: 'slow', cluster: 'prod', storage: slowStorage, clock })
  const writer = await slow.beginBackup(dumpId, { runId: 'r', signal: new AbortController().signal })
  await putDump(writer)
  clock.advance(30_000)
  await beating.promise
  const publishing = writer.publish(dumpBody())
  while (!existsSync(join(folder(), 'manifest.json'))) await new Promise(setImmediate)
  // Time enough to finish, for a publish that does not wait.
  await Promise.race([publishing, storage.put('other', Buffer.alloc(10_000_000))])
  resume.resolve()
  await publishing
  await storage.put('other', Buffer.alloc(1))
  t.same(
    readdirSync(folder()),
    ['RESTORE.md', 'dump.tar', 'globals.sql', 'manifest.json'],
    'it does not bring the claim back',
  )
})

await t.test('a removal that is interrupted leaves no half backup', async (t) => {
  for (let allowed = 0; allowed < 4; allowed++) {
    const { repository, storage, clock, backUp } = make(t)
    await backUp()
    let left = allowed
    const failing = {
      ...interrupted(storage, async () => {}),
      remove: async (key: string) => {
        if (left-- === 0) throw new LifeboatError('storage-failed', 'the disk broke')
        await storage.remove(key)
      },
    }
    const broken = new Repository({ name: 'broken', cluster: 'prod', storage: failing, clock })
    await codeOf(broken.removeBackup(dumpId))
    const manifest = await repository.headManifest(dumpId)
    const dump = await repository.headArtifact(dumpId, 'dump.tar')
    t.ok(manifest === null || dump !== null, `after ${allowed} steps: whole, or no backup`)
    t.equal(manifest === null, allowed > 0, 'the manifest goes first')
    if (manifest === null && dump !== null) t.same(await repository.cleanUp({ isLapsed: () => true }), [dumpId])
    await repository.removeBackup(dumpId)
  }
})

await t.test('manifests that are not what they should be', async (t) => {
  const { repository, backUp, folder } = make(t)
  await backUp()
  const path = join(folder(), 'manifest.json')
  const good = readFileSync(path)
  mkdirSync(folder(otherId))
  writeFileSync(join(folder(otherId), 'manifest.json'), good)
  t.equal(await codeOf(repository.readManifest(otherId)), 'manifest-invalid', 'copied from another folder')
  for (const bad of [
    Buffer.alloc(0),
    good.subarray(0, 500),
    Buffer.concat([good, Buffer.from('x')]),
    Buffer.alloc(16 * 1024 * 1024 + 1, ' '),
  ]) {
    writeFileSync(path, bad)
    t.equal(await codeOf(repository.readManifest(dumpId)), 'manifest-invalid', `${bad.length} bytes`)
    t.equal((await repository.inspect(dumpId))?.state, 'complete', 'it still is somebody’s backup, not for clean-up')
    t.same(await repository.cleanUp({ isLapsed: () => true }), [])
  }
})

await t.test('symbolic links', async (t) => {
  const { repository, backUp, folder, base } = make(t)
  await backUp()
  rmSync(join(folder(), 'dump.tar'))
  symlinkSync(join(base, 'outside/dump.tar'), join(folder(), 'dump.tar'))
  t.equal(await codeOf(repository.readArtifact(dumpId, 'dump.tar')), 'storage-failed', 'as artifact')
  t.equal(await codeOf(repository.headArtifact(dumpId, 'dump.tar')), 'storage-failed')
  symlinkSync(join(base, 'outside/folder'), folder(otherId))
  t.same(await all(repository.listBackups()), [dumpId], 'as folder')
  t.equal(await codeOf(repository.readManifest(otherId)), 'storage-failed')
  t.equal(await codeOf(repository.removeBackup(otherId)), 'storage-failed')
  const linked = '20260303T020000Z-full-000000'
  mkdirSync(folder(linked))
  symlinkSync(join(base, 'outside/folder/manifest.json'), join(folder(linked), 'manifest.json'))
  writeFileSync(join(folder(linked), 'base.tar'), 'x')
  t.equal(await codeOf(repository.readManifest(linked)), 'storage-failed', 'as manifest')
  t.equal(await codeOf(repository.cleanUp({ isLapsed: () => true })), 'storage-failed', 'never taken for a missing one')
  t.ok(existsSync(join(folder(linked), 'base.tar')))
  t.same(
    new Set(readdirSync(join(base, 'outside/folder'))),
    new Set(['manifest.json', 'dump.tar']),
    'nothing outside was touched',
  )
})

await t.test('proofs', async (t) => {
  const { repository, root } = make(t)
  t.equal(await repository.latestProof(dumpId), null)
  const first = await repository.publishProof(proofBody())
  const second = await repository.publishProof(proofBody(dumpId, { level: 'data' }))
  await repository.publishProof(proofBody(otherId))
  const racers = await Promise.all(Array.from({ length: 5 }, () => repository.publishProof(proofBody(otherId))))
  t.equal(racers.length, 5)
  writeFileSync(join(root, 'prod/proofs/notes.txt'), 'foreign')
  mkdirSync(join(root, `prod/proofs/20260101T000000Z-${dumpId}.json`))

  const found = await all(repository.listProofs())
  t.equal(found.length, 8, 'proofs of the same second do not overwrite one another')
  t.same(
    found.map(({ key }) => key),
    found.map(({ key }) => key).sort((a, b) => (a < b ? -1 : 1)),
  )
  t.same(
    found.filter(({ backupId }) => backupId === dumpId).map(({ key }) => key),
    [`prod/proofs/20260308T040100Z-${dumpId}.json`, `prod/proofs/20260308T040101Z-${dumpId}.json`],
  )
  t.same(await repository.readProof(found[0]?.key ?? ''), first)
  t.same(await repository.latestProof(dumpId), second)
  t.equal(found[0]?.info.bytes, readFileSync(join(root, found[0]?.key ?? '')).length)
  const after = await all(repository.listProofs({ startAfter: found[5]?.key ?? '' }))
  t.same(after, found.slice(6))

  const newest = `prod/proofs/20260309T040100Z-${dumpId}.json`
  writeFileSync(
    join(root, newest),
    readFileSync(join(root, found[0]?.key ?? ''), 'utf8').replace('"restore"', '"data"'),
  )
  t.equal(await codeOf(repository.readProof(newest)), 'proof-invalid')
  t.equal(await codeOf(repository.latestProof(dumpId)), 'proof-invalid', 'an older one is no answer')
  t.equal(await codeOf(repository.readProof('prod/proofs/../x.json')), 'usage-invalid')
  t.equal(await codeOf(repository.readProof(`other/proofs/20260309T040100Z-${dumpId}.json`)), 'usage-invalid')
  t.equal(await codeOf(repository.readProof(`prod/proofs/20270309T040100Z-${dumpId}.json`)), 'object-missing')
  t.equal(await codeOf(repository.publishProof(proofBody('x'))), 'usage-invalid')
})
