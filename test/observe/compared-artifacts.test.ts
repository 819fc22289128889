import {
  chmod,
  copyFile,
  mkdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { systemClock } from '../../src/clock.ts'
import type { Manifest } from '../../src/domain/backup.ts'
import { type MetricsOptions, renderCatalog } from '../../src/metrics/registry.ts'
import { createObserver } from '../../src/observe/observer.ts'
import { planFromRepositories } from '../../src/observe/recovery-offline.ts'
import { createRepositoryLook, type RepositoryLookOptions } from '../../src/observe/repository.ts'
import { backupPrefix, manifestKey } from '../../src/repository/layout.ts'
import { Repository } from '../../src/repository/repository.ts'
import { openHistory } from '../../src/runner/history.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { LocalFiles } from '../../src/storage/local-files.ts'
import { Reader } from '../../src/storage/reader.ts'
import { Root } from '../../src/storage/root.ts'
import type { FileLook } from '../../src/storage/storage.ts'
import { at, policies, retention } from '../support/catalog.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { keptLog } from '../support/log.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { dumpManifest, storeBackup, storedCluster } from '../support/stored.ts'

const { signal } = new AbortController()

/** A repository in a directory, and the look of a sidecar at it. `before`: what happens just before files are looked at. */
async function place(t: Test, root: string, { before = async () => {}, ...more }: Watching = {}) {
  const clock = systemClock
  const { log, lines } = keptLog()
  const history = openHistory({ file: `${await scratchDirectory(t)}/lifeboat.db`, clock, log })
  t.teardown(() => history.close())
  const storage = new LocalStorage({ root })
  const identity = { ledger: history, lifeboat: '1.2.3', exists: () => storage.exists() }
  const repository = new Repository({ name: 'local', cluster: storedCluster, storage, clock, identity })
  const compared: string[][] = []
  const files: FileLook = {
    async compare(folders, options) {
      await before()
      compared.push(folders.map(({ folder }) => folder.split('/')[2] ?? ''))
      return storage.files.compare(folders, options)
    },
  }
  const look = createRepositoryLook({ repository, capacity: null, files, log, ...more })
  const spoiled = async () => {
    const { unusable } = await look(signal)
    return unusable.map(({ state, failure }) => `${state}: ${failure?.code}: ${failure?.message}`).join()
  }
  return { root, repository, storage, look: () => look(signal), spoiled, lines, compared, files }
}

const metricsOptions: MetricsOptions = {
  ...{ version: '1', revision: '', nodeVersion: '', cluster: storedCluster, retention: retention() },
  policy: {
    ...{ rpoSeconds: 1, rtoSeconds: 2, dumpMaxAgeSeconds: 3, fullMaxAgeSeconds: null, incrementalMaxAgeSeconds: null },
    ...{ verificationMaxAgeSeconds: 4, alertPathMaxAgeSeconds: null, retention: policies },
    growth: { shrinkBelow: 0.7, growAbove: 1.5 },
  },
}

type Watching = Partial<RepositoryLookOptions> & { readonly before?: () => Promise<void> }

const folderOf = (root: string, { backupId }: Manifest) => join(root, backupPrefix(storedCluster, backupId))
const fileOf = (root: string, manifest: Manifest, name = 'dump.tar') => join(folderOf(root, manifest), name)

await t.test('artifacts that are missing, truncated or no files any more', async (t) => {
  const root = t.testdir({})
  const { repository, look, spoiled, lines } = await place(t, root)
  const good = await storeBackup(root, { startedAt: at(10), random: '000001' })
  const manifest = await storeBackup(root, { startedAt: at(20), random: '000002' })
  const file = fileOf(root, manifest)
  await repository.adopt()
  t.equal((await look()).backups.length, 2)
  const folder = await stat(folderOf(root, manifest))

  for (const [what, spoil, words] of [
    ['missing', () => rm(file), /^invalid: artifact-invalid: dump\.tar of backup .* is missing$/],
    ['truncated', () => truncate(file, 999), /has 999 bytes, not the 1000 of its manifest$/],
    ['longer', () => writeFile(file, 'more', { flag: 'a' }), /has 1004 bytes, not the 1000 of its manifest$/],
    ['a directory', () => rm(file).then(() => mkdir(file)), /dump\.tar of backup .* is no file/],
    ['a link', () => rename(file, `${root}/moved`).then(() => symlink(`${root}/moved`, file)), /is no file: links/],
  ] as const) {
    await copyFile(file, `${root}/copy`)
    await spoil()
    if (what === 'truncated') t.same((await stat(folderOf(root, manifest))).ctime, folder.ctime, 'no directory tells')
    t.match(await spoiled(), words, what)
    const told = lines.length
    const state = await look()
    t.match(state, { backups: [{ id: good.backupId }], unusable: [{ id: manifest.backupId }] })
    t.equal(state.unusable[0]?.summary?.manifestChecksum, manifest.checksum, 'what it was is still known')
    t.equal(lines.length, told, 'told of once')
    await rm(file, { recursive: true, force: true })
    await copyFile(`${root}/copy`, file)
    t.equal(await spoiled(), '', 'it is back')
    folder.ctime = (await stat(folderOf(root, manifest))).ctime
  }
  t.equal(lines.length, 5)

  await rm(file)
  const { sources } = await planFromRepositories(
    { repositories: [repository], records: null, clock: systemClock, log: keptLog().log, signal },
    { target: { kind: 'latest' }, timeline: null, repository: null, backup: null },
  )
  t.match(sources[0]?.repository, { backups: { length: 1 }, unusable: [{ id: manifest.backupId }] }, 'no plan has it')
})

await t.test('what is not seen is not missing', async (t) => {
  const root = await scratchDirectory(t)
  await chmod(root, 0o755)
  const { look, repository, storage, spoiled } = await place(t, root)
  const manifest = await storeBackup(root, { startedAt: at(10) })
  const other = await storeBackup(root, { startedAt: at(20) })
  await repository.adopt()
  await chmod(join(root, storedCluster, 'repository.json'), 0o644)
  t.equal(await spoiled(), '')
  await chmod(fileOf(root, manifest), 0)
  await chmod(folderOf(root, other), 0)
  // Root may read everything. Only this process is another user, for a while.
  const isRoot = process.geteuid?.() === 0
  const asRoot = () => isRoot && process.seteuid?.(0)
  t.teardown(asRoot)
  if (isRoot) process.seteuid?.(65_534)
  await t.rejects(look(), { code: 'storage-failed', message: /EACCES/ }, 'nobody knows what is in the directory')
  const compare = (of: Manifest) =>
    storage.files.compare(
      [{ folder: backupPrefix(storedCluster, of.backupId), names: ['dump.tar', 'none'], bytes: [1_000, 1] }],
      { signal },
    )
  await t.rejects(compare(other), { code: 'storage-failed', message: /EACCES/, hint: /own the repository/ })
  t.match(
    await compare(manifest),
    [{ name: 'none', is: 'missing' }],
    'whoever may not read it still sees how long it is',
  )
  asRoot()
  await chmod(folderOf(root, other), 0o700)
  t.equal(await spoiled(), '')
})

await t.test('a disk that is gone', async (t) => {
  const root = join(t.testdir({}), 'disk')
  await mkdir(root)
  let before = async () => {}
  const { look, repository, lines, spoiled } = await place(t, root, { before: () => before() })
  const manifest = await storeBackup(root, { startedAt: at(10) })
  await repository.adopt()
  t.equal(await spoiled(), '')
  before = async () => {
    before = async () => {}
    await rename(root, `${root}.away`)
    await mkdir(root)
  }
  await t.rejects(look(), { code: 'storage-failed' }, 'amid a look: the empty place where it was mounted')
  await t.rejects(look(), { code: 'storage-failed' }, 'before a look')
  t.same(lines, [], 'nothing is said of its backups')
  await rm(root, { recursive: true })
  await rename(`${root}.away`, root)
  t.match(await look(), { backups: [{ id: manifest.backupId }], unusable: [] }, 'it is back')
})

await t.test('a disk that hangs', async (t) => {
  const root = t.testdir({})
  const clock = new FakeClock(at(60))
  const script = new URL('../storage/fixtures/dying-reader.ts', import.meta.url)
  const hanging = new LocalFiles({ root: new Root(root), reader: new Reader(clock, script) })
  let hangs = false
  const { repository, storage } = await place(t, root)
  const manifest = await storeBackup(root, { startedAt: at(10) })
  await repository.adopt()
  const observer = createObserver({
    repositories: [
      {
        repository,
        files: { compare: (folders, options) => (hangs ? hanging : storage.files).compare(folders, options) },
        ...{ watchRoot: null, capacity: null },
      },
    ],
    ...{ watches: [], server: null, archiver: null, wal: null, databases: null, clock, log: keptLog().log },
    history: { jobs: () => [], backupFailures: () => [] },
    ...{ intervalSeconds: 60, timeoutSeconds: 10 },
  })
  t.teardown(() => observer.stop())
  await observer.refresh()
  await truncate(fileOf(root, manifest), 1)
  hangs = true
  const late = observer.refresh('repository:local')
  while (clock.sleeping === 0) await new Promise(setImmediate)
  for (let turn = 0; turn < 1_000; turn++) await new Promise(setImmediate)
  await clock.advance(10_000)
  await late
  const { repositories, collectors } = observer.catalog()
  t.match(repositories, [{ backups: [{ id: manifest.backupId }], unusable: [] }], 'what was seen last stays')
  t.match(
    collectors.find(({ collector }) => collector === 'repository:local'),
    { success: false, failure: { code: 'timed-out' } },
  )
  hangs = false
  await clock.advance(3_600_000)
  await observer.refresh('repository:local')
  t.match(observer.catalog().repositories, [{ backups: [], unusable: [{ state: 'invalid' }] }])
  t.match(
    await renderCatalog(metricsOptions, observer.catalog()),
    /lifeboat_backups_unusable\{.*repository="local",state="invalid"\} 1/,
  )
})

await t.test('backups that are just being written or removed', async (t) => {
  const root = t.testdir({})
  let before = async () => {}
  const { look, repository, lines, spoiled } = await place(t, root, { before: () => before() })
  const elsewhere = new Repository({
    ...{ name: 'local', cluster: storedCluster, clock: systemClock, storage: new LocalStorage({ root }) },
  })
  const kept = await storeBackup(root, { startedAt: at(10), random: '000001' })
  const going = await storeBackup(root, { startedAt: at(20), random: '000002' })
  await repository.adopt()
  t.equal((await look()).backups.length, 2)
  before = async () => {
    before = async () => {}
    await elsewhere.expireBackup(going.backupId, { runId: 'run', needs: [], isDead: () => true })
  }
  t.match(await look(), { unusable: [] }, 'it goes while it is looked at')
  t.match(await look(), { backups: [{ id: kept.backupId }], unusable: [] })

  const folder = folderOf(root, kept)
  const writer = await elsewhere.beginBackup('20260301T120000Z-dump-abcdef', { runId: 'run', signal })
  const states = async () => (await look()).unusable.map(({ state }) => state)
  t.same(await states(), ['in-progress'])
  for (const { name } of kept.artifacts) {
    const bytes = await readFile(join(folder, name))
    await writer.put(name, bytes)
    t.same(await states(), ['in-progress'], name)
  }
  before = async () => {
    before = async () => {}
    const { checksum: _, formatVersion: __, artifacts: ___, ...body } = dumpManifest({ startedAt: at(720) }).manifest
    await writer.publish({ ...body, backupId: '20260301T120000Z-dump-abcdef' })
  }
  t.same(await states(), ['in-progress'], 'published while the others were looked at')
  t.match(await look(), { backups: { length: 2 }, unusable: [] })
  t.equal(await spoiled(), '')
  t.same(lines, [])

  await rm(join(root, manifestKey(storedCluster, kept.backupId)))
  t.same(await states(), ['incomplete'], 'without a manifest it is no backup, whatever is there of it')
})

await t.test('all of them in turn, where each look has its time', async (t) => {
  const root = t.testdir({})
  const clock = new FakeClock()
  const before = () => clock.advance(600)
  const { look, repository, compared } = await place(t, root, { before, pace: { clock, budgetMs: 1_000 } })
  const manifests: Manifest[] = []
  for (let index = 0; index < 300; index++)
    manifests.push(await storeBackup(root, { startedAt: at(index), bytes: 1, random: '00000a' }))
  await repository.adopt()
  const seen = async () => {
    const { backups, unusable } = await look()
    t.equal(backups.length + unusable.length, 300)
    return [compared.splice(0).map(({ length }) => length), unusable.length]
  }
  t.same(await seen(), [[128, 128], 0], 'those first of which nothing is known')
  const [early, late] = [manifests[3], manifests[290]]
  if (early === undefined || late === undefined) throw new TypeError()
  await truncate(fileOf(root, early), 0)
  await truncate(fileOf(root, late), 0)
  t.same(await seen(), [[44, 128], 2], 'what is left, and some of the others again')
  await writeFile(fileOf(root, early), 'x')
  t.same(await seen(), [[2, 128], 1], 'back at once: what is known to be damaged comes first')
  await writeFile(fileOf(root, late), 'x')
  t.same((await seen())[1], 0)
  const turn = new Set<string>()
  for (let round = 0; round < 4; round++) {
    await look()
    for (const ids of compared.splice(0)) for (const id of ids) turn.add(id)
  }
  t.equal(turn.size, 300, 'nobody is left out')
  const { mtime } = await stat(fileOf(root, late))
  await writeFile(fileOf(root, late), 'y')
  await utimes(fileOf(root, late), mtime, mtime)
  for (let round = 0; round < 4; round++) t.match(await look(), { unusable: [] }, 'other bytes of the same number')
})
