import { hash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { createZstdCompress } from 'node:zlib'
import t, { type Test } from 'tap'
import { type Manifest, backupId as makeId } from '../../src/domain/backup.ts'
import { segmentsOf } from '../../src/jobs/wal-stored.ts'
import { latestVerifications, newestProvenBackups } from '../../src/observe/questions.ts'
import { readBackupManifest } from '../../src/postgres/backup-manifest.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { makeTablespace, physicalCluster } from '../support/archiving-cluster.ts'
import { catalogOf, serverState } from '../support/catalog.ts'
import { keptLog } from '../support/log.ts'
import type { Cluster } from '../support/postgres.ts'
import { noSmallDisk, openDirectory, smallDisk } from '../support/scratch.ts'
import type { Sidecar, SidecarOptions } from '../support/sidecar.ts'
import { flipBit, forge } from '../support/tamper.ts'
import { afterDamage, problemsOf, proofOf, removeSegment, seenBy, verdictsOf } from '../support/verified.ts'

t.test('PostgreSQL 15: a full backup', { timeout: 300_000 }, async (t) => {
  const { cluster, archive, sidecar } = await physicalCluster(t, { initdbArgs: ['--data-checksums'] })
  const location = await makeTablespace(t, cluster, 'elsewhere')
  await cluster.createDatabase(
    'app',
    'create table t as select i from generate_series(1, 10000) i; create index on t (i)',
  )
  await cluster.sql('create table far (i) tablespace elsewhere as select generate_series(1, 1000)', 'app')
  // Nothing of this may be done by a copy.
  await cluster.sql(`alter system set archive_cleanup_command = 'touch ${archive}/.never'`)
  await cluster.sql(`alter system set synchronous_standby_names = 'nobody'`)
  const { sidecar: source, systemIdentifier } = await sidecar(t)
  t.match(await source.run('full'), { state: 'succeeded' })
  const [manifest] = await source.manifests()
  if (manifest === undefined) return t.fail('there is no backup')
  const damaged = (t: Test, damage: (folder: string, repository: string) => Promise<unknown>, more?: SidecarOptions) =>
    afterDamage(t, { cluster, source, manifest }, damage, more)

  t.test('a good one passes all levels, and touches nothing of the server', async (t) => {
    const assertions = [{ name: 'rows', database: 'app', sql: 'select count(*) from t', expect: 10000 }]
    const one = await damaged(t, async () => {}, { yaml: { verification: { assertions } } })
    const look = async () => [await readdir(archive), await readdir(location, { recursive: true })]
    const before = await look()
    const run = await one.run('verify')
    t.match(run, { state: 'succeeded', failure: null }, JSON.stringify(run.failure))
    t.match(run.items, [{ backupType: 'full', database: '', backupId: manifest.backupId, verdict: 'pass' }])
    const proof = await proofOf(one, manifest)
    t.same(verdictsOf(proof), { artifact: 'pass', restore: 'pass', data: 'pass' })
    t.match(proof.restored, { timeline: 1, target: null, lastCommitAt: null })
    t.ok((proof.restored?.bytes ?? 0) > 20_000_000)
    t.ok((proof.restored?.seconds ?? 0) > 0)
    for (const phase of ['fetch', 'verify', 'wal', 'start', 'replay', 'catalogs', 'amcheck', 'checksums'])
      t.ok((proof.phases[phase] ?? -1) >= 0, phase)
    t.same(
      proof.hashed.map(({ name }) => name).toSorted(),
      manifest.artifacts.map(({ name }) => name).toSorted(),
      'every artifact was read',
    )
    const names = Object.values(proof.levels).flatMap(({ checks }) => checks.map(({ name }) => name))
    for (const name of ['pg_verifybackup', 'page checksums', 'amcheck of "app"', 'amcheck of "postgres"'])
      t.ok(names.includes(name), name)
    t.ok(names.includes('assertion rows'))
    t.same(await look(), before, 'nothing was archived, and the tablespace of the server is as it was')
    t.same(await one.leftovers(), [])

    const catalog = catalogOf({
      at: new Date(),
      server: serverState(['app', 'postgres'], { systemIdentifier }),
      repositories: [await seenBy(one, keptLog().log)],
    })
    const verified = latestVerifications(catalog).map(({ type, level, verdict }) => [type, level, verdict])
    t.same(verified, [
      ['full', 'artifact', 'pass'],
      ['full', 'restore', 'pass'],
      ['full', 'data', 'pass'],
    ])
    t.match(newestProvenBackups(catalog), [{ backup: { type: 'full', id: manifest.backupId } }])

    const again = await one.run('verify', { level: 'artifact' })
    t.match(again, { state: 'succeeded' })
    t.match(
      (await proofOf(one, manifest)).levels.artifact?.checks.find(({ name }) => name.includes('base.tar')),
      {
        detail: /^unchanged since /,
      },
    )
    t.match(await one.run('verify', { level: 'artifact', rehash: true }), { state: 'succeeded' })
    const { levels } = await proofOf(one, manifest)
    t.same(Object.keys(levels), ['artifact'])
    t.ok(levels.artifact?.checks.some(({ name, detail }) => name === 'pg_verifybackup' && detail === undefined))
    t.same(await one.leftovers(), [])
  })

  const space = manifest.physical?.tablespaces[0]?.artifact ?? ''
  const faults: readonly (readonly [
    name: string,
    (folder: string) => Promise<unknown>,
    cause: string,
    check: string,
  ])[] = [
    ['a flipped bit', (folder) => flipBit(join(folder, 'base.tar.zst')), 'checksum-mismatch', 'checksum base.tar.zst'],
    ['one in a tablespace', (folder) => flipBit(join(folder, space)), 'checksum-mismatch', `checksum ${space}`],
    ['no base.tar.zst', (folder) => rm(join(folder, 'base.tar.zst')), 'artifact-missing', 'checksum base.tar.zst'],
    [
      'a file that PostgreSQL has not listed so',
      async (folder) => {
        const text = await readFile(join(folder, 'backup_manifest'), 'utf8')
        // A manifest that fits itself, and not the files.
        const changed = text.replace(/("Path": "global\/1262", "Size": )\d+/, '$18')
        await forge(folder, manifest, { backup_manifest: withChecksum(changed) })
      },
      'contents-wrong',
      'pg_verifybackup',
    ],
  ]
  for (const [name, damage, cause, check] of faults) {
    t.test(`at level artifact: ${name}`, async (t) => {
      const one = await damaged(t, damage)
      for (const level of ['artifact', 'data']) {
        t.match(await one.run('verify', { level }), { state: 'failed', failure: { code: 'verification-failed' } })
        const proof = await proofOf(one, manifest)
        t.same(verdictsOf(proof), { artifact: cause }, level)
        t.match(problemsOf(proof), [{ name: check, verdict: 'fail' }])
      }
      t.same(await one.leftovers(), [])
    })
  }

  const segment = async () => {
    const file = (await readdir(archive)).find((name) => name.endsWith('.backup')) ?? ''
    return file.slice(0, 24)
  }
  t.test('WAL without which it cannot be used', async (t) => {
    const name = await segment()
    const one = await damaged(t, (_, repository) => removeSegment(repository, name))
    t.match(await one.run('verify', { level: 'restore' }), { failure: { code: 'verification-failed' } })
    const proof = await proofOf(one, manifest)
    t.same(verdictsOf(proof), { artifact: 'pass', restore: 'wal-missing' })
    t.match(problemsOf(proof), [{ name: 'wal', detail: new RegExp(`^${name}, which the backup needs, is not stored`) }])
    t.same(await one.leftovers(), [])
  })

  t.test('an assertion that fails in one database of several', async (t) => {
    const assertions = [
      { name: 'right', database: 'app', sql: 'select count(*) from far', expect: 1000 },
      { name: 'wrong', database: 'postgres', sql: 'select count(*) from pg_class where false', expect: 1 },
      { name: 'elsewhere', database: 'nowhere', sql: 'select 1', expect: 2 },
    ]
    const one = await damaged(t, async () => {}, { yaml: { verification: { assertions } } })
    t.match(await one.run('verify'), { failure: { code: 'verification-failed', message: /assertion wrong/ } })
    const proof = await proofOf(one, manifest)
    t.same(verdictsOf(proof), { artifact: 'pass', restore: 'pass', data: 'assertion-failed' })
    t.same(
      problemsOf(proof).map(({ name }) => name),
      ['assertion wrong'],
    )
    t.match(proof.levels.data?.checks[0], { name: 'databases', detail: /an assertion is for nowhere/ })
    t.same(await one.leftovers(), [])
  })

  t.test('a disk without room', async (t) => {
    const disk = await smallDisk(t, 32 * 1024 * 1024)
    if (disk === null) return t.comment(noSmallDisk)
    const one = await damaged(t, async () => {}, { yaml: { workDir: join(disk.directory, 'work') } })
    t.match(await one.run('verify'), { failure: { code: 'verification-inconclusive' } })
    t.same(verdictsOf(await proofOf(one, manifest)), { artifact: 'disk-full' })
    t.same(await one.leftovers(), [])
  })

  t.test('a page that was damaged before the backup', async (t) => {
    await cluster.createDatabase('hurt', `create table t as select i, repeat('x', 500) from generate_series(1, 1000) i`)
    await cluster.sql('checkpoint')
    const [row] = await cluster.sql<{ path: string }>(`select pg_relation_filepath('t') as path`, 'hurt')
    await cluster.server.stop()
    await flipBit(join(cluster.server.dataDirectory, row?.path ?? ''))
    await cluster.server.start()
    const { sidecar: one } = await sidecar(t)
    t.match(await one.run('full'), { state: 'failed' }, 'pg_basebackup sees it')
    const byHand = await takeByHand(t, cluster, one, manifest)
    t.match(await one.run('verify', { backup: byHand.backupId }), { failure: { code: 'verification-failed' } })
    const proof = await proofOf(one, byHand)
    t.same(verdictsOf(proof), { artifact: 'pass', restore: 'page-checksum', data: 'corruption' })
    t.match(problemsOf(proof), [
      { name: 'page checksums', detail: /^1 of \d+ pages are damaged.*base\/\d+\/\d+/ },
      { name: 'amcheck of "hurt"', detail: /invalid page in block/ },
    ])
    t.same(await one.leftovers(), [])
  })
})

/** The last line of a backup_manifest is the SHA-256 of all before. */
function withChecksum(text: string): string {
  const body = text.slice(0, text.indexOf('"Manifest-Checksum"'))
  return `${body}"Manifest-Checksum": "${hash('sha256', body)}"}\n`
}

/** Takes a backup that looks at no checksums, which Lifeboat does not, and publishes it. */
async function takeByHand(t: Test, cluster: Cluster, one: Sidecar, like: Manifest): Promise<Manifest> {
  const directory = join(await openDirectory(t), 'backup')
  const { host, port, user } = cluster.source
  await runProgram({
    program: join(cluster.installation.directory, 'pg_basebackup'),
    args: [
      ...['--host', host, '--port', String(port), '--username', user, '--pgdata', directory],
      ...['--format=tar', '--wal-method=none', '--checkpoint=fast', '--no-verify-checksums'],
    ],
  })
  const { wal } = await readBackupManifest(join(directory, 'backup_manifest'))
  const [first] = wal
  const { physical } = like
  if (first === undefined || physical === undefined) throw new Error('it needs no WAL')
  const at = new Date()
  const id = makeId(at, 'full', 'abcdef')
  const writer = await one.repository.beginBackup(id, { runId: 'test', signal: new AbortController().signal })
  for (const name of (await readdir(directory)).filter((one) => one.endsWith('.tar')))
    await writer.put(`${name}.zst`, createReadStream(join(directory, name)).pipe(createZstdCompress()))
  await writer.put('backup_manifest', createReadStream(join(directory, 'backup_manifest')))
  await writer.put('RESTORE.md', Buffer.from('by hand'))
  for (const segment of segmentsOf({ intervals: wal, segmentSize: physical.segmentSize }))
    while ((await one.repository.wal.ofSegment(like.systemIdentifier, segment)).length === 0)
      await cluster.sql('select pg_sleep(0.02)')
  const { formatVersion: _, artifacts: __, checksum: ___, ...facts } = like
  const time = at.toISOString()
  return writer.publish({
    ...{ ...facts, backupId: id },
    ...{ start: { lsn: first.start, time }, stop: { lsn: first.end, time }, timeline: first.timeline },
    physical: { ...physical, wal },
  })
}
