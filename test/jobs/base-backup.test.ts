import { hash } from 'node:crypto'
import { readdir, readFile, symlink, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { Manifest } from '../../src/domain/backup.ts'
import { collectOutput } from '../../src/postgres/programs.ts'
import { makeTablespace, physicalCluster } from '../support/archiving-cluster.ts'
import { startCopier } from '../support/copier.ts'
import { cannotHave, installationOf } from '../support/postgres.ts'
import { noSmallDisk, openDirectory, smallDisk } from '../support/scratch.ts'
import { until } from '../support/stall.ts'

for (const major of [15, 17, 18] as const) {
  const skip = await cannotHave(major)
  t.test(`PostgreSQL ${major}`, { skip, timeout: 200_000 }, async (t) => {
    const settings = await openDirectory(t)
    await writeFile(join(settings, 'pg_ident.conf'), '# ident\n', { mode: 0o644 })
    const { cluster, archive, sidecar } = await physicalCluster(t, {
      major,
      tcp: true,
      hba: ['host replication all 127.0.0.1/32 scram-sha-256'],
      settings: { ident_file: join(settings, 'pg_ident.conf') },
      initdbArgs: ['--data-checksums'],
    })
    await cluster.createDatabase('app', 'create table t as select generate_series(1, 1000) as i')

    t.test('a full backup, its manifest and its artifacts', async (t) => {
      const { sidecar: one, systemIdentifier } = await sidecar(t)
      const run = await one.run('full')
      t.match(run, {
        state: 'succeeded',
        failure: null,
        items: [{ outcome: 'succeeded', backupType: 'full', database: '', repository: 'local' }],
      })
      const manifest = only(await one.manifests())
      t.match(manifest, {
        ...{ type: 'full', systemIdentifier, parent: null, database: null, timeline: 1, warnings: [] },
        physical: {
          segmentSize: 16 * 1024 * 1024,
          dataChecksums: true,
          fromStandby: false,
          tablespaces: [],
          configSaved: true,
        },
      })
      t.ok((manifest.physical?.sourceBytes ?? 0) > 10_000_000)
      t.same(
        manifest.artifacts.map(({ name }) => name),
        ['base.tar.zst', 'backup_manifest', 'config.tar', 'RESTORE.md'],
      )
      await assertSound(t, one.folder(manifest), manifest)
      const { stdout } = await collectOutput({
        program: 'tar',
        args: ['-xOf', join(one.folder(manifest), 'config.tar')],
      })
      t.equal(String(stdout), '# ident\n')
      t.ok(Date.parse(manifest.start.time) < Date.parse(manifest.stop.time))
      t.equal(manifest.physical?.wal[0]?.start, manifest.start.lsn)
      t.equal(manifest.physical?.wal[0]?.end, manifest.stop.lsn)
      t.same(await one.leftovers(), [])
    })

    t.test('a tablespace is an artifact of its own', async (t) => {
      const location = await makeTablespace(t, cluster, 'elsewhere')
      await cluster.sql('create table far (i) tablespace elsewhere as select generate_series(1, 1000)', 'app')
      t.teardown(async () => {
        await cluster.sql('drop table far', 'app')
        await cluster.sql('drop tablespace elsewhere')
      })
      const { sidecar: one } = await sidecar(t)
      t.match(await one.run('full'), { state: 'succeeded' })
      const manifest = only(await one.manifests())
      const [space] = manifest.physical?.tablespaces ?? []
      t.match(space, { path: location, artifact: `${space?.oid}.tar.zst` })
      t.same(
        manifest.artifacts.map(({ name }) => name),
        ['base.tar.zst', `${space?.oid}.tar.zst`, 'backup_manifest', 'config.tar', 'RESTORE.md'],
      )
      await assertSound(t, one.folder(manifest), manifest)
      t.same(await one.leftovers(), [])
    })

    if (major !== 15) return

    t.test('the least role that works, and one that may not', async (t) => {
      await cluster.sql(
        `create role least login replication password 'p' in role pg_monitor; create role nobody login password 'p' in role pg_monitor`,
      )
      t.teardown(() => cluster.sql('drop role least; drop role nobody'))
      const { sidecar: least } = await sidecar(t, { source: cluster.as('least', 'p') })
      t.match(await least.run('full'), { state: 'succeeded' })
      const manifest = only(await least.manifests())
      t.match(manifest.warnings, [/^config not saved: \/.*pg_ident\.conf could not be read/])
      t.equal(manifest.physical?.configSaved, false)
      const { sidecar: none } = await sidecar(t, { source: cluster.as('nobody', 'p') })
      const run = await none.run('full')
      t.match(run, {
        state: 'failed',
        failure: { code: 'server-authentication', hint: /REPLICATION/ },
        items: [{ backupType: 'full', database: '', outcome: 'failed' }],
      })
      t.same(await none.manifests(), [])
      t.same(await none.leftovers(), [])
    })

    t.test('cut off by the server halfway, and taken again', async (t) => {
      const yaml = { physical: { maxRate: '8MiB' }, runner: { retries: 1, retryDelay: '100ms' } }
      const { sidecar: one } = await sidecar(t, { yaml })
      const { id, ended } = one.begin('full')
      await one.progress(id, /reading the cluster/)
      await cluster.sql(`select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'walsender'`)
      const cut = await ended
      t.match(
        cut,
        { state: 'succeeded', retries: 1, attempts: [{ failure: { code: 'server-unreachable' } }] },
        JSON.stringify(cut.failure),
      )
      t.equal((await one.manifests()).length, 1)
      t.same(await one.leftovers(), [])
    })

    t.test('cancelled halfway', async (t) => {
      const { sidecar: one } = await sidecar(t, { yaml: { physical: { maxRate: '1MiB' } } })
      const { id, ended } = one.begin('full')
      await one.progress(id, /reading the cluster/)
      one.core.runner.cancel(id)
      t.match(await ended, { state: 'cancelled', items: [] })
      t.same(await one.manifests(), [])
      t.same(await one.leftovers(), [])
      await until(cluster, `select 1 where not exists (select from pg_stat_activity where backend_type = 'walsender')`)
    })

    t.test('its WAL never comes into the repository', async (t) => {
      const { sidecar: one } = await sidecar(t, { ships: false, yaml: { physical: { walTimeout: '1s' } } })
      t.match(await one.run('full'), {
        state: 'failed',
        failure: {
          code: 'wal-missing',
          message: /in repository local: 0000000100000000000000\w\w was missing after 1 s; the archiver is idle/,
        },
        items: [{ outcome: 'failed', repository: 'local' }],
      })
      t.same(await one.manifests(), [])
      t.same(await one.leftovers(), [])
    })

    t.test('the archiver fails, and the server waits for it', async (t) => {
      await writeFile(join(archive, '.stop'), '')
      await cluster.sql('select pg_switch_wal()')
      const { sidecar: one } = await sidecar(t, { yaml: { physical: { walTimeout: '1s' } } })
      const run = await one.run('full')
      await unlink(join(archive, '.stop'))
      t.match(run, {
        state: 'failed',
        failure: { code: 'wal-missing', message: /the archiver is failing: archive_command fails/ },
      })
      t.same(await one.leftovers(), [])
    })

    t.test('in two repositories: the same bytes, and none takes the other along', async (t) => {
      const directory = await openDirectory(t)
      await writeFile(join(directory, 'file'), 'in the way')
      const [a, b, bad] = [join(directory, 'a'), join(directory, 'b'), join(directory, 'file')]
      const { sidecar: both } = await sidecar(t, { repositories: { a, b } })
      t.match(await both.run('full'), { state: 'succeeded', items: [{ repository: 'a' }, { repository: 'b' }] })
      const [one, other] = await Promise.all(both.core.repositories.map(({ repository }) => both.manifests(repository)))
      t.same(one, other)
      await assertSound(t, both.folder(only(other ?? []), 'b'), only(other ?? []))

      const { sidecar: first } = await sidecar(t, {
        repositories: { bad, good: join(directory, 'c') },
        ships: ['good'],
      })
      const run = await first.run('full')
      t.match(run, { state: 'failed', failure: { code: 'storage-failed', message: /^1 of 2 repositories .*bad \(/ } })
      t.same(outcomes(run), ['bad failed', 'good succeeded'])
      const { sidecar: second } = await sidecar(t, {
        repositories: { good: join(directory, 'd'), bad },
        ships: ['good'],
      })
      t.same(outcomes(await second.run('full')), ['good succeeded', 'bad failed'])
    })

    t.test('where the WAL comes late it is waited for, and nowhere else', async (t) => {
      const directory = await openDirectory(t)
      const { sidecar: one, systemIdentifier } = await sidecar(t, {
        repositories: { good: join(directory, 'good'), late: join(directory, 'late') },
        ships: ['good'],
      })
      const { ended } = one.begin('full')
      while ((await one.manifests()).length === 0) await cluster.sql('select pg_sleep(0.02)')
      const late = one.core.repositories.flatMap(({ repository }) => (repository.name === 'late' ? [repository] : []))
      t.same(await one.manifests(only(late)), [])
      startCopier(t, { archive, repositories: late, systemIdentifier })
      t.same(outcomes(await ended), ['good succeeded', 'late succeeded'])
      t.same(await one.leftovers(), [])
    })

    t.test('a full disk', async (t) => {
      const disk = await smallDisk(t, 2 * 1024 * 1024)
      if (disk === null) return t.comment(noSmallDisk)
      const directory = await openDirectory(t)
      const full = join(disk.directory, 'repository')
      const { sidecar: one } = await sidecar(t, {
        repositories: { full, good: join(directory, 'good') },
        ships: ['good'],
      })
      const run = await one.run('full')
      t.match(run, { state: 'failed', failure: { code: 'disk-full' } })
      t.same(outcomes(run), ['full failed', 'good succeeded'])
      t.same(await one.leftovers(), [])
    })

    t.test('programs that cannot compress', async (t) => {
      const binDir = await openDirectory(t)
      const { host, port, user } = cluster.source
      const { directory } = await installationOf(major)
      for (const name of await readdir(directory))
        if (name !== 'pg_basebackup') await symlink(join(directory, name), join(binDir, name))
      const refusal = 'invalid compression specification: this build does not support compression with zstd'
      const script = `#!/bin/sh
case "$*" in *--compress*) echo "pg_basebackup: error: ${refusal}" >&2; exit 1 ;; esac
exec ${join(directory, 'pg_basebackup')} "$@"
`
      await writeFile(join(binDir, 'pg_basebackup'), script, { mode: 0o755 })
      const { sidecar: one } = await sidecar(t, {
        yaml: { postgres: { ...{ host, port, user }, sslMode: 'disable', binDir } },
      })
      t.match(await one.run('full'), { state: 'succeeded' })
      const manifest = only(await one.manifests())
      await assertSound(t, one.folder(manifest), manifest, 'plain')
      t.same(await one.leftovers(), [])
    })

    t.test('without an archive there is no backup', async (t) => {
      const { sidecar: one } = await sidecar(t, { yaml: { wal: {} } })
      t.match(await one.run('full'), { state: 'failed', failure: { code: 'config-invalid', hint: /wal setup/ } })
    })
    t.test('nor incremental ones before 17', async (t) => {
      const { sidecar: one } = await sidecar(t)
      t.match(await one.run('incremental'), {
        state: 'failed',
        failure: { code: 'config-invalid', hint: /archive_timeout/ },
      })
    })
  })
}

function only<T>(all: readonly T[]): T {
  const [first] = all
  if (first === undefined || all.length > 1) throw new Error(`there are ${all.length}, not one`)
  return first
}

function outcomes({ items }: { items: readonly { repository?: string; outcome: string }[] }): readonly string[] {
  return items.map(({ repository, outcome }) => `${repository} ${outcome}`)
}

/** Every artifact is what the manifest says; `hashed`: which digest of a compressed one is `plain`. */
async function assertSound(
  t: Test,
  folder: string,
  manifest: Manifest,
  hashed: 'plain' | 'stored' = 'stored',
): Promise<void> {
  for (const { name, plain, stored } of manifest.artifacts) {
    const bytes = await readFile(join(folder, name))
    t.same({ bytes: bytes.length, sha256: hash('sha256', bytes) }, stored, `${name}, stored`)
    const isPacked = name.endsWith('.zst')
    if (!isPacked || hashed === 'stored') t.same(plain, stored)
    if (!isPacked) continue
    const { stdout } = await collectOutput({ program: 'zstd', args: ['-dc', join(folder, name)] })
    if (hashed === 'plain') t.same({ bytes: stdout.length, sha256: hash('sha256', stdout) }, plain, `${name}, plain`)
  }
}
