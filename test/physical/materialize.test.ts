import { lstat, readdir, readFile, readlink } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { incompleteMarker, materialize } from '../../src/physical/materialize.ts'
import { withSession } from '../../src/postgres/connection.ts'
import { serverOsUser } from '../../src/postgres/os-user.ts'
import { makeTablespace, physicalCluster } from '../support/archiving-cluster.ts'
import { cannotHave, type Major } from '../support/postgres.ts'
import { startRestored } from '../support/restored.ts'
import { openDirectory } from '../support/scratch.ts'
import { withoutBsdtar } from '../support/without-bsdtar.ts'

const signal = new AbortController().signal
const contents = `select (select count(*) || md5(sum(i)::text) from t) as t, (select count(*)::text from far) as far`

for (const major of [15, 17, 18] as const satisfies readonly Major[]) {
  t.test(`PostgreSQL ${major}`, { timeout: 200_000, skip: await cannotHave(major) }, async (t) => {
    if (major === 15) await withoutBsdtar(t)
    const { cluster, archive, sidecar } = await physicalCluster(t, { major, initdbArgs: ['--data-checksums'] })
    const location = await makeTablespace(t, cluster, 'elsewhere')
    await cluster.createDatabase('app', 'create table t as select generate_series(1, 100000) as i')
    await cluster.sql('create table far (i) tablespace elsewhere as select generate_series(1, 1000)', 'app')
    await cluster.sql(`alter system set archive_cleanup_command = 'touch ${archive}/.never'`)
    const { sidecar: one } = await sidecar(t)
    for (const job of major === 15 ? (['full'] as const) : (['full', 'incremental', 'incremental'] as const)) {
      t.match(await one.run(job), { state: 'succeeded', items: [{ backupType: job }] })
      await cluster.sql(
        'insert into t select 1; delete from t where i between 5 and 6; insert into far select 1',
        'app',
      )
    }
    await cluster.sql('select pg_switch_wal()')
    const expected = await cluster.sql(contents, 'app')
    const owner = await serverOsUser('postgres')
    const chain = (await one.manifests()).map((manifest) => ({ manifest, repositories: [one.repository] }))
    const [oid = 0] = chain.at(-1)?.manifest.physical?.tablespaces.map((one) => one.oid) ?? []
    const before = await readdir(location, { recursive: true })

    for (const members of major === 15 ? [chain] : [chain, chain.slice(0, 1)]) {
      const directory = await openDirectory(t)
      const [dataDirectory, far, folder] = [join(directory, 'data'), join(directory, 'f=r'), join(directory, 'work')]
      const told: [number, number][] = []
      const made = await materialize({
        ...{ chain: members, dataDirectory, folder, tablespaces: new Map([[oid, far]]), owner, signal },
        installation: cluster.installation,
        onProgress: (done, total) => told.push([done, total]),
      })
      t.same((await readdir(directory)).toSorted(), ['data', 'f=r'])
      const names = await readdir(dataDirectory)
      t.ok(names.includes('backup_label') && names.includes('backup_manifest'))
      t.notOk([incompleteMarker, 'tablespace_map', 'recovery.signal'].some((name) => names.includes(name)))
      t.equal(await readlink(join(dataDirectory, 'pg_tblspc', String(oid))), far)
      t.equal(await readFile(join(dataDirectory, 'postgresql.auto.conf'), 'utf8'), '')
      t.match(
        await readFile(join(dataDirectory, 'postgresql.auto.conf.before-restore'), 'utf8'),
        'archive_cleanup_command',
      )
      if (owner !== null)
        for (const path of ['', 'base', 'global/pg_control', 'pg_tblspc', 'postgresql.auto.conf', 'backup_manifest'])
          t.equal((await lstat(join(dataDirectory, path))).uid, owner.uid, path)
      t.equal((await lstat(dataDirectory)).mode & 0o777, 0o700)
      t.same(made.hashed.length, members.length * 3)
      t.match(made.phases, { fetch: Number, verify: Number })
      t.ok(made.bytes > 20_000_000, `${made.bytes}`)
      const [done, total] = told.at(-1) ?? []
      t.equal(done, total)
      const source = await startRestored(t, dataDirectory, { installation: cluster.installation, archive })
      t.same(await withSession(source, { database: 'app' }, (session) => session.query(contents)), expected)
      await withSession(source, { database: 'app' }, (session) => session.query('drop table far; checkpoint'))
      t.same(await readdir(location, { recursive: true }), before, 'the old tablespace was left alone')
      t.notOk((await readdir(archive)).includes('.never'))
    }
  })
}
