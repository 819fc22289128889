import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { zstdCompressSync } from 'node:zlib'
import t, { type Test } from 'tap'
import { systemClock as clock } from '../../src/clock.ts'
import { LifeboatError } from '../../src/domain/errors.ts'
import { parseWalName, segmentName } from '../../src/domain/wal.ts'
import { readWalPageHeader } from '../../src/domain/wal-page.ts'
import { Cipher } from '../../src/encryption/cipher.ts'
import { walKey } from '../../src/repository/layout.ts'
import type { Repository } from '../../src/repository/repository.ts'
import { openHistory } from '../../src/runner/history.ts'
import { verifyWal } from '../../src/wal-check/verify-wal.ts'
import { ageKey, encryptingFor } from '../support/age.ts'
import { unpackedBinDir } from '../support/cache.ts'
import { cli } from '../support/cli.ts'
import { keptLog } from '../support/log.ts'
import { type Major, startCluster } from '../support/postgres.ts'
import { openDirectory, scratchDirectory } from '../support/scratch.ts'
import { directoryRepository, hashOf, storeWal } from '../support/wal-objects.ts'

/** What a real server archives: some segments, a fork amid one, and more. The names in order, and the bytes. */
async function archived(t: Test, major: Major, megabytes: number): Promise<ReadonlyMap<string, Buffer>> {
  const archive = await openDirectory(t)
  const cluster = await startCluster(t, {
    major,
    initdbArgs: ['-E', 'UTF8', '--locale=C', `--wal-segsize=${megabytes}`],
    settings: {
      archive_mode: 'on',
      archive_command: `cp %p ${archive}/%f`,
      restore_command: `cp ${archive}/%f %p`,
      hot_standby: 'off',
    },
  })
  const write = async (segments: number) => {
    await cluster.sql('create table if not exists rows (n int, text text)')
    for (let written = 0; written < segments; written++) {
      // One that is full, and one that ends with zeros.
      const rows = written % 2 === 0 ? 12_000 : 100
      await cluster.sql(`insert into rows select n, md5(n::text) from generate_series(1, ${rows}) n`)
      await cluster.sql('select pg_switch_wal()')
    }
  }
  await write(4)
  await cluster.server.stop()
  await writeFile(join(cluster.server.dataDirectory, 'recovery.signal'), '')
  await cluster.server.start()
  await write(2)
  await cluster.server.stop()
  const found = new Map<string, Buffer>()
  for (const name of (await readdir(archive)).sort()) found.set(name, await readFile(join(archive, name)))
  return found
}

const systemOf = (files: ReadonlyMap<string, Buffer>) =>
  [...files.values()].flatMap((bytes) => readWalPageHeader(bytes)?.systemIdentifier ?? []).at(-1) ?? ''

/** A repository with these files, a configuration for it, and the command. */
async function stored(t: Test, files: ReadonlyMap<string, Buffer>, binDir?: string) {
  const base = await scratchDirectory(t)
  const root = join(base, 'repository')
  const stateDir = join(base, 'state')
  await mkdir(stateDir)
  const open = () => openHistory({ file: join(stateDir, 'lifeboat.db'), clock, log: keptLog().log })
  const withRepository = async <T>(work: (repository: Repository, history: ReturnType<typeof open>) => Promise<T>) => {
    const history = open()
    try {
      return await work(directoryRepository(root, { history, clock }), history)
    } finally {
      history.close()
    }
  }
  const system = systemOf(files)
  await withRepository(async (repository) => {
    for (const [name, bytes] of files) await storeWal(repository, system, name, bytes)
  })
  const config = join(base, 'lifeboat.yaml')
  await writeFile(
    config,
    JSON.stringify({
      cluster: 'spavix',
      stateDir,
      workDir: join(base, 'work'),
      postgres: { host: join(base, 'nowhere'), databases: ['app'], ...(binDir === undefined ? {} : { binDir }) },
      repositories: [{ name: 'local', url: `file://${root}` }],
    }),
  )
  const verify = async (...options: readonly string[]) => {
    const { code, out, err } = await cli(['wal', 'verify', '--config', config, '--json', ...options])
    const [found] = (out === '' ? [] : JSON.parse(out)) as Awaited<ReturnType<typeof verifyWal>>[]
    return { code, err, ...found, problems: (found?.bad ?? []).map(({ name, problem }) => `${name} ${problem}`) }
  }
  const pathOf = (name: string, bytes = files.get(name) ?? Buffer.alloc(0), systemIdentifier = system) =>
    join(root, walKey('spavix', { systemIdentifier, name, hash: hashOf(bytes), isEncrypted: false }))
  const badOnes = () =>
    withRepository(async (_, history) =>
      history.wal.verified.badSegments('local', 'spavix').map(({ name, problem }) => `${name} ${problem}`),
    )
  return { base, root, config, system, verify, pathOf, withRepository, badOnes }
}

