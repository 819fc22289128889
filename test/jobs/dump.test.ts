import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { Fingerprint } from '../../src/domain/fingerprint.ts'
import { connect } from '../../src/postgres/connection.ts'
import { type Cluster, startCluster } from '../support/postgres.ts'
import { startSidecar } from '../support/sidecar.ts'
import { killPrograms, noSessions, stall } from '../support/stall.ts'

const hostileNames = [
  `it's "quoted"`,
  'two words\nand a line',
  '-leading --dash=x',
  'ünïcødé 美咲 🛟',
  'postgresql://evil@nowhere/x',
  'host=nowhere dbname=x',
  '$(touch /tmp/x); `id` %s \\',
]

/** pg_dump reads it when it has begun and before its workers connect; nobody else does. */
const heldTable = 'pg_ts_template'
const inPgDump = '%pg_ts_template%'

t.test('PostgreSQL 15', { timeout: 100_000 }, async (t) => {
  const cluster = await startCluster(t, { tcp: true })
  await cluster.createDatabase(
    'app',
    `create table t (id bigint generated always as identity primary key, v text);
     insert into t (v) select repeat(md5(i::text), 10) from generate_series(1, 5000) i`,
  )

  t.test('every database, whatever its name', async (t) => {
    for (const name of hostileNames) await cluster.createDatabase(name, 'create table t as select 1 as i')
    t.teardown(() => dropAll(cluster, hostileNames))
    const sidecar = await startSidecar(t, cluster)
    const run = await sidecar.run('dump')
    const names = [...hostileNames, 'app', 'postgres'].sort()
    t.match(run, { state: 'succeeded', failure: null })
    t.same(
      run.items.map(({ outcome, database }) => `${outcome} ${database}`).sort(),
      names.map((name) => `succeeded ${name}`),
    )
    t.same((await sidecar.manifests()).map(({ database }) => String(database?.name)).sort(), names)
    const proven = await sidecar.run('verify', { level: 'artifact' })
    t.match(proven, { state: 'succeeded', failure: null })
    t.equal(proven.items.length, names.length)
    t.same(await sidecar.leftovers(), [])
  })

  t.test('one that is written to all the time is equal when restored', async (t) => {
    const sidecar = await startSidecar(t, cluster, { databases: ['app'] })
    const writer = await connect(cluster.source, { database: 'app' })
    let writing = true
    const written = (async () => {
      let count = 0
      for (; writing; count += 1) {
        await writer.query(`insert into t (v) values ('${count}')`)
        if (count % 3 === 0) await writer.query(`update t set v = v || 'x' where id = 1 + ${count} % 5000`)
        if (count % 5 === 0) await writer.query(`delete from t where id = 2 + ${count} % 5000`)
      }
      return count
    })()
    const run = await sidecar.run('dump')
    writing = false
    t.ok((await written) > 10)
    await writer.close()
    t.match(run, { state: 'succeeded' })
    const [manifest] = await sidecar.manifests()
    if (manifest === undefined) return t.fail('there is no backup')
    const fingerprint = JSON.parse(
      await readFile(join(sidecar.folder(manifest), 'fingerprint.json'), 'utf8'),
    ) as Fingerprint
    const [now] = await cluster.sql<{ max: number }>('select max(id)::int as max from t', 'app')
    const rows = fingerprint.tables[0]?.whole?.rows ?? 0
    t.ok(rows > 1000 && rows < (now?.max ?? 0), 'rows came after the snapshot')
    t.match(await sidecar.run('verify'), { state: 'succeeded', items: [{ verdict: 'pass' }] })
  })

  t.test('the manifest, and the same bytes in every repository', async (t) => {
    const sidecar = await startSidecar(t, cluster, {
      databases: ['app'],
      repositories: { one: `${t.testdir({ one: {} })}/one`, two: join(t.testdirName, 'made when missing') },
    })
    t.match(await sidecar.run('dump'), {
      state: 'succeeded',
      items: [
        { repository: 'one', outcome: 'succeeded', database: 'app', backupType: 'dump' },
        { repository: 'two', outcome: 'succeeded' },
      ],
    })
    const [one, two] = sidecar.core.repositories
    const [manifest] = await sidecar.manifests(one?.repository)
    const [other] = await sidecar.manifests(two?.repository)
    if (manifest === undefined || other === undefined) return t.fail('there are not two backups')
    t.same(other.artifacts, manifest.artifacts)
    t.equal(other.backupId, manifest.backupId)
    const [facts] = await cluster.sql<{ id: string; num: string; size: string }>(
      `select system_identifier::text as id, current_setting('server_version_num') as num, pg_database_size('app')::text as size from pg_control_system()`,
    )
    t.match(manifest, {
      type: 'dump',
      cluster: 'test',
      systemIdentifier: facts?.id,
      serverVersionNum: Number(facts?.num),
      timeline: 1,
      parent: null,
      database: { name: 'app' },
      producer: { lifeboat: '0.0.0-test', options: ['--format=directory', '--jobs=2', '--compress=1'] },
      warnings: [],
    })
    t.match(manifest.producer.programs, { pg_dump: /^15\./, pg_dumpall: /^15\./ })
    t.same(
      manifest.artifacts.map(({ name }) => name),
      ['dump.tar', 'fingerprint.json', 'globals.sql', 'RESTORE.md'],
    )
    t.ok(Date.parse(manifest.start.time) <= Date.parse(manifest.stop.time))
    t.ok(Math.abs(Date.now() - Date.parse(manifest.start.time)) < 120_000)
    t.ok(manifest.durationSeconds > 0)
    const fingerprint = JSON.parse(
      await readFile(join(sidecar.folder(manifest), 'fingerprint.json'), 'utf8'),
    ) as Fingerprint
    t.ok(Date.parse(fingerprint.takenAt) - Date.parse(manifest.start.time) < 5000)
  })

  t.test('a repository that fails takes no other along', async (t) => {
    const directory = t.testdir({ file: 'in the way', good: {} })
    const sidecar = await startSidecar(t, cluster, {
      databases: ['app', 'postgres'],
      repositories: { bad: join(directory, 'file'), good: join(directory, 'good') },
    })
    const run = await sidecar.run('dump')
    t.match(run, {
      state: 'failed',
      failure: { code: 'storage-failed', message: /^2 of 2 .* everywhere: "app" in bad \(.*; "postgres" in bad \(/ },
    })
    t.same(run.items.map(({ database, repository, outcome }) => `${database} ${repository} ${outcome}`).toSorted(), [
      'app bad failed',
      'app good succeeded',
      'postgres bad failed',
      'postgres good succeeded',
    ])
    t.equal((await sidecar.manifests(sidecar.core.repositories[1]?.repository)).length, 2)
  })

  t.test('a listed database that does not exist', async (t) => {
    const sidecar = await startSidecar(t, cluster, { databases: ['app', 'no "such"'] })
    const run = await sidecar.run('dump')
    t.match(run, { state: 'failed', failure: { code: 'database-missing', hint: 'correct postgres.databases' } })
    t.match(run.items, [
      { database: 'app', outcome: 'succeeded' },
      { database: 'no "such"', outcome: 'failed', failure: { code: 'database-missing' } },
    ])
    t.match(await sidecar.run('dump', { database: 'nor this' }), {
      failure: { code: 'database-missing', message: /"nor this" does not exist/ },
    })
  })

  t.test('roles with their passwords, memberships and settings', async (t) => {
    await cluster.sql(`create role "we""ird -role" login password 'secret' valid until '2030-01-01';
      create role boss; grant boss to "we""ird -role" with admin option;
      alter role "we""ird -role" set work_mem = '7MB'; alter role "we""ird -role" in database app set statement_timeout = '9s'`)
    t.teardown(() => cluster.sql(`drop role "we""ird -role"; drop role boss`))
    const sidecar = await startSidecar(t, cluster, { databases: ['app'] })
    t.match(await sidecar.run('dump'), { state: 'succeeded' })
    const [manifest] = await sidecar.manifests()
    if (manifest === undefined) return t.fail('there is no backup')
    const globals = await readFile(join(sidecar.folder(manifest), 'globals.sql'), 'utf8')
    t.match(globals, /^-- Lifeboat: bootstrap superuser "postgres"\n/)
    t.match(globals, /CREATE ROLE "we""ird -role"/)
    t.match(globals, /PASSWORD 'SCRAM-SHA-256\$/)
    t.match(globals, /GRANT boss TO "we""ird -role" WITH ADMIN OPTION/)
    t.match(globals, /SET work_mem TO '7MB'/)
  })

  t.test('roles that come while roles are dumped', async (t) => {
    const sidecar = await startSidecar(t, cluster, { databases: ['app'] })
    const held = await stall(cluster, 'postgres', 'pg_parameter_acl')
    const { ended } = sidecar.begin('dump')
    await held.waiting(ended, '%pg_parameter_acl%')
    await cluster.sql('create role latecomer')
    t.teardown(() => cluster.sql('drop role latecomer'))
    await held.release()
    t.match(await ended, { state: 'succeeded' })
    const [manifest] = await sidecar.manifests()
    if (manifest === undefined) return t.fail('there is no backup')
    t.match(await readFile(join(sidecar.folder(manifest), 'globals.sql'), 'utf8'), /CREATE ROLE latecomer/)
  })

  t.test('the least role that works, and what it cannot see', async (t) => {
    await cluster.sql(`create role least login bypassrls password 'p' in role pg_monitor, pg_read_all_data;
      alter role least set lo_compat_privileges = on;
      create role granted login bypassrls password 'p'; alter role granted set lo_compat_privileges = on`)
    t.teardown(() => cluster.sql('drop role least; drop role granted'))
    await cluster.sql(
      `select lo_from_bytea(4711, 'large'); create table secret as select 1 as i; alter table secret enable row level security; alter table secret force row level security`,
      'app',
    )
    t.teardown(() => cluster.sql('select lo_unlink(4711); drop table secret', 'app'))
    const sidecar = await startSidecar(t, cluster, { databases: ['app'], source: cluster.as('least', 'p') })
    t.match(await sidecar.run('dump'), { state: 'succeeded' })
    const [manifest] = await sidecar.manifests()
    if (manifest === undefined) return t.fail('there is no backup')
    t.same(manifest.warnings, [])
    const fingerprint = JSON.parse(
      await readFile(join(sidecar.folder(manifest), 'fingerprint.json'), 'utf8'),
    ) as Fingerprint
    t.match(
      fingerprint.tables.find(({ name }) => name === 'secret'),
      { method: 'full', whole: { rows: 1 } },
    )
    t.equal(fingerprint.largeObjects?.rows, 1)

    await cluster.createDatabase('plain', 'create table t as select 1 as i; grant select on t to granted')
    t.teardown(() => cluster.sql('drop database plain'))
    const without = await startSidecar(t, cluster, { databases: ['plain'], source: cluster.as('granted', 'p') })
    t.match(await without.run('dump'), { state: 'succeeded' })
    const [bare] = await without.manifests()
    if (bare === undefined) return t.fail('there is no backup')
    t.match(bare.warnings, ['globals.sql has no password hashes: the role may not read pg_authid'])
    t.notMatch(await readFile(join(without.folder(bare), 'globals.sql'), 'utf8'), /PASSWORD/)

    await cluster.sql('alter role least nobypassrls')
    const blind = await sidecar.run('dump')
    t.match(blind, { state: 'failed', failure: { code: 'program-failed', message: /row-level security/ } })
    await cluster.sql('revoke pg_read_all_data from least')
    t.match(await sidecar.run('dump'), { state: 'failed', failure: { message: /permission denied/ } })
    t.equal((await sidecar.manifests()).length, 1)
  })

  t.test('wrong password, and one that is revoked halfway', async (t) => {
    await cluster.sql(`create role fickle login superuser password 'p'`)
    t.teardown(() => cluster.sql('drop role fickle'))
    const wrong = await startSidecar(t, cluster, { source: cluster.as('fickle', 'q') })
    t.match(await wrong.run('dump'), {
      state: 'failed',
      failure: { code: 'server-authentication', message: /password authentication failed/, hint: /passwordFile/ },
    })
    const sidecar = await startSidecar(t, cluster, { databases: ['app'], source: cluster.as('fickle', 'p') })
    const held = await stall(cluster, 'app', heldTable)
    const { ended } = sidecar.begin('dump')
    await held.waiting(ended, inPgDump)
    await cluster.sql(`alter role fickle password 'other'`)
    await held.release() // pg_dump's workers connect now
    // Once in a while the worker that was refused ends before it has said why, and another one only says that it lost the server.
    t.match(await ended, { state: 'failed', failure: { code: /^server-(authentication|unreachable)$/ } })
    t.same(await sidecar.leftovers(), [])
    t.same(await sidecar.manifests(), [])
    await noSessions(cluster)
  })

  t.test('dropped while it is dumped', async (t) => {
    await cluster.createDatabase('doomed', 'create table t as select 1 as i')
    const sidecar = await startSidecar(t, cluster, { databases: ['doomed', 'postgres'] })
    const held = await stall(cluster, 'doomed', heldTable)
    const { ended } = sidecar.begin('dump')
    await held.waiting(ended, inPgDump)
    await cluster.sql('drop database doomed with (force)')
    const run = await ended
    t.match(run, { state: 'failed', failure: { code: 'database-missing' } })
    t.match(run.items, [
      {
        database: 'doomed',
        outcome: 'failed',
        failure: { message: 'database "doomed" was dropped while it was dumped' },
      },
      { database: 'postgres', outcome: 'succeeded' },
    ])
    t.same(await sidecar.leftovers(), [])
  })

  const interruptions: Record<string, { code: string; act: (cluster: Cluster) => Promise<unknown> }> = {
    'pg_dump is killed': {
      code: 'program-failed',
      act: ({ source }) => killPrograms('pg_dump', source.host),
    },
    'the exporting session is ended': {
      code: 'server-unreachable',
      act: () =>
        cluster.sql(
          `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'lifeboat' and datname = 'app' and query not ilike '%pg_ts_template%'`,
        ),
    },
  }
  for (const [what, { code, act }] of Object.entries(interruptions)) {
    t.test(what, async (t) => {
      const sidecar = await startSidecar(t, cluster, { databases: ['app', 'postgres'] })
      const held = await stall(cluster, 'app', heldTable)
      const { ended } = sidecar.begin('dump')
      await held.waiting(ended, inPgDump)
      await act(cluster)
      const run = await ended
      t.match(run, { state: 'failed', failure: { code } })
      t.match(run.items, [
        { database: 'app', outcome: 'failed', failure: { code } },
        { database: 'postgres', outcome: 'succeeded' },
      ])
      await held.release()
      t.same(await sidecar.leftovers(), [])
      await noSessions(cluster)
    })
  }

  t.test('cancelled, timed out, shut down', async (t) => {
    const sidecar = await startSidecar(t, cluster, {
      databases: ['app'],
      adjust: (config) => ({ ...config, dump: { ...config.dump, timeoutSeconds: 2 } }),
    })
    const held = await stall(cluster, 'app', heldTable)
    const slow = await sidecar.run('dump')
    t.match(slow, {
      state: 'failed',
      failure: { code: 'timed-out' },
      items: [{ outcome: 'failed', failure: { code: 'timed-out' } }],
    })
    t.equal(slow.items.length, 1)
    t.same(await sidecar.leftovers(), [])
    const { id, ended } = sidecar.begin('dump')
    await held.waiting(ended, inPgDump)
    sidecar.core.runner.cancel(id)
    t.match(await ended, { state: 'cancelled', items: [] })
    t.same(await sidecar.leftovers(), [])
    const last = sidecar.begin('dump')
    await held.waiting(last.ended, inPgDump)
    await sidecar.core.close()
    t.match(await last.ended, { state: 'failed', failure: { code: 'interrupted' } })
    t.same(await sidecar.leftovers(), [])
    await held.release()
    await noSessions(cluster)
  })

  t.test('the server restarts halfway', async (t) => {
    const sidecar = await startSidecar(t, cluster, { databases: ['app'] })
    const held = await stall(cluster, 'app', heldTable)
    const { ended } = sidecar.begin('dump')
    await held.waiting(ended, inPgDump)
    await cluster.server.stop('immediate')
    const run = await ended
    t.match(run, { state: 'failed', failure: { code: 'server-unreachable', hint: /./ } })
    t.match(await sidecar.run('dump'), { state: 'failed', failure: { code: 'server-unreachable' }, items: [] })
    t.same(await sidecar.leftovers(), [])
    await cluster.server.start()
    t.match(await sidecar.run('dump'), { state: 'succeeded' })
  })
})

async function dropAll(cluster: Cluster, names: readonly string[]): Promise<void> {
  for (const name of names) await cluster.sql(`drop database "${name.replaceAll('"', '""')}"`)
}
