import { execFile } from 'node:child_process'
import { mkdir, readFile, rm, truncate, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { systemClock } from '../../src/clock.ts'
import type { Fingerprint } from '../../src/domain/fingerprint.ts'
import type { Proof } from '../../src/domain/proof.ts'
import { startCluster } from '../support/postgres.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { type SidecarOptions, startSidecar } from '../support/sidecar.ts'
import { copyRepository, flipBit, folderIn, forge, writeManifest } from '../support/tamper.ts'

const run = promisify(execFile)

t.test('a backup that was damaged', { timeout: 200_000 }, async (t) => {
  const cluster = await startCluster(t)
  await cluster.createDatabase(
    'app',
    `create table users (id serial primary key, name text);
     insert into users (name) select 'user ' || i from generate_series(1, 1000) i`,
  )
  const source = await startSidecar(t, cluster, { databases: ['app'] })
  t.match(await source.run('dump'), { state: 'succeeded' })
  const [manifest] = await source.manifests()
  if (manifest === undefined) return t.fail('there is no backup')
  // Nothing below may need the server that was backed up.
  await cluster.server.stop()

  const damaged = async (t: Test, damage: (folder: string) => Promise<unknown>, options: SidecarOptions = {}) => {
    const repository = await copyRepository(t, source)
    await damage(folderIn(repository, manifest))
    return startSidecar(t, cluster, { repositories: { local: repository }, ...options })
  }
  const fingerprint = JSON.parse(
    await readFile(join(source.folder(manifest), 'fingerprint.json'), 'utf8'),
  ) as Fingerprint

  const cases: Record<
    string,
    { damage: (folder: string) => Promise<unknown>; cause: string; check?: string | RegExp }
  > = {
    'one bit of dump.tar': {
      damage: (folder) => flipBit(join(folder, 'dump.tar')),
      cause: 'checksum-mismatch',
      check: 'checksum dump.tar',
    },
    'one bit of globals.sql': {
      damage: (folder) => flipBit(join(folder, 'globals.sql')),
      cause: 'checksum-mismatch',
      check: 'checksum globals.sql',
    },
    'one bit of fingerprint.json': {
      damage: (folder) => flipBit(join(folder, 'fingerprint.json')),
      cause: 'checksum-mismatch',
      check: 'checksum fingerprint.json',
    },
    'one bit of RESTORE.md': {
      damage: (folder) => flipBit(join(folder, 'RESTORE.md')),
      cause: 'checksum-mismatch',
      check: 'checksum RESTORE.md',
    },
    'one bit of the manifest': {
      damage: (folder) => flipBit(join(folder, 'manifest.json')),
      cause: 'manifest-invalid',
      check: 'manifest',
    },
    'a manifest edited by hand': {
      damage: async (folder) => {
        const path = join(folder, 'manifest.json')
        await writeFile(path, (await readFile(path, 'utf8')).replace('"app"', '"application"'))
      },
      cause: 'manifest-invalid',
      check: 'manifest',
    },
    'a torn manifest': {
      damage: (folder) => truncate(join(folder, 'manifest.json'), 100),
      cause: 'manifest-invalid',
      check: 'manifest',
    },
    'an empty manifest': {
      damage: (folder) => truncate(join(folder, 'manifest.json'), 0),
      cause: 'manifest-invalid',
      check: 'manifest',
    },
    'a truncated dump.tar': {
      damage: (folder) => truncate(join(folder, 'dump.tar'), 5000),
      cause: 'size-mismatch',
      check: 'checksum dump.tar',
    },
    'a missing artifact': {
      damage: (folder) => rm(join(folder, 'globals.sql')),
      cause: 'artifact-missing',
      check: 'checksum globals.sql',
    },
    'a manifest that names other bytes': {
      damage: (folder) =>
        writeManifest(folder, {
          ...manifest,
          artifacts: manifest.artifacts.map((one) => {
            const digest = { ...one.stored, sha256: 'f'.repeat(64) }
            return one.name === 'dump.tar' ? { name: one.name, plain: digest, stored: digest } : one
          }),
        }),
      cause: 'checksum-mismatch',
      check: 'checksum dump.tar',
    },
    'a dump.tar that was cut off before it was stored': {
      damage: async (folder) =>
        forge(folder, manifest, { 'dump.tar': (await readFile(join(folder, 'dump.tar'))).subarray(0, 5000) }),
      cause: 'archive-broken',
      check: 'checksum dump.tar',
    },
    'garbage instead of a tar': {
      damage: (folder) => forge(folder, manifest, { 'dump.tar': Buffer.alloc(20_000, 'garbage') }),
      cause: 'archive-broken',
      check: 'checksum dump.tar',
    },
    'a whole tar of something else': {
      damage: async (folder) =>
        forge(folder, manifest, { 'dump.tar': await tarOf(t, { 'holiday.jpg': 'not a dump' }) }),
      cause: 'contents-unreadable',
      check: 'contents',
    },
    'a whole tar with a broken member': {
      damage: async (folder) =>
        forge(folder, manifest, { 'dump.tar': await withBrokenMember(t, join(folder, 'dump.tar')) }),
      cause: 'contents-unreadable',
      check: 'contents',
    },
    'an empty dump.tar': {
      damage: (folder) => forge(folder, manifest, { 'dump.tar': '' }),
      cause: 'archive-broken',
    },
  }
  for (const [what, { damage, cause, check }] of Object.entries(cases)) {
    t.test(what, async (t) => {
      const sidecar = await damaged(t, damage)
      const run = await sidecar.run('verify', { backup: manifest.backupId, level: 'artifact' })
      t.match(run, {
        state: 'failed',
        failure: { code: 'verification-failed' },
        items: [{ outcome: 'failed', verdict: 'fail' }],
      })
      const proof = await sidecar.repository.latestProof(manifest.backupId)
      t.match(
        proof,
        { level: 'artifact', levels: { artifact: { verdict: 'fail', cause } } },
        JSON.stringify(proof?.levels),
      )
      const wrong = proof?.levels.artifact?.checks.find(({ verdict }) => verdict === 'fail')
      if (check !== undefined) t.match(wrong?.name, check)
      t.ok(wrong?.detail)
      t.same(await sidecar.leftovers(), [])
    })
  }

  const deep: Record<
    string,
    {
      damage: (folder: string) => Promise<unknown>
      level: 'restore' | 'data'
      verdict: string
      cause: string
      says: RegExp
    }
  > = {
    'rows that are not the ones of the source': {
      damage: (folder) =>
        forge(
          folder,
          manifest,
          withFingerprint({
            tables: fingerprint.tables.map((table) => ({ ...table, whole: { rows: 1000, hash: '12345' } })),
          }),
        ),
      level: 'data',
      verdict: 'fail',
      cause: 'rows-differs',
      says: /public\.users has 1000 rows, but not the same ones/,
    },
    'a table that is missing': {
      damage: (folder) =>
        forge(
          folder,
          manifest,
          withFingerprint({
            tables: [
              ...fingerprint.tables,
              { schema: 'public', name: 'lost', bytes: 0, method: 'full', whole: { rows: 0, hash: '0' } },
            ],
          }),
        ),
      level: 'data',
      verdict: 'fail',
      cause: 'rows-differs',
      says: /public\.lost is missing/,
    },
    'globals that cannot be carried out': {
      damage: (folder) => forge(folder, manifest, { 'globals.sql': 'CREATE ROLE a;\nGRANT nobody TO a;\n' }),
      level: 'restore',
      verdict: 'fail',
      cause: 'globals-failed',
      says: /role "nobody" does not exist/,
    },
    'a fingerprint that is none': {
      damage: (folder) => forge(folder, manifest, { 'fingerprint.json': '{"formatVersion":1}\n' }),
      level: 'restore',
      verdict: 'fail',
      cause: 'fingerprint-invalid',
      says: /not a fingerprint/,
    },
    'a fingerprint that is no JSON': {
      damage: (folder) => forge(folder, manifest, { 'fingerprint.json': '<html>' }),
      level: 'restore',
      verdict: 'fail',
      cause: 'fingerprint-invalid',
      says: /not a fingerprint/,
    },
    'a fingerprint of a later version': {
      damage: (folder) => forge(folder, manifest, withFingerprint({ formatVersion: 2 as 1 })),
      level: 'restore',
      verdict: 'inconclusive',
      cause: 'fingerprint-unknown',
      says: /format 2/,
    },
    'no table that could be compared': {
      damage: (folder) =>
        forge(
          folder,
          manifest,
          withFingerprint({
            tables: fingerprint.tables.map(({ schema, name, bytes }) => ({
              schema,
              name,
              bytes,
              method: 'unknown',
              reason: 'too large',
            })),
          }),
        ),
      level: 'data',
      verdict: 'inconclusive',
      cause: 'mostly-unknown',
      says: /0 tables equal, .*too large/,
    },
    'an extension that this machine has not got': {
      damage: (folder) =>
        forge(folder, manifest, withFingerprint({ extensions: [{ name: 'no_such_extension', version: '1' }] })),
      level: 'restore',
      verdict: 'inconclusive',
      cause: 'extension-missing',
      says: /no_such_extension/,
    },
    'a locale that this machine has not got': {
      damage: (folder) =>
        forge(folder, manifest, withFingerprint({ database: { ...fingerprint.database, datcollate: 'xx_XX.UTF-8' } })),
      level: 'restore',
      verdict: 'inconclusive',
      cause: 'locale-missing',
      says: /xx_XX/,
    },
    'a server version that this machine has not got': {
      damage: (folder) => forge(folder, manifest, {}, { serverVersion: '99.1', serverVersionNum: 990_001 }),
      level: 'restore',
      verdict: 'inconclusive',
      cause: 'program-missing',
      says: /no PostgreSQL 99/,
    },
    'more data than there is room': {
      damage: (folder) => forge(folder, manifest, {}, { database: { name: 'app', oid: 1, sourceBytes: 2 ** 52 } }),
      level: 'restore',
      verdict: 'inconclusive',
      cause: 'disk-full',
      says: /the restore needs about/,
    },
  }
  function withFingerprint(changes: Partial<Fingerprint>): Record<string, string> {
    return { 'fingerprint.json': JSON.stringify({ ...fingerprint, ...changes }) }
  }
  for (const [what, { damage, level, verdict, cause, says }] of Object.entries(deep)) {
    t.test(what, async (t) => {
      const sidecar = await damaged(t, damage)
      const run = await sidecar.run('verify')
      const code = verdict === 'fail' ? 'verification-failed' : 'verification-inconclusive'
      t.match(run, { state: 'failed', failure: { code, message: says, hint: /./ }, items: [{ verdict }] })
      const proof = await sidecar.repository.latestProof(manifest.backupId)
      t.match(proof?.levels[level], { verdict, cause }, JSON.stringify(proof?.levels))
      t.same(await sidecar.leftovers(), [])
    })
  }

  t.test('bytes that were hashed and have not changed', async (t) => {
    let shift = 0
    const clock = { ...systemClock, now: () => new Date(systemClock.now().getTime() + shift) }
    const sidecar = await damaged(t, async () => {}, { clock })
    const day = 24 * 3600 * 1000
    const tar = join(sidecar.folder(manifest), 'dump.tar')
    const hashedAgain = async (params = {}) => {
      const run = await sidecar.run('verify', { level: 'artifact', ...params })
      t.match(run, { state: 'succeeded' })
      const proof = (await sidecar.repository.latestProof(manifest.backupId)) as Proof
      const check = proof.levels.artifact?.checks.find(({ name }) => name === 'checksum dump.tar')
      const entry = proof.hashed.find(({ name }) => name === 'dump.tar')
      const fresh = Date.parse(entry?.hashedAt ?? '') >= Date.parse(proof.startedAt)
      t.equal(check?.detail?.startsWith('unchanged since') ?? false, !fresh)
      return fresh
    }
    t.equal(await hashedAgain(), true)
    shift += 60_000
    t.equal(await hashedAgain(), false)
    shift += 60_000
    t.equal(await hashedAgain({ rehash: true }), true, 'when asked')
    shift += 29 * day
    t.equal(await hashedAgain(), false)
    shift += 2 * day
    t.equal(await hashedAgain(), true, 'after the re-proof period')
    shift += 60_000
    await utimes(tar, new Date(), new Date())
    t.equal(await hashedAgain(), true, 'after a touch')
    shift += 60_000
    const backup = await readFile(tar)
    await flipBit(tar)
    t.match(await sidecar.run('verify', { level: 'artifact' }), { state: 'failed' })
    await writeFile(tar, backup)
    shift += 60_000
    t.equal(await hashedAgain(), true, 'after a failure')
    shift -= day / 4
    t.equal(await hashedAgain(), true, 'when the clock went back')
    const proofs: string[] = []
    for await (const { key } of sidecar.repository.listProofs()) proofs.push(key)
    t.equal(proofs.length, 9, 'proofs accrue')
  })
})

async function tarOf(t: Test, files: Readonly<Record<string, string>>): Promise<Buffer> {
  const directory = await scratchDirectory(t)
  for (const [name, text] of Object.entries(files)) await writeFile(join(directory, name), text)
  return tarDirectory(directory)
}

async function tarDirectory(directory: string): Promise<Buffer> {
  const { stdout } = await run('tar', ['-cf-', '-C', directory, '.'], { encoding: 'buffer', maxBuffer: 2 ** 26 })
  return stdout
}

/** The data of one table cut in half, inside a tar that is whole. */
async function withBrokenMember(t: Test, tar: string): Promise<Buffer> {
  const directory = join(await scratchDirectory(t), 'dump')
  await mkdir(directory)
  await run('tar', ['-xf', tar, '-C', directory])
  const { stdout } = await run('sh', ['-c', 'ls -S *.gz | head -n 1'], { cwd: directory })
  const member = join(directory, stdout.trim())
  await writeFile(member, (await readFile(member)).subarray(0, 1000))
  return tarDirectory(directory)
}
