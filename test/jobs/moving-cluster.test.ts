import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { connect, withSession } from '../../src/postgres/connection.ts'
import { physicalCluster } from '../support/archiving-cluster.ts'
import { allShipped, followInstructions } from '../support/follow.ts'

/** Files that grow, shrink, come and go under the reader. */
const rounds = `do $$ begin
  for round in 1..20 loop
    insert into grows select i, repeat('x', 200) from generate_series(1, 500) i;
    truncate shrinks; insert into shrinks select generate_series(1, 20);
    execute format('create table gone_%s (i int)', round);
    execute format('drop table gone_%s', round);
    commit;
  end loop;
end $$`

t.test('thousands of small files, and files that change while they are read', { timeout: 120_000 }, async (t) => {
  const { cluster, sidecar } = await physicalCluster(t, { settings: { autovacuum: 'off' } })
  await cluster.createDatabase(
    'app',
    `create table grows (i int, filler text); create table shrinks (i int);
     insert into shrinks select generate_series(1, 100000);
     create unlogged table unlogged (i int); insert into unlogged values (1)`,
  )
  const many = `do $$ begin for i in 1..2000 loop execute format('create table t%s (i int)', i); end loop; end $$`
  await cluster.sql(many, 'app')
  await cluster.sql('insert into t1999 values (7)', 'app')
  const { sidecar: one } = await sidecar(t, { yaml: { physical: { maxRate: '24MiB' } } })
  const writer = await connect(cluster.source, { database: 'app' })
  t.teardown(() => writer.close())
  const { id, ended } = one.begin('full')
  await one.progress(id, /reading the cluster/)
  let isOver = false
  void ended.then(() => {
    isOver = true
  })
  let written = 0
  for (; !isOver; written += 1) await writer.query(rounds)
  t.match(await ended, { state: 'succeeded' })
  t.ok(written > 0, 'it was written to meanwhile')
  const [manifest] = await one.manifests()
  if (manifest === undefined) return t.fail('there is no backup')
  const list = JSON.parse(await readFile(join(one.folder(manifest), 'backup_manifest'), 'utf8')) as { Files: unknown[] }
  t.ok(list.Files.length > 2000)

  const counts = `select (select count(*) from grows)::text as grows, (select count(*) from shrinks)::text as shrinks,
    (select i from t1999) as small, (select count(*)::text from pg_class where relname like 'gone%') as gone`
  const expected = await cluster.sql(counts, 'app')
  await allShipped(cluster, one)
  const { source } = await followInstructions(t, one.folder(manifest), cluster.installation.directory)
  await withSession(source, { database: 'app' }, async (session) => {
    t.same(await session.query(counts), expected)
    t.same(await session.query('select from unlogged'), [], 'an unlogged table is there, and empty')
    await session.query('insert into unlogged values (2)')
  })
})
