import { chmod, mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { systemClock } from '../../src/clock.ts'
import { LifeboatError } from '../../src/domain/errors.ts'
import { mapConcurrently } from '../../src/observe/concurrent.ts'
import { createRepositoryLook, type ObservableRepository } from '../../src/observe/repository.ts'
import { inProgressKey, manifestKey, proofKey } from '../../src/repository/layout.ts'
import { Repository } from '../../src/repository/repository.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import type { GetOptions } from '../../src/storage/storage.ts'
import { at } from '../support/catalog.ts'
import { keptLog } from '../support/log.ts'
import { store, storedCluster, storeManifest, storeProof } from '../support/stored.ts'

/** A real storage that keeps count of the objects that were read. */
class CountingStorage extends LocalStorage {
  readonly read: string[] = []

  override get(key: string, options?: GetOptions) {
    this.read.push(key)
    return super.get(key, options)
  }
}

function repositoryIn(root: string) {
  const storage = new CountingStorage({ root })
  const repository = new Repository({ name: 'local', cluster: storedCluster, storage, clock: systemClock })
  const { log, lines } = keptLog()
  const look = createRepositoryLook({ repository, capacity: () => storage.capacity(), log })
  return { root, storage, repository, lines, look: () => look(new AbortController().signal) }
}

const empty = (t: Test) => repositoryIn(t.testdir({}))

await t.test('backups, proofs and space of a real directory', async (t) => {
  const { root, look, storage, lines } = empty(t)
  t.match(await look(), { name: 'local', backups: [], unusable: [], capacity: { freeBytes: Number } })

  const one = await storeManifest(root, { startedAt: at(10), database: 'app' })
  const two = await storeManifest(root, { startedAt: at(20), database: 'crm', bytes: 7 })
  await storeProof(root, one, at(30), 'inconclusive')
  await storeProof(root, one, at(40))
  const state = await look()
  t.same(
    state.backups.map((backup) => backup.id),
    [one.backupId, two.backupId],
  )
  t.match(state.backups[0], {
    type: 'dump',
    database: 'app',
    systemIdentifier: '7500000000000000001',
    startedAt: at(10),
    finishedAt: at(11),
    consistentAt: at(10),
    durationSeconds: 60,
    storedBytes: 4_000,
    sourceBytes: 8_000_000,
    warnings: 0,
    manifestChecksum: one.checksum,
  })
  t.same(state.backups[1]?.storedBytes, 28)
  t.match(state.proofs.get(one.backupId), [
    { finishedAt: at(40), verdict: 'pass', provesRestore: true, durationSeconds: 60 },
    { finishedAt: at(30), verdict: 'inconclusive', provesRestore: false, levels: { restore: { cause: 'some-cause' } } },
  ])
  t.equal(state.proofs.size, 1)
  t.equal(state.objects, 2 * (1 + one.artifacts.length) + 2, 'artifacts, manifests and proofs')
  t.ok([state, state.backups, ...state.backups, state.unusable, state.capacity].every(Object.isFrozen))

  storage.read.length = 0
  t.same({ ...(await look()), capacity: state.capacity }, state)
  t.same(storage.read, [], 'what has not changed is not read again')
  const three = await storeManifest(root, { startedAt: at(50) })
  t.equal((await look()).backups.length, 3)
  t.same(storage.read, [manifestKey(storedCluster, three.backupId)], 'only what is new')
  t.same(lines, [])
})

await t.test('a proof counts only for the very manifest that it is about', async (t) => {
  const { root, look } = empty(t)
  const options = { startedAt: at(10), bytes: 1 }
  await storeProof(root, await storeManifest(root, options), at(20))
  const { backupId } = await storeManifest(root, { ...options, bytes: 2 })
  t.same((await look()).proofs, new Map(), 'the manifest is another one now')
  await storeManifest(root, options)
  t.equal((await look()).proofs.get(backupId)?.length, 1, 'it is the old one again')
})

await t.test('manifests that cannot be used leave the others alone', async (t) => {
  const { root, look, lines, storage } = empty(t)
  const good = await storeManifest(root, { startedAt: at(10), random: '000001' })
  const bad: { id: string; path: string; whole: string }[] = []
  for (const [index, spoil] of [
    (text: string) => text.replace('"app"', '"apq"'),
    (text: string) => text.slice(0, 100),
    () => '',
    () => 'null',
    () => '\0'.repeat(100),
  ].entries()) {
    const { backupId: id } = await storeManifest(root, { startedAt: at(10), random: `00001${index}` })
    const path = join(root, manifestKey(storedCluster, id))
    const whole = await readFile(path, 'utf8')
    await writeFile(path, spoil(whole))
    bad.push({ id, path, whole })
  }
  for (let again = 0; again < 2; again++) {
    storage.read.length = 0
    const state = await look()
    t.same(
      state.backups.map((backup) => backup.id),
      [good.backupId],
    )
    t.same(
      state.unusable.map(({ id, state, failure }) => [id, state, failure?.code]),
      bad.map(({ id }) => [id, 'invalid', 'manifest-invalid']),
    )
    t.equal(storage.read.length, again === 0 ? 6 : 0, 'read once')
    t.equal(lines.length, 5, 'told of once')
  }
  for (const { path, whole } of bad) await writeFile(path, whole)
  t.match(await look(), { backups: { length: 6 }, unusable: [] }, 'put right, they count')
})

await t.test('folders without a manifest, foreign files and hostile names', async (t) => {
  const { root, look } = empty(t)
  const { backupId: good } = await storeManifest(root, { startedAt: at(10) })
  const id = (random: string) => `20260301T000000Z-dump-${random}`
  await store(root, `${storedCluster}/backups/${id('00000a')}/dump.tar`, 'half')
  await store(root, inProgressKey(storedCluster, id('00000b')), 'not understood')
  await mkdir(join(root, storedCluster, 'backups', id('00000c')))
  await mkdir(join(root, storedCluster, 'backups', 'lost+found'))
  for (const name of ['-rf', 'a\nb', '…', '20260301T000000Z-dump-XYZXYZ', '20269901T000000Z-dump-abcdef']) {
    await store(root, `${storedCluster}/backups/${name}/manifest.json`, '{}')
    await store(root, `${storedCluster}/proofs/${name}.json`, '{}')
  }
  await store(root, `${storedCluster}/backups/${id('00000d')}`, 'a file')
  const state = await look()
  t.same(
    state.backups.map((backup) => backup.id),
    [good],
  )
  t.same(state.unusable, [
    { id: id('00000a'), state: 'incomplete' },
    { id: id('00000b'), state: 'incomplete' },
  ])
})

await t.test('a manifest behind a link is no reason to see nothing else', async (t) => {
  const { root, look } = empty(t)
  const { backupId: good } = await storeManifest(root, { startedAt: at(10) })
  const { backupId: later } = await storeManifest(root, { startedAt: at(20) })
  const linked = '20260301T000000Z-dump-00000a'
  const target = join(root, manifestKey(storedCluster, good))
  await store(root, `${storedCluster}/backups/${linked}/dump.tar`, 'x')
  await symlink(target, join(root, manifestKey(storedCluster, linked)))
  const state = await look()
  t.same(
    state.backups.map((backup) => backup.id),
    [good, later],
  )
  t.match(state.unusable, [{ id: linked, state: 'invalid', failure: { code: 'storage-failed' } }])

  await store(root, `${storedCluster}/backups/${good}/dump.tar`, 'x')
  await rm(target)
  await symlink('/etc/passwd', target)
  await t.rejects(look(), { code: 'storage-failed' }, 'one that was good and cannot be looked at: the look fails')
})

await t.test('invalid proofs prove nothing, are told of once, and leave the good ones', async (t) => {
  const { root, look, lines, storage } = empty(t)
  const manifest = await storeManifest(root, { startedAt: at(10) })
  await storeProof(root, manifest, at(20))
  const edited = join(root, await storeProof(root, manifest, at(30), 'fail'))
  await writeFile(edited, (await readFile(edited, 'utf8')).replace('"fail"', '"pass"'))
  const renamed = await readFile(join(root, await storeProof(root, manifest, at(40))), 'utf8')
  const other = await storeManifest(root, { startedAt: at(11), random: '000002' })
  await store(root, proofKey(storedCluster, at(41), other.backupId), renamed)
  for (let again = 0; again < 2; again++) {
    storage.read.length = 0
    const { proofs } = await look()
    t.same(
      proofs.get(manifest.backupId)?.map((proof) => proof.finishedAt),
      [at(40), at(20)],
    )
    t.notOk(proofs.has(other.backupId), 'a proof that was copied to another backup')
    t.equal(lines.length, 2)
    t.equal(storage.read.length, again === 0 ? 6 : 0)
  }
})

await t.test('what is gone is forgotten, and not read', async (t) => {
  const { root, look, storage } = empty(t)
  const gone = await storeManifest(root, { startedAt: at(10) })
  await storeProof(root, gone, at(20))
  const counts = async () => {
    const { backups, unusable, proofs } = await look()
    return { backups: backups.length, unusable: unusable.length, proven: proofs.size }
  }
  t.same(await counts(), { backups: 1, unusable: 0, proven: 1 })
  await rm(join(root, storedCluster, 'backups', gone.backupId), { recursive: true })
  storage.read.length = 0
  t.same(await counts(), { backups: 0, unusable: 0, proven: 0 })
  t.same(storage.read, [], 'the proof of a backup that is gone stays unread')
  const restarted = repositoryIn(root)
  await restarted.look()
  t.same(restarted.storage.read, [], 'after a restart too')
  await storeManifest(root, { startedAt: at(10) })
  t.same(await counts(), { backups: 1, unusable: 0, proven: 1 }, 'it came back')
})

await t.test('a storage that fails, fails the look', async (t) => {
  const { root, repository } = empty(t)
  await storeManifest(root, { startedAt: at(10), random: '000001' })
  await storeManifest(root, { startedAt: at(11), random: '000002' })
  const down = new LifeboatError('storage-failed', 'connection refused', { hint: 'Wait.' })
  const { log } = keptLog()
  const signal = new AbortController().signal
  const lookAt = (broken: Partial<ObservableRepository>) => createLook(broken)(signal)
  const createLook = (broken: Partial<ObservableRepository>) =>
    createRepositoryLook({
      // The methods of a class are not its own properties: bind what is not replaced.
      repository: {
        name: repository.name,
        cluster: repository.cluster,
        checkPresence: (options) => repository.checkPresence(options),
        listBackups: (options) => repository.listBackups(options),
        inspect: (id, options) => repository.inspect(id, options),
        headManifest: (id, options) => repository.headManifest(id, options),
        readManifestObject: (id, options) => repository.readManifestObject(id, options),
        listProofs: (options) => repository.listProofs(options),
        readProof: (key, options) => repository.readProof(key, options),
        listHolds: (options) => repository.listHolds(options),
        readHold: (id, options) => repository.readHold(id, options),
        listUses: (options) => repository.listUses(options),
        readUse: (key, options) => repository.readUse(key, options),
        ...broken,
      },
      capacity: null,
      log,
    })
  const failing = async () => {
    throw down
  }
  await t.rejects(lookAt({ checkPresence: failing }), { message: 'connection refused' }, 'it is not there')
  let looks = 0
  const leaving = async () => {
    if (++looks > 1) throw down
  }
  await t.rejects(lookAt({ checkPresence: leaving }), { message: 'connection refused' }, 'gone while it was listed')
  await t.rejects(
    lookAt({ readManifestObject: failing }),
    { code: 'storage-failed', message: 'connection refused', hint: 'Wait.' },
    'reads none',
  )
  const again = createLook({ headManifest: (id) => (id.endsWith('1') ? failing() : repository.headManifest(id)) })
  t.match(await again(signal), { backups: { length: 2 } }, 'what is not known yet is read without a look before')
  await t.rejects(again(signal), { code: 'storage-failed' }, 'does not find again what was there')
  await t.rejects(
    lookAt({
      async *listProofs() {
        yield* []
        throw down
      },
    }),
    { code: 'storage-failed' },
  )
  await t.rejects(
    lookAt({
      readManifestObject: async () => {
        throw new TypeError('a defect')
      },
    }),
    { name: 'TypeError' },
    'a defect is not blamed on the manifest',
  )
  t.match(
    await lookAt({
      readManifestObject: (id) => (id.endsWith('1') ? failing() : repository.readManifestObject(id)),
    }),
    { backups: { length: 1 }, unusable: [{ failure: { code: 'storage-failed' } }], capacity: null },
  )
  if (process.getuid?.() === 0) return
  await chmod(join(root, storedCluster, 'backups'), 0o000)
  await t.rejects(lookAt({}), { code: 'storage-failed' })
  await chmod(join(root, storedCluster, 'backups'), 0o700)
})

await t.test('space that cannot be measured is unknown, and told of once', async (t) => {
  const { repository } = empty(t)
  const { log, lines } = keptLog()
  let fails = true
  const look = createRepositoryLook({
    repository,
    capacity: async () => {
      if (fails) throw new LifeboatError('storage-failed', 'no statfs here')
      return { freeBytes: 1, totalBytes: 2 }
    },
    log,
  })
  const { signal } = new AbortController()
  t.equal((await look(signal)).capacity, null)
  t.equal((await look(signal)).capacity, null)
  t.equal(lines.length, 1)
  fails = false
  t.same((await look(signal)).capacity, { freeBytes: 1, totalBytes: 2 })
})

await t.test('an aborted look ends and learns nothing', async (t) => {
  const { root, repository, storage } = empty(t)
  await storeManifest(root, { startedAt: at(10) })
  const reason = new LifeboatError('timed-out', 'too late')
  let controller = new AbortController()
  let space = () => {}
  const capacity = async () => {
    space()
    return { freeBytes: 1, totalBytes: 2 }
  }
  const look = createRepositoryLook({ repository, capacity, log: keptLog().log })
  controller.abort(reason)
  await t.rejects(look(controller.signal), { name: 'LifeboatError' })
  t.same(storage.read, [])

  controller = new AbortController()
  space = () => controller.abort(reason)
  await t.rejects(look(controller.signal), reason, 'aborted at the very end')
  space = () => {}
  await look(new AbortController().signal)
  t.equal(storage.read.length, 2, 'what it read is read again')
})

await t.test('work side by side, in the order of the source', async (t) => {
  async function* numbers(count: number) {
    for (let number = 0; number < count; number++) yield number
  }
  const { signal } = new AbortController()
  let [active, most] = [0, 0]
  const doubled = await mapConcurrently(numbers(100), 8, signal, async (number) => {
    most = Math.max(most, ++active)
    for (let turns = number % 5; turns > 0; turns--) await new Promise(setImmediate)
    active--
    return number * 2
  })
  t.same(
    doubled,
    Array.from({ length: 100 }, (_, number) => number * 2),
  )
  t.equal(most, 8)

  let closed = false
  async function* endless() {
    try {
      for (let number = 0; ; number++) yield number
    } finally {
      closed = true
    }
  }
  const failure = new Error('the fifth')
  let begun = 0
  await t.rejects(
    mapConcurrently(endless(), 4, signal, async (number) => {
      begun++
      if (number === 5) throw failure
      await new Promise(setImmediate)
    }),
    failure,
  )
  t.ok(closed, 'the source is closed')
  t.ok(begun < 20)
})
