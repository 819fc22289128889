import { readdir } from 'node:fs/promises'
import t from 'tap'
import { withSession } from '../../src/postgres/connection.ts'
import { makeTablespace, physicalCluster } from '../support/archiving-cluster.ts'
import { allShipped, followInstructions } from '../support/follow.ts'
import { cannotHave } from '../support/postgres.ts'

for (const major of [15, 17, 18] as const) {
  const skip = await cannotHave(major)
  t.test(`RESTORE.md, followed to the letter, on PostgreSQL ${major}`, { skip, timeout: 200_000 }, async (t) => {
    const { cluster, archive, sidecar } = await physicalCluster(t, { major, initdbArgs: ['--data-checksums'] })
    const location = await makeTablespace(t, cluster, 'elsewhere')
    await cluster.createDatabase('app', 'create table t as select generate_series(1, 100000) as i')
    await cluster.sql('create table far (i) tablespace elsewhere as select generate_series(1, 1000)', 'app')
    await cluster.sql('create table moved as select generate_series(1, 50) as i', 'app')
    // It would archive into the directory of the server that was backed up.
    await cluster.sql(`alter system set archive_cleanup_command = 'touch ${archive}/.never'`)
    const { sidecar: one } = await sidecar(t)
    const jobs = major === 15 ? (['full'] as const) : (['full', 'incremental', 'incremental'] as const)
    for (const [index, job] of jobs.entries()) {
      // One that the full backup does not know.
      if (index === 1) {
        await makeTablespace(t, cluster, 'later')
        await cluster.sql('alter table moved set tablespace later', 'app')
      }
      t.match(await one.run(job), { state: 'succeeded', items: [{ backupType: job }] })
      await cluster.sql(
        'insert into t select 1; delete from t where i between 500 and 600; insert into far select 1',
        'app',
      )
    }
    const [expected] = await cluster.sql<Counts>(counts, 'app')
    await allShipped(cluster, one)
    const manifest = (await one.manifests()).at(-1)
    if (manifest === undefined) return t.fail('there is no backup')
    const before = await readdir(location, { recursive: true })

    const { data, source } = await followInstructions(t, one.folder(manifest), cluster.installation.directory)
    const restored = await withSession(source, { database: 'app' }, (session) => session.query<Counts>(counts))
    t.same(restored, [expected], 'all that was committed before the end of the WAL is there')
    await withSession(source, { database: 'app' }, (session) => session.query('drop table far; checkpoint'))
    t.same(await readdir(location, { recursive: true }), before, 'the tablespace of the old server was left alone')
    t.match(await cluster.sql<Counts>(counts, 'app'), [expected])
    t.notOk((await readdir(archive)).includes('.never'))
    t.notOk((await readdir(data)).includes('tablespace_map'))
  })
}

interface Counts {
  readonly t: string
  readonly far: string
  readonly moved: string
}
const counts = `select (select count(*) || md5(sum(i)::text) from t) as t, (select count(*)::text from far) as far,
  (select count(*)::text from moved) as moved`
