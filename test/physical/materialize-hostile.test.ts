import { existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { chmod, mkdir, readdir, readFile, readlink, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { systemClock } from '../../src/clock.ts'
import type { Manifest } from '../../src/domain/backup.ts'
import { LifeboatError } from '../../src/domain/errors.ts'
import {
  type ChainMember,
  incompleteMarker,
  type MaterializeOptions,
  materialize,
} from '../../src/physical/materialize.ts'
import { serverOsUser } from '../../src/postgres/os-user.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { artifactKey } from '../../src/repository/layout.ts'
import { Repository } from '../../src/repository/repository.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { makeTablespace, physicalCluster } from '../support/archiving-cluster.ts'
import { MemoryStorage } from '../support/memory-storage.ts'
import { installationOf } from '../support/postgres.ts'
import { noSmallDisk, openDirectory, smallDisk } from '../support/scratch.ts'
import { copyRepository, flipBit, folderIn, forge } from '../support/tamper.ts'
import { withoutBsdtar } from '../support/without-bsdtar.ts'

const signal = new AbortController().signal

/** What is not only kept away by what we look for afterwards, but by the program that unpacks. */
const withTarToo = ['absolute', 'dots', 'a link and a file behind it']

interface Failure {
  readonly code: string
  readonly message?: string | RegExp
  readonly details?: Readonly<Record<string, unknown>>
}

t.test('what must not become a data directory', { timeout: 250_000 }, async (t) => {
  const { cluster, sidecar } = await physicalCluster(t, { major: 17 })
  await makeTablespace(t, cluster, 'elsewhere')
  await cluster.createDatabase('app', 'create table t as select generate_series(1, 100000) as i')
  await cluster.sql('create table far (i) tablespace elsewhere as select generate_series(1, 1000)', 'app')
  const { sidecar: one } = await sidecar(t)
  for (const job of ['full', 'incremental'] as const) t.match(await one.run(job), { state: 'succeeded' })
  const [full, child] = (await one.manifests()) as [Manifest, Manifest]
  const [oid = 0] = full.physical?.tablespaces.map((tablespace) => tablespace.oid) ?? []
  const owner = await serverOsUser('postgres')

  /** A copy of the repository that can be damaged. */
  const copied = async (t: Test, name = 'copy') => {
    const root = await copyRepository(t, one)
    const repository = new Repository({
      name,
      cluster: 'test',
      storage: new LocalStorage({ root }),
      clock: systemClock,
    })
    return { repository, folder: (manifest: Manifest) => folderIn(root, manifest) }
  }
  /** The same bytes in a storage whose files no program can open. */
  const inMemory = async (name: string, folder: (manifest: Manifest) => string) => {
    const storage = new MemoryStorage(systemClock)
    for (const manifest of [full, child])
      for (const { name } of manifest.artifacts)
        await storage.put(artifactKey('test', manifest.backupId, name), await readFile(join(folder(manifest), name)))
    return new Repository({ name, cluster: 'test', storage, clock: systemClock })
  }
  const chainOf = (
    repositories: readonly Repository[],
    manifests: readonly Manifest[] = [full, child],
  ): ChainMember[] => manifests.map((manifest) => ({ manifest, repositories }))
  const targets = async (t: Test) => {
    const directory = await openDirectory(t)
    const [dataDirectory, far, folder] = ['data', 'far', 'work'].map((name) => join(directory, name)) as [
      string,
      string,
      string,
    ]
    return { directory, dataDirectory, far, folder }
  }
  /** Expects it to fail, and nothing of it to stay. */
  const refuses = async (t: Test, options: Partial<MaterializeOptions>, failure: Failure) => {
    const { directory, dataDirectory, far, folder } = await targets(t)
    const about = {
      ...{ chain: chainOf([one.repository]), dataDirectory, folder, tablespaces: new Map([[oid, far]]), owner, signal },
      installation: cluster.installation,
      onProgress: () => {},
      ...options,
    }
    await t.rejects(materialize(about), failure)
    t.same(await readdir(directory), [], 'nothing is left')
  }

  t.test('bytes that are not the ones that were stored', async (t) => {
    const flipped = await copied(t, 'flipped')
    await flipBit(join(flipped.folder(child), 'base.tar.zst'))
    await refuses(
      t,
      { chain: chainOf([flipped.repository]) },
      {
        code: 'artifact-invalid',
        details: { cause: 'checksum-mismatch', artifact: 'base.tar.zst', backupId: child.backupId },
      },
    )
    const short = await copied(t, 'short')
    await truncate(join(short.folder(full), `${oid}.tar.zst`), 100)
    await refuses(
      t,
      { chain: chainOf([short.repository]) },
      { code: 'artifact-invalid', details: { cause: 'size-mismatch' }, message: /has 100 bytes instead of/ },
    )
    const cut = await copied(t, 'cut')
    const halved = await forge(cut.folder(full), full, {
      'base.tar.zst': (await readFile(join(cut.folder(full), 'base.tar.zst'))).subarray(0, -1000),
    })
    await refuses(
      t,
      { chain: chainOf([cut.repository], [halved, child]) },
      { code: 'artifact-invalid', details: { cause: 'archive-broken' }, message: /was broken when it was stored/ },
    )
    const manifest = await copied(t, 'manifest')
    await flipBit(join(manifest.folder(child), 'backup_manifest'))
    await refuses(
      t,
      { chain: chainOf([manifest.repository]) },
      { code: 'artifact-invalid', details: { artifact: 'backup_manifest' } },
    )
    await refuses(
      t,
      { chain: chainOf([flipped.repository, short.repository]).map((member) => ({ ...member, repositories: [] })) },
      { code: 'not-recoverable' },
    )

    await t.test('another repository has them', async (t) => {
      const { dataDirectory, far, folder, directory } = await targets(t)
      await mkdir(dataDirectory)
      const told: number[] = []
      const sound = await inMemory('sound', (manifest) => one.folder(manifest))
      const bad = [
        flipped.repository,
        await inMemory('flipped too', flipped.folder),
        short.repository,
        manifest.repository,
      ]
      await refuses(
        t,
        { chain: chainOf(bad.slice(0, 2)) },
        { code: 'artifact-invalid', message: /in repository flipped .*; .* in repository flipped too / },
      )
      const made = await materialize({
        ...{ chain: chainOf([...bad, sound]), dataDirectory, folder },
        ...{ tablespaces: new Map([[oid, far]]), owner, signal, installation: cluster.installation },
        onProgress: (done) => told.push(done),
      })
      t.equal(made.hashed.length, 6)
      t.same((await readdir(directory)).toSorted(), ['data', 'far'])
      t.equal(
        told.at(-1),
        made.hashed.reduce((sum, { stored }) => sum + stored.bytes, 0),
        'what was read in vain is not counted',
      )
    })
  })

  t.test('chains that are none', async (t) => {
    await refuses(
      t,
      { chain: chainOf([one.repository], [child]) },
      { code: 'not-recoverable', message: /which is not there/ },
    )
    await refuses(t, { chain: chainOf([one.repository], [full, full]) }, { code: 'not-recoverable' })
    await refuses(t, { chain: [] }, { code: 'not-recoverable' })
    const stranger = { ...child, systemIdentifier: '7500000000000000001' }
    await refuses(
      t,
      { chain: chainOf([one.repository], [full, stranger]) },
      { code: 'not-recoverable', message: /another cluster/ },
    )
    const upgraded = { ...child, serverVersionNum: 180_001 }
    await refuses(
      t,
      { chain: chainOf([one.repository], [full, upgraded]) },
      { code: 'not-recoverable', message: /another major version/ },
    )
    const gone = await copied(t)
    await rm(gone.folder(full), { recursive: true })
    await refuses(
      t,
      { chain: chainOf([gone.repository]) },
      { code: 'artifact-invalid', details: { cause: 'artifact-missing', backupId: full.backupId } },
    )
  })

  t.test('contents that are not what the manifest says', async (t) => {
    const named = (manifest: Manifest) => ({ ...manifest, systemIdentifier: '7500000000000000001' })
    await refuses(
      t,
      { chain: chainOf([one.repository], [full, child].map(named)) },
      { code: 'artifact-invalid', message: /it is of the cluster \d+, not of 7500000000000000001/ },
    )
    const old = { ...full, serverVersionNum: 150_001 }
    await refuses(
      t,
      { chain: chainOf([one.repository], [old]), installation: await installationOf(15) },
      { code: 'artifact-invalid', message: /is of PostgreSQL "17"/ },
    )
    await refuses(t, { installation: await installationOf(15) }, { code: 'program-missing' })
    // A page that is damaged in an archive whose hash is right.
    const damaged = await copied(t)
    const forged = await withArchive(damaged.folder(full), full, async (tar, folder) => {
      await runProgram({ program: 'tar', args: ['-x', '-f', tar, '-C', folder, 'global/1260'] })
      await flipBit(join(folder, 'global', '1260'))
      await runProgram({ program: 'tar', args: ['-r', '-f', tar, '-C', folder, 'global/1260'] })
    })
    await refuses(
      t,
      { chain: chainOf([damaged.repository], [forged, child]) },
      { code: 'artifact-invalid', message: /checksum mismatch for file "global\/1260"/ },
    )
    t.comment('a verification of these very bytes has compared them: they are not compared again')
    const { dataDirectory, far, folder } = await targets(t)
    await materialize({
      ...{ chain: chainOf([damaged.repository], [forged]), dataDirectory, folder, owner, signal },
      ...{ tablespaces: new Map([[oid, far]]), installation: cluster.installation, onProgress: () => {} },
      compared: new Set([forged.backupId]),
    })
    t.ok(existsSync(join(dataDirectory, 'PG_VERSION')))
    await refuses(
      t,
      { chain: chainOf([one.repository], [full].map(named)), compared: new Set([full.backupId]) },
      { code: 'artifact-invalid', message: /it is of the cluster \d+, not of 7500000000000000001/ },
    )
  })

  t.test('archives that reach for more than their directory', async (t) => {
    const outside = await openDirectory(t)
    const cases: Record<
      string,
      (folder: string, add: (...args: readonly string[]) => Promise<unknown>) => Promise<unknown>
    > = {
      absolute: async (folder, add) => {
        await writeFile(join(folder, 'in'), 'x')
        await add('-P', `--transform=s,^.*in$,${outside}/absolute,`, join(folder, 'in'))
      },
      dots: async (folder, add) => {
        await writeFile(join(folder, 'in'), 'x')
        await add('-P', '--transform=s,^.*in$,../dots,', join(folder, 'in'))
      },
      'a link and a file behind it': async (folder, add) => {
        await runProgram({ program: 'ln', args: ['-s', outside, join(folder, 'link')] })
        await add('link')
        await mkdir(join(folder, 'real'))
        await writeFile(join(folder, 'real', 'file'), 'x')
        await add('--transform=s,^real,link,', 'real/file')
      },
      'a link to elsewhere': async (folder, add) => {
        await runProgram({ program: 'ln', args: ['-s', '/etc/passwd', join(folder, 'postgresql.conf')] })
        await add('postgresql.conf')
      },
      'a hard link': async (folder, add) => {
        await writeFile(join(folder, 'a'), 'x')
        await runProgram({ program: 'ln', args: [join(folder, 'a'), join(folder, 'b')] })
        await add('a', 'b')
      },
      'a pipe': async (folder, add) => {
        await runProgram({ program: 'mkfifo', args: [join(folder, 'pipe')] })
        await add('pipe')
      },
      'a link in place of pg_tblspc': async (folder, add) => {
        await runProgram({ program: 'ln', args: ['-s', outside, join(folder, 'pg_tblspc')] })
        await add('pg_tblspc')
      },
    }
    const ways = Object.keys(cases).flatMap((name) => [
      name,
      ...(withTarToo.includes(name) ? [`${name}, GNU tar`] : []),
    ])
    for (const way of ways) {
      await t.test(way, async (t) => {
        const make = cases[way.replace(', GNU tar', '')] ?? (() => Promise.reject(new Error(`there is no ${way}`)))
        if (way.endsWith('tar')) await withoutBsdtar(t)
        const evil = await copied(t)
        const forged = await withArchive(evil.folder(full), full, async (tar, folder) => {
          await make(folder, (...args) =>
            runProgram({ program: 'tar', args: ['-r', '-f', tar, '-C', folder, ...args] }),
          )
        })
        await refuses(t, { chain: chainOf([evil.repository], [forged]) }, { code: 'artifact-invalid' })
        t.same(await readdir(outside), [])
      })
    }
  })

  t.test('places that will not do', async (t) => {
    const directory = await openDirectory(t)
    const taken = join(directory, 'taken')
    await mkdir(taken)
    await writeFile(join(taken, 'precious'), 'x')
    await refuses(t, { dataDirectory: taken }, { code: 'conflict', message: `${taken} is not empty` })
    await refuses(t, { tablespaces: new Map([[oid, taken]]) }, { code: 'conflict' })
    t.same(await readdir(taken), ['precious'])
    await refuses(t, { tablespaces: new Map() }, { code: 'usage-invalid', message: /no new place for the tablespace/ })
    const more = new Map([
      [oid, join(directory, 'a')],
      [7, join(directory, 'b')],
    ])
    await refuses(t, { tablespaces: more }, { code: 'usage-invalid', message: /has no tablespace 7$/ })
    const data = join(directory, 'data')
    const inside = new Map([[oid, join(data, 'far')]])
    await refuses(
      t,
      { dataDirectory: data, tablespaces: inside },
      { code: 'usage-invalid', message: /lie in one another/ },
    )
    await refuses(t, { dataDirectory: 'data' }, { code: 'usage-invalid', message: /not an absolute path/ })
    await refuses(
      t,
      { dataDirectory: join(directory, 'no', 'data') },
      { code: 'usage-invalid', message: /no does not exist$/ },
    )
    await refuses(t, { dataDirectory: join(taken, 'precious') }, { code: 'usage-invalid', message: /not a directory/ })
    t.same(await readdir(directory), ['taken'])
    if (userInfo().uid !== 0) return t.comment('nothing is closed to the owner')
    await chmod(taken, 0o700)
    await refuses(
      t,
      { dataDirectory: join(taken, 'data') },
      { code: 'usage-invalid', message: /cannot enter .*taken$/ },
    )
    t.same(await readdir(taken), ['precious'])
  })

  t.test('two at once', async (t) => {
    const { dataDirectory, far, folder, directory } = await targets(t)
    const about = {
      ...{ chain: chainOf([one.repository]), dataDirectory, owner, signal, installation: cluster.installation },
      onProgress: () => {},
    }
    await mkdir(dataDirectory)
    const ends = await Promise.allSettled([
      materialize({ ...about, folder, tablespaces: new Map([[oid, far]]) }),
      materialize({ ...about, folder: `${folder}2`, tablespaces: new Map([[oid, `${far}2`]]) }),
    ])
    t.same(ends.map(({ status }) => status).toSorted(), ['fulfilled', 'rejected'])
    t.match(
      ends.find(({ status }) => status === 'rejected'),
      { reason: { code: 'conflict' } },
    )
    const names = await readdir(directory)
    t.equal(names.length, 2, names.join())
    t.ok((await readdir(dataDirectory)).includes('backup_label'), 'the other one was left alone')
  })

  t.test('two at once, with one directory for a tablespace', async (t) => {
    const { dataDirectory, far, folder } = await targets(t)
    const into = (name: string) =>
      materialize({
        ...{ chain: chainOf([one.repository], [full]), owner, signal, installation: cluster.installation },
        ...{ dataDirectory: `${dataDirectory}${name}`, folder: `${folder}${name}`, tablespaces: new Map([[oid, far]]) },
        onProgress: () => {},
      })
    const ends = await Promise.allSettled([into('1'), into('2')])
    t.same(ends.map(({ status }) => status).toSorted(), ['fulfilled', 'rejected'])
    t.match(
      ends.find(({ status }) => status === 'rejected'),
      { reason: { code: 'conflict' } },
    )
    t.match(await readdir(far), [/^PG_17_/], 'that of the other one was left alone, and has no mark any more')
  })

  t.test('a mark that was backed up', async (t) => {
    const evil = await copied(t)
    const forged = await withArchive(evil.folder(full), full, async (tar, folder) => {
      await writeFile(join(folder, incompleteMarker), 'remove this:\n/var/lib/of-the-old-server\n')
      await runProgram({ program: 'tar', args: ['-r', '-f', tar, '-C', folder, incompleteMarker] })
    })
    for (const manifests of [[forged], [forged, child]]) {
      const { dataDirectory, folder, directory } = await targets(t)
      const far = join(directory, `far "$x" \\b=c`) // tar would take it for an escape
      await materialize({
        ...{ chain: chainOf([evil.repository], manifests), dataDirectory, folder, owner, signal },
        ...{ tablespaces: new Map([[oid, far]]), installation: cluster.installation },
        onProgress: () => {},
        onWhole: async () => {
          t.match(await readFile(join(dataDirectory, incompleteMarker), 'utf8'), `\n${far}\n${folder}\n`, 'it is ours')
        },
      })
      t.ok(existsSync(join(dataDirectory, incompleteMarker)), 'and it is for the caller to take away')
      t.ok(existsSync(join(far, incompleteMarker)))
      t.equal(await readlink(join(dataDirectory, 'pg_tblspc', String(oid))), far)
    }
  })

  t.test('another directory in its place', async (t) => {
    const { directory, dataDirectory, far, folder } = await targets(t)
    const cancel = new AbortController()
    const precious = join(dataDirectory, 'precious')
    let isMoved = false
    const run = materialize({
      ...{ chain: chainOf([one.repository], [full]), dataDirectory, folder, tablespaces: new Map([[oid, far]]), owner },
      ...{ installation: cluster.installation, signal: cancel.signal },
      onProgress: (done) => {
        if (done === 0 || isMoved) return
        isMoved = true
        // As when the disk is unmounted, and what lies below it comes to light.
        renameSync(dataDirectory, join(directory, 'moved'))
        mkdirSync(dataDirectory)
        writeFileSync(precious, 'x')
        cancel.abort(new LifeboatError('cancelled', 'cancelled by the test'))
      },
    })
    await t.rejects(run, { message: /cannot be removed: .* is not the directory any more/ })
    t.same(await readdir(dataDirectory), ['precious'])
  })

  t.test('a full disk', async (t) => {
    const disk = await smallDisk(t, 16 * 1024 * 1024)
    if (disk === null) return t.comment(noSmallDisk)
    await refuses(
      t,
      { dataDirectory: join(disk.directory, 'data'), chain: chainOf([one.repository], [full]) },
      { code: 'disk-full' },
    )
    t.same(await readdir(disk.directory), [])
    await t.test('with GNU tar', async (t) => {
      await withoutBsdtar(t)
      await refuses(
        t,
        { dataDirectory: join(disk.directory, 'data'), chain: chainOf([one.repository], [full]) },
        { code: 'disk-full' },
      )
    })
    await disk.resize(50 * 1024 * 1024)
    const chain = { dataDirectory: join(disk.directory, 'data'), folder: join(disk.directory, 'work') }
    await refuses(t, chain, { code: 'disk-full' })
    t.same(await readdir(disk.directory), [])
    const apart = { dataDirectory: join(disk.directory, 'data') }
    await refuses(t, apart, { code: 'usage-invalid', message: /different file systems/ })
  })

  t.test('cancelled', async (t) => {
    for (const words of [/^unpacking/, /^checking/, /^putting/, /^writing/]) {
      const cancel = new AbortController()
      const { directory, dataDirectory, far, folder } = await targets(t)
      await mkdir(far)
      await chmod(far, 0o755)
      const seen: string[] = []
      const run = materialize({
        ...{ chain: chainOf([one.repository]), dataDirectory, folder, tablespaces: new Map([[oid, far]]), owner },
        installation: cluster.installation,
        signal: cancel.signal,
        onProgress: (done, _, message) => {
          t.ok(existsSync(join(dataDirectory, incompleteMarker)), 'it is marked from the first byte to the last')
          if (existsSync(join(dataDirectory, 'tablespace_map'))) seen.push('tablespace_map')
          if (words.test(message) && done > 0) cancel.abort(new Error('cancelled by the test'))
        },
      })
      await t.rejects(run, { message: 'cancelled by the test' }, String(words))
      t.same(await readdir(directory), ['far'])
      t.same(await readdir(far), [])
      const { mode, uid } = await stat(far)
      t.same([mode & 0o777, uid], [0o755, userInfo().uid], 'it is as it was')
      t.same(seen, [])
    }
  })
})

/** Changes an archive, and makes the manifest fit. */
async function withArchive(
  folder: string,
  manifest: Manifest,
  change: (tar: string, folder: string) => Promise<void>,
): Promise<Manifest> {
  const work = join(folder, 'change')
  await mkdir(work)
  const [tar, packed] = [join(folder, 'base.tar'), join(folder, 'base.tar.zst')]
  await runProgram({ program: 'zstd', args: ['-d', '-q', packed, '-o', tar] })
  await change(tar, work)
  await runProgram({ program: 'zstd', args: ['-q', '-f', '--rm', tar, '-o', packed] })
  await rm(work, { recursive: true })
  return forge(folder, manifest, {})
}
