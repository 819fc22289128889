import { cp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { createSampleDatabase } from '../../src/demo/sample-database.ts'
import { connect } from '../../src/postgres/connection.ts'
import { createAwkwardDatabase } from '../support/awkward.ts'
import { fingerprintOf } from '../support/fingerprint.ts'
import { type Cluster, startCluster } from '../support/postgres.ts'
import { startSidecar } from '../support/sidecar.ts'
import { noSessions, stall } from '../support/stall.ts'
import { copyRepository, flipBit, folderIn, forge } from '../support/tamper.ts'

const hostile = `-new "name"; drop database app --\n'美'`

t.test('PostgreSQL 15', { timeout: 200_000 }, async (t) => {
  const cluster = await startCluster(t)
  await createSampleDatabase(cluster.source, { name: 'app', scale: 0.05 })
  await cluster.sql(`create role owner; create role visitor login;
    create role "we""ird"; alter database app owner to owner; alter database app connection limit 7;
    grant connect on database app to visitor; revoke temporary on database app from public;
    comment on database app is 'it''s the "app"'; alter role visitor in database app set work_mem = '9MB'`)
  await createAwkwardDatabase(cluster, 'awkward')
  const source = await startSidecar(t, cluster, { databases: ['app', 'awkward'] })
  t.match(await source.run('dump'), { state: 'succeeded' })
  const [manifest, awkward] = await source.manifests()
  if (manifest === undefined || awkward === undefined) return t.fail('there are no backups')
  const backup = manifest.backupId
  const databases = async () =>
    (await cluster.sql<{ n: string }>('select datname as n from pg_database order by 1')).map(({ n }) => n)
  const before = await databases()
  const drop = (name: string) => cluster.sql(`drop database if exists "${name.replaceAll('"', '""')}" with (force)`)

  t.test('a new database, with all that belongs to it', async (t) => {
    t.teardown(() => drop(hostile))
    t.match(await source.run('restore', { backup, target: hostile }), { state: 'succeeded', failure: null })
    t.same(await facts(cluster, hostile), await facts(cluster, 'app'))
    t.match(await facts(cluster, hostile), { owner: 'owner', limit: 7, comment: 'it\'s the "app"' })
    t.same(await source.leftovers(), [])
    const [statistics] = await cluster.sql<{ rows: number }>(
      `select reltuples::int as rows from pg_class where relname = 'users'`,
      hostile,
    )
    t.ok((statistics?.rows ?? 0) > 0, 'it is analyzed')
  })

  t.test('settings and triggers that forbid everything', async (t) => {
    t.teardown(() => drop('awkward 2'))
    const run = await source.run('restore', { database: 'awkward', target: 'awkward 2' })
    t.match(run, { state: 'succeeded' }, JSON.stringify(run.failure))
    t.same(await facts(cluster, 'awkward 2'), await facts(cluster, 'awkward'))
  })

  t.test('a name that is taken', async (t) => {
    await cluster.createDatabase('taken', 'create table precious as select 42 as i')
    t.teardown(() => drop('taken'))
    for (const target of ['taken', 'app']) {
      const run = await source.run('restore', { backup, target })
      t.match(run, { state: 'failed', failure: { code: 'conflict', hint: /--replace/ } })
    }
    t.match(await source.run('restore', { backup }), { state: 'failed', failure: { code: 'conflict' } })
    t.same(await cluster.sql('select i from precious', 'taken'), [{ i: 42 }])
    t.same(await databases(), [...before, 'taken'].sort())
  })

  t.test('in the place of one that is in use, which is kept', async (t) => {
    const visitors = await Promise.all([1, 2].map(() => connect(cluster.source, { database: 'app' })))
    await cluster.sql(`create table later as select 'kept' as v`, 'app')
    const run = await source.run('restore', { backup, replace: true })
    t.match(run, { state: 'succeeded', progress: { message: /the former one is "app_before_/ } })
    const added = (await databases()).filter((name) => !before.includes(name))
    t.equal(added.length, 1)
    const [kept = ''] = added
    t.match(kept, /^app_before_\d{8}t\d{6}z$/)
    t.same(await cluster.sql('select v from later', kept), [{ v: 'kept' }])
    await t.rejects(cluster.sql('select from later', 'app'), { code: 'server-error' })
    t.match(await facts(cluster, 'app'), { owner: 'owner', limit: 7 })
    for (const visitor of visitors) await t.rejects(visitor.lost)
    await drop(kept)
    t.match(await source.run('restore', { backup, target: 'absent', replace: true }), {
      state: 'failed',
      failure: { code: 'not-found' },
    })
    t.same(await databases(), before)
  })

  t.test('not equal to the source: no swap', async (t) => {
    const repository = await copyRepository(t, source)
    await forge(folderIn(repository, manifest), manifest, {
      'fingerprint.json': JSON.stringify(fingerprintOf([])),
    })
    const sidecar = await startSidecar(t, cluster, { repositories: { local: repository } })
    const run = await sidecar.run('restore', { backup, replace: true })
    t.match(run, {
      state: 'failed',
      failure: { code: 'verification-failed', message: /not equal to the source/, hint: /not swapped/ },
    })
    const [aside = ''] = (await databases()).filter((name) => !before.includes(name))
    t.match(aside, /^app_restored_/)
    await drop(aside)
  })

  t.test('failing halfway leaves nothing', async (t) => {
    // The dump is whole, but the server refuses a part of it.
    await cluster.sql(`create role gone; create table t (i int); grant select on t to gone`, 'awkward').catch(() => {})
    const other = await startCluster(t)
    await other.sql('create role owner; create role visitor')
    const target = { ...other.source }
    const sidecar = await startSidecar(t, cluster, {
      repositories: { local: source.config.repositories[0]?.path ?? '' },
      restoreTarget: target,
    })
    const missing = await sidecar.run('restore', { backup })
    t.match(missing, { state: 'failed', failure: { message: /role "studio_\w+" does not exist/, hint: /--no-owner/ } })
    t.same((await other.sql(`select from pg_database where datname = 'app'`)).length, 0)
    await other.sql('drop role owner; drop role visitor')
    t.match(await sidecar.run('restore', { backup }), {
      state: 'failed',
      failure: { message: /role "\w+" does not exist/, hint: /--no-owner/ },
    })
    t.match(await sidecar.run('restore', { backup, noOwner: true }), { state: 'succeeded', failure: null })
    const [rows] = await other.sql<{ n: number }>('select count(*)::int as n from users', 'app')
    const [expected] = await cluster.sql<{ n: number }>('select count(*)::int as n from users', 'app')
    t.equal(rows?.n, expected?.n)
    t.same(await sidecar.leftovers(), [])
  })

  t.test('cancelled halfway', async (t) => {
    const held = await stall(cluster, 'template1', 'pg_ts_template').catch(() => null)
    await held?.release()
    const { id, ended } = source.begin('restore', { backup, target: 'half' })
    for (;;) {
      const [found] = await cluster.sql(
        `select from pg_stat_activity where datname = 'half' and application_name = 'lifeboat'`,
      )
      if (found !== undefined) break
    }
    source.core.runner.cancel(id)
    t.match(await ended, { state: 'cancelled' })
    t.same(await databases(), before)
    t.same(await source.leftovers(), [])
    await noSessions(cluster)
  })

  t.test('a damaged copy, and a good one elsewhere', async (t) => {
    const repositories = { first: await copyRepository(t, source), second: await copyRepository(t, source) }
    await flipBit(join(folderIn(repositories.first, manifest), 'dump.tar'))
    const sidecar = await startSidecar(t, cluster, { repositories })
    const refused = await sidecar.run('restore', { backup, repository: 'first', target: 'new' })
    t.match(refused, {
      state: 'failed',
      failure: { code: 'artifact-invalid', message: /dump\.tar/, hint: /nothing was changed/ },
    })
    t.same(await databases(), before)
    t.teardown(() => drop('new'))
    t.match(await sidecar.run('restore', { backup, target: 'new' }), {
      state: 'succeeded',
      items: [{ repository: 'second' }],
    })
    await drop('new')
    await flipBit(join(folderIn(repositories.second, manifest), 'globals.sql'))
    t.match(
      await sidecar.run('restore', { backup, target: 'new' }),
      { state: 'succeeded', items: [{ warnings: [/no repository has all of it whole: .* second and first/] }] },
      'neither is whole, and together they are',
    )
    await cp(
      join(folderIn(repositories.first, manifest), 'globals.sql'),
      join(folderIn(repositories.second, manifest), 'globals.sql'),
    )
    await drop('new')
    await rm(join(folderIn(repositories.first, manifest), 'manifest.json'))
    t.match(await sidecar.run('restore', { database: 'app', target: 'new' }), {
      state: 'succeeded',
      items: [{ repository: 'second' }],
    })
    await writeFile(join(folderIn(repositories.second, manifest), 'manifest.json'), '{')
    t.match(await sidecar.run('restore', { backup, target: 'other' }), {
      state: 'failed',
      failure: { code: 'manifest-invalid' },
    })
    t.match(await sidecar.run('restore', { database: 'app', target: 'other' }), {
      state: 'failed',
      failure: { code: 'not-found' },
    })
    t.match(await sidecar.run('restore', { backup, repository: 'third' }), {
      state: 'failed',
      failure: { code: 'not-found', hint: /first, second/ },
    })
    t.match(await sidecar.run('restore', { target: 'other' }), { state: 'succeeded' })
    await drop('other')
  })
})

/** What only `pg_restore --create` carries. */
async function facts(cluster: Cluster, name: string): Promise<unknown> {
  const [row] = await cluster.sql(
    `select pg_get_userbyid(datdba) as owner, pg_encoding_to_char(encoding) as encoding, datcollate, datctype, datlocprovider,
       datconnlimit as limit, (select array_agg(a::text order by a::text) from unnest(datacl) a) as acl, shobj_description(d.oid, 'pg_database') as comment,
       (select jsonb_agg(jsonb_build_array(setrole::regrole::text, setconfig) order by 1) from pg_db_role_setting where setdatabase = d.oid) as settings
     from pg_database d where datname = '${name.replaceAll("'", "''")}'`,
  )
  return row
}
