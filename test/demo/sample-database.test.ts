import t from 'tap'
import { createSampleDatabase } from '../../src/demo/sample-database.ts'
import { startCluster } from '../support/postgres.ts'

t.test('the sample database', async (t) => {
  const cluster = await startCluster(t)
  await createSampleDatabase(cluster.source, { name: 'one', scale: 1 })
  await createSampleDatabase(cluster.source, { name: 'again', scale: 1 })
  await createSampleDatabase(cluster.source, { name: 'three "x"', scale: 3 })

  await t.test('has one of nearly everything that a backup can lose', async (t) => {
    const [found] = await cluster.sql(
      `select (select count(*)::int from pg_constraint where contype = 'f' and conparentid = 0) as "foreign keys",
         (select count(*)::int from pg_extension where extname = 'citext') as extensions,
         (select count(*)::int from pg_largeobject_metadata) as "large objects",
         (select count(*)::int from pg_policies) as policies,
         (select count(*)::int from pg_inherits where inhparent = 'generations'::regclass) as partitions,
         (select count(*)::int from daily_totals) > 1000 as "materialized",
         (select count(*)::int from pg_sequences) as sequences,
         (select count(*)::int from pg_description where classoid = 'pg_class'::regclass and objoid = 'users'::regclass) as comments,
         has_table_privilege('studio_app', 'generations', 'insert') as granted,
         has_table_privilege('studio_app', 'api_keys', 'select') as "granted too much"`,
      'one',
    )
    t.same(found, {
      'foreign keys': 4,
      extensions: 1,
      'large objects': 5,
      policies: 1,
      partitions: 5,
      materialized: true,
      sequences: 5,
      comments: 1,
      granted: true,
      'granted too much': false,
    })
  })

  await t.test('is the same each time', async (t) => {
    const hash = `select sum(hashtextextended(g::text, 0)) as g,
      (select sum(hashtextextended(p.title || p.brief, 0)) from projects p) as p, (select sum(hashtextextended(u::text, 0)) from users u) as u
      from generations g`
    t.same(await cluster.sql(hash, 'one'), await cluster.sql(hash, 'again'))
  })

  await t.test('grows with its scale, and does not compress to nothing', async (t) => {
    const sizes = await cluster.sql<{ bytes: number }>(
      `select (pg_database_size(name) - pg_database_size('template0'))::int as bytes
       from unnest(array['one', 'three "x"']) with ordinality as d (name, i) order by i`,
    )
    const [one = 0, three = 0] = sizes.map((size) => size.bytes)
    t.ok(one > 9e6 && one < 15e6, `scale 1 is ${one} bytes`)
    t.ok(three > 2.4 * one && three < 3.2 * one, `scale 3 is ${three} bytes`)
    const [unlike] = await cluster.sql<{ ratio: number }>(
      `select count(distinct prompt)::float8 / count(*) as ratio from generations`,
      'one',
    )
    t.ok((unlike?.ratio ?? 0) > 0.99, 'hardly two prompts are equal')
  })
})
