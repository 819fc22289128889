import { chmod, lstat, mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { incompleteMarker } from '../../src/physical/places.ts'
import { physicalCluster } from '../support/archiving-cluster.ts'
import { groundOf, restoringInitdb, rowsOf, shipped, sourceOf } from '../support/restoring.ts'
import { openDirectory } from '../support/scratch.ts'

t.test('a restore whose server cannot be made ready', { timeout: 200_000 }, async (t) => {
  const physical = await physicalCluster(t, { major: 15, initdbArgs: restoringInitdb })
  const { cluster } = physical
  await cluster.createDatabase('app', "create table t as select 'one' as word")
  // A superuser may put any file into the data directory, and it is backed up.
  await cluster.sql(`copy (select 'in the way') to '${join(cluster.server.dataDirectory, 'lifeboat-restore')}'`)
  const { sidecar } = await physical.sidecar(t)
  t.match(await sidecar.run('full'), { state: 'succeeded' })
  await cluster.sql("insert into t values ('two')", 'app')
  await shipped(cluster, sidecar)
  const ground = groundOf({ ...physical, sidecar }, null)

  const { run, to } = await ground.restore(t, {})
  const wal = async () => (await readdir(join(to, 'pg_wal'))).filter((name) => name.startsWith('lifeboat'))
  const failure = { code: 'conflict', message: /lifeboat-restore is not a directory/, hint: /same command goes on/ }
  t.match(run, { state: 'failed', failure })
  t.same(await wal(), [], 'nothing is fetched any more, nor left')

  const note = join(to, 'note')
  await writeFile(note, '')
  t.match((await ground.restore(t, { to })).run, { state: 'failed', failure })
  t.ok(await lstat(note), 'it went on with the files that are there')

  const mark = join(to, incompleteMarker)
  const text = await readFile(mark, 'utf8')
  await writeFile(mark, text.replace(/(?<=in the boot )\S+/, '00000000-0000-0000-0000-000000000000'))
  t.match((await ground.restore(t, { to })).run, { state: 'failed', failure })
  await t.rejects(lstat(note), 'what only the memory may have held was not believed after a restart of the machine')

  await writeFile(note, '')
  await rm(join(to, 'lifeboat-restore'))
  const again = await ground.restore(t, { to })
  t.match(again.run, { state: 'succeeded' }, JSON.stringify(again.run.failure))
  t.notOk('fetch' in (again.run.items[0]?.measured?.phases ?? {}), 'what was fetched was not fetched again')
  t.same(await rowsOf(sourceOf(again.run)), ['one', 'two'])
  t.same(await wal(), [], 'nothing of ours is left among the WAL')
})

t.test('a disk that does not take what was restored', { timeout: 200_000 }, async (t) => {
  const physical = await physicalCluster(t, { major: 15, initdbArgs: restoringInitdb })
  const { cluster } = physical
  await cluster.createDatabase('app', "create table t as select 'one' as word")
  const { directory } = cluster.installation
  const binDir = join(await openDirectory(t), 'bin')
  await mkdir(binDir)
  for (const name of await readdir(directory))
    if (name !== 'postgres') await symlink(join(directory, name), join(binDir, name))
  // A server says no more than that of it, and goes on. It is the next one that would find nothing wrong.
  const broken = join(binDir, 'broken')
  const words = 'LOG:  could not synchronize file system for file \\".\\": Input/output error'
  const script = `#!/bin/sh
[ ! -e ${broken} ] || [ "$1" = --version ] || echo "2026-01-01 00:00:00.000 UTC [$$] ${words}" >&2
exec ${join(directory, 'postgres')} "$@"
`
  await writeFile(join(binDir, 'postgres'), script)
  await chmod(join(binDir, 'postgres'), 0o755)
  const { host, port, user } = cluster.source
  const { sidecar } = await physical.sidecar(t, {
    yaml: { postgres: { ...{ host, port, user }, sslMode: 'disable', binDir } },
  })
  t.match(await sidecar.run('full'), { state: 'succeeded' })
  await shipped(cluster, sidecar)
  const ground = groundOf({ ...physical, sidecar }, null)
  await writeFile(broken, '')
  const { run, to } = await ground.restore(t, {})
  t.match(run, {
    state: 'failed',
    failure: { code: 'storage-failed', message: /cannot be written to the disk: .*Input\/output/, hint: /kernel log/ },
  })
  t.notOk((await readdir(to)).includes('postmaster.pid'), 'it is stopped')
  await rm(broken)
  const again = await ground.restore(t, { to })
  t.match(again.run, { state: 'succeeded' }, JSON.stringify(again.run.failure))
  t.ok('fetch' in (again.run.items[0]?.measured?.phases ?? {}), 'it began again')
  t.same(await rowsOf(sourceOf(again.run)), ['one'])
})