t.test('WAL of a real server', { timeout: 120_000 }, async (t) => {
  const files = await archived(t, 15, 1)
  const names = [...files.keys()].filter((name) => name.length === 24)
  const whole = names.length
  const size = 1024 * 1024
  t.ok(whole >= 8, `${whole} segments`)
  t.ok(files.has('00000002.history'))

  t.test('is read once', async (t) => {
    const { verify, pathOf, config } = await stored(t, files)
    const first = await verify()
    t.match(first, { code: 0, known: 0, complete: true, bad: [], gone: 0, read: files.size })
    const partials = [...files.keys()].filter((name) => name.includes('.')).length
    t.match(await verify(), { code: 0, known: whole, read: partials, bad: [] })
    t.match(await verify('--all', '--records'), { code: 0, known: 0, read: files.size, bad: [] })
    const text = await cli(['wal', 'verify', '--config', config])
    t.match(text.out, `local: ${partials} read (`)
    t.match(text.out, `${whole} known to be whole, nothing wrong`)
    // What was removed and stored again is another file.
    const [name = ''] = names
    const bytes = await readFile(pathOf(name))
    await rm(pathOf(name))
    t.match(await verify(), { code: 0, known: whole - 1 })
    await writeFile(pathOf(name), bytes)
    t.match(await verify('--limit', '1'), { code: 0, known: 0, complete: false })
    t.match(await verify(), { code: 0, known: whole, complete: true })
  })

  t.test('whatever is wrong with a file is told, and no other is', async (t) => {
    const { verify, pathOf, badOnes, system, withRepository } = await stored(t, files)
    const [a = '', b = '', c = '', d = '', e = '', f = '', g = '', h = ''] = names
    const original = await readFile(pathOf(a))
    await writeFile(pathOf(a), original.subarray(0, original.length - 100))
    const flipped = Buffer.from(files.get(b) ?? [])
    flipped[500_000] = (flipped[500_000] ?? 0) ^ 1
    await writeFile(pathOf(b), zstdCompressSync(flipped))
    await writeFile(pathOf(c), Buffer.alloc(4096))
    await writeFile(pathOf(d), 'this is no zstd')
    await rename(pathOf(e), pathOf(e, files.get(f)))
    await writeFile(pathOf(g), zstdCompressSync(Buffer.alloc(100 * size)))
    await writeFile(pathOf(h), '')
    const expected = [
      `${a} cut-off`,
      `${b} other-content`,
      `${c} not-zstd`,
      `${d} not-zstd`,
      `${e} other-content`,
      `${g} zero-filled`,
      `${h} cut-off`,
    ]
    const found = await verify()
    t.equal(found.code, 1)
    t.same(found.problems, expected.with(5, `${g} too-long`))
    t.same(await badOnes(), found.problems)
    t.match(found.bad?.[0], { system: undefined, systemIdentifier: system, remedy: /stored again from the archive/ })
    const text = await cli(['wal', 'verify', '--config', (await stored(t, new Map())).config])
    t.match(text, { code: 1, err: /not there/ })

    // They are read again until they are whole, or gone.
    await writeFile(pathOf(a), original)
    for (const name of [b, c, d, g, h]) await rm(pathOf(name))
    await rm(pathOf(e, files.get(f)))
    t.match(await verify(), { code: 0, bad: [] })
    t.same(await badOnes(), [])
    await withRepository((repository) => storeWal(repository, system, '00000003.history', Buffer.from('1\tnot whole')))
    t.match(await verify(), { code: 1, problems: ['00000003.history bad-history'] })
  })

  t.test('what was wrong already when it was stored', async (t) => {
    const [a = '', b = '', c = '', d = '', e = '', f = ''] = names
    const changed = new Map(files)
    const damage = (name: string, work: (bytes: Buffer) => void) => {
      const bytes = Buffer.from(files.get(name) ?? [])
      work(bytes)
      changed.set(name, bytes)
    }
    const isFull = (name: string) => !isZero(files.get(name)?.subarray(size - 8192) ?? Buffer.alloc(1))
    const full = names.slice(2).find(isFull) ?? ''
    t.ok(full !== '', 'one is full')
    damage(a, (bytes) => bytes.fill(0, 0, 8192))
    damage(full, (bytes) => bytes.fill(0, 16_384, 32_768))
    damage(b, (bytes) => bytes.writeBigUInt64LE(bytes.readBigUInt64LE(8192 + 8) + 8192n, 8192 + 8))
    const others = [c, d, e, f].filter((name) => name !== full)
    const [recycled = '', foreign = '', short = ''] = others
    changed.set(recycled, files.get(names.at(-1) ?? '') ?? Buffer.alloc(0))
    damage(foreign, (bytes) => bytes.writeBigUInt64LE(7n, 24))
    changed.set(short, (files.get(short) ?? Buffer.alloc(0)).subarray(0, 8192 * 3))
    const { verify, withRepository, system } = await stored(t, changed)
    await withRepository((repository) =>
      storeWal(repository, system, segmentName(1, 500, size), files.get(b) ?? Buffer.alloc(0)),
    )
    t.same(
      (await verify()).problems?.toSorted(),
      [
        `${a} zero-filled`,
        `${full} zero-page`,
        `${b} bad-page`,
        `${recycled} other-place`,
        `${foreign} foreign`,
        `${short} short`,
        `${segmentName(1, 500, size)} other-place`,
      ].sort(),
    )
  })

  t.test('records', async (t) => {
    const changed = new Map(files)
    const full = names.filter((name) => !isZero(files.get(name)?.subarray(size - 8192) ?? Buffer.alloc(1)))[0] ?? ''
    const bytes = Buffer.from(files.get(full) ?? [])
    bytes[600_000] = (bytes[600_000] ?? 0) ^ 0x10
    changed.set(full, bytes)
    const { verify } = await stored(t, changed)
    const found = await verify('--records')
    t.same(found.problems, [`${full} bad-record`])
    t.match(found.bad?.[0]?.detail, /error in WAL record at/)
  })

  t.test('encrypted', async (t) => {
    const { base, config, system, verify, pathOf, withRepository } = await stored(t, files)
    const [key, other] = [await ageKey(base), await ageKey(base, 'other')]
    const cipher = new Cipher(encryptingFor([key]))
    const plain = JSON.parse(await readFile(config, 'utf8')) as object
    const using = (file: string | null) =>
      writeFile(config, JSON.stringify({ ...plain, ...(file === null ? {} : { encryption: { identityFile: file } }) }))
    const [a = '', b = '', c = ''] = names
    const sealed = (name: string) => `${pathOf(name)}.age`
    for (const name of [a, b]) {
      await rm(pathOf(name))
      await withRepository((repository) =>
        storeWal(repository, system, name, files.get(name) ?? Buffer.alloc(0), cipher),
      )
    }
    // The same once more, plain and encrypted: it is one.
    await withRepository((repository) => storeWal(repository, system, c, files.get(c) ?? Buffer.alloc(0), cipher))

    const without = await verify()
    t.match(without, { code: 5, bad: [], unread: 3, known: 0, unreadFailure: { code: 'identity-missing' } })
    await using(other.file)
    t.match(await verify(), { code: 5, bad: [], unread: 3, unreadFailure: { code: 'identity-mismatch' } })
    const words = await cli(['wal', 'verify', '--config', config])
    t.match(words.out, /3 ENCRYPTED, NOT READ, inconclusive\n {2}not read: none of the configured identities/)
    await using(key.file)
    t.match(await verify('--records'), { code: 0, bad: [], unread: 0, unreadFailure: null })
    t.match(await verify(), { code: 0, known: whole - 1 }, 'what is there once is not read again')

    const bytes = await readFile(sealed(a))
    await writeFile(sealed(a), Buffer.concat([bytes.subarray(0, -9), Buffer.alloc(9)]))
    await writeFile(sealed(b), (await readFile(sealed(b))).subarray(0, 400))
    t.same((await verify('--all')).problems, [`${a} damaged`, `${b} damaged`])
    // Damaged where it looks like another one's.
    await writeFile(sealed(b), Buffer.from(bytes).fill('A', 40, 60))
    const headless = await verify('--all')
    t.match(headless, { code: 1, unread: 0 })
    t.same(headless.problems, [`${a} damaged`, `${b} damaged`])
    t.match(headless.bad?.[1]?.detail, /its header is damaged, since the identity/)
    await writeFile(sealed(b), bytes.subarray(0, 400))
    const lie = zstdCompressSync(files.get(a) ?? '')
    await writeFile(sealed(c), await cipher.seal(lie, new AbortController().signal))
    const found = await verify('--all')
    t.match(found, { code: 1, unread: 0 })
    t.same(found.problems, [`${a} damaged`, `${b} damaged`, `${c} other-place`])
    t.match(found.bad?.[0]?.detail, /cannot be decrypted/)
    await using(null)
    t.match(await verify('--all'), { code: 5, unread: 3 }, 'nobody can tell')
  })

  t.test('two contents, a partial, and what vanishes while it is read', async (t) => {
    const [a = '', b = ''] = names
    const { root, verify, withRepository, system, pathOf } = await stored(t, files)
    const other = Buffer.from(files.get(a) ?? [])
    other[size - 1] = (other[size - 1] ?? 0) ^ 1
    await withRepository((repository) => storeWal(repository, system, a, other))
    t.match(await verify(), { code: 1, problems: [`${a} two-contents`, `${a} two-contents`] })
    await rm(pathOf(a, other))

    const partial = `${b}.partial.${(BigInt(parseWalName(b, size)?.kind === 'segment' ? segmentOf(b, size) : 0) * BigInt(size) + 30_000n).toString(16).toUpperCase().padStart(16, '0')}`
    const cut = (files.get(b) ?? Buffer.alloc(0)).subarray(0, 30_000)
    await withRepository((repository) => storeWal(repository, system, partial, cut))
    t.match(await verify(), { code: 0, bad: [] })
    await writeFile(pathOf(partial, cut), zstdCompressSync(cut.subarray(0, 20_000)))
    t.match(await verify(), { problems: [`${partial} short`] })

    await withRepository(async (repository, history) => {
      const original = repository.storage.get.bind(repository.storage)
      repository.storage.get = async (key, options) => {
        if (key.includes(b)) await rm(join(pathOf(a), '..', key.slice(key.lastIndexOf('/') + 1)), { force: true })
        return original(key, options)
      }
      const { signal } = new AbortController()
      const options = { repository, records: history.wal.verified, clock, all: true, limit: null, signal }
      t.match(await verifyWal(options), { gone: 2, bad: [], complete: true })
      // A bad spot of the disk condemns one file, a disk that is gone none.
      repository.storage.get = async (key, more) => {
        if (key.includes(a)) throw new LifeboatError('storage-failed', 'input/output error')
        return original(key, more)
      }
      t.match(await verifyWal(options), { bad: [{ name: a, problem: 'unreadable' }] })
      const before = history.wal.verified.badSegments('local', 'spavix')
      repository.storage.get = async (key, more) => {
        if (key.endsWith('.zst')) await rename(root, `${root}.away`).catch(() => {})
        return original(key, more)
      }
      await t.rejects(verifyWal(options), { code: 'storage-failed', message: /not the repository that it was/ })
      t.same(history.wal.verified.badSegments('local', 'spavix'), before)
      await rename(`${root}.away`, root)
      repository.storage.get = original
      const stop = new AbortController()
      stop.abort(new LifeboatError('cancelled', 'enough'))
      await t.rejects(verifyWal({ ...options, signal: stop.signal }), { code: 'cancelled' })
    })
  })
})

t.test('PostgreSQL 17 with segments of 16 MB', { timeout: 120_000 }, async (t) => {
  const files = await archived(t, 17, 16)
  const { verify } = await stored(t, files, unpackedBinDir(17))
  t.match(await verify('--records'), { code: 0, bad: [], read: files.size })
})

t.test('wrong arguments', async (t) => {
  t.match(await cli(['wal', 'verify', '--limit', '0']), { code: 2, err: /--limit must be/ })
  t.match(await cli(['wal', 'verify', '--apply']), { code: 2 })
  t.match(await cli(['help', 'wal']), { code: 0, out: /wal verify \[--repository NAME\]/ })
})

const isZero = (bytes: Buffer) => bytes.every((byte) => byte === 0)

function segmentOf(name: string, size: number): number {
  const file = parseWalName(name, size)
  return file?.kind === 'segment' ? file.segment : 0
}
