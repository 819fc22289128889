import t from 'tap'
import { connect, withSession } from '../../src/postgres/connection.ts'
import { fingerprintSettings, takeFingerprint } from '../../src/postgres/fingerprint.ts'
import { listTables } from '../../src/postgres/fingerprint-catalog.ts'
import { lockTables } from '../../src/postgres/fingerprint-locks.ts'
import { sequencesBehind } from '../../src/postgres/sequences.ts'
import { startCluster } from '../support/postgres.ts'

t.test('locks of a fingerprint', async (t) => {
  const cluster = await startCluster(t)
  const tables = Array.from(
    { length: 450 },
    (_, index) => `create table "t ""${index}" (id int primary key, v int unique)`,
  )
  await cluster.createDatabase('app', `${tables.join(';')}; insert into "t ""7" values (1, 1)`)
  const session = await connect(cluster.source, { database: 'app', settings: fingerprintSettings })
  t.teardown(() => session.close())
  const held = async () => {
    const [row] = await session.query<{ locks: number }>(
      `select count(*)::int as locks from pg_locks where pid = pg_backend_pid() and locktype = 'relation' and relation >= 16384`,
    )
    return row?.locks
  }
  await session.query('begin transaction isolation level repeatable read read only')
  const listed = await listTables(session)
  t.equal(listed.length, 450)
  await lockTables(session, listed)
  t.equal(await held(), 450, 'one for each table')

  await t.test('keep a table from being changed until the dump has ended', async (t) => {
    const alter = withSession(cluster.source, { database: 'app' }, async (other) => {
      await other.query(`set lock_timeout = '200ms'`)
      await other.query(`alter table "t ""7" add column note text default 'x'`)
    })
    t.match(await alter.catch((error: unknown) => error), { details: { sqlState: '55P03' } })
    await withSession(cluster.source, { database: 'app' }, (other) => other.query(`insert into "t ""7" values (2, 2)`))
  })

  await t.test('those taken for hashing are given back', async (t) => {
    const budget = { maxSeconds: 60, maxTableBytes: 2 ** 30 }
    const fingerprint = await takeFingerprint(session, { budget, monotonic: () => 0 })
    t.equal(fingerprint.tables.length, 450)
    t.match(
      fingerprint.tables.find(({ name }) => name === 't "7'),
      { method: 'full', whole: { rows: 1 } },
      'in the snapshot',
    )
    t.equal(await held(), 450, 'no index is locked any more')
  })
  await session.query('rollback')

  await t.test('a table that is gone costs the others nothing', async (t) => {
    await session.query('begin transaction isolation level repeatable read read only')
    const before = await listTables(session)
    await cluster.sql('drop table "t ""3"', 'app')
    await lockTables(session, before)
    t.equal(await held(), 449)
    await session.query('rollback')
  })
})

t.test("a sequence of a foreign table is nobody's business here", async (t) => {
  const cluster = await startCluster(t)
  await cluster.createDatabase(
    'app',
    `create extension postgres_fdw;
     create server elsewhere foreign data wrapper postgres_fdw options (host '192.0.2.1', connect_timeout '2');
     create foreign table remote (id serial, name text) server elsewhere;
     create table local (id serial, name text); insert into local values (5, 'x')`,
  )
  const behind = await withSession(cluster.source, { database: 'app' }, sequencesBehind)
  t.same(behind, ['local_id_seq'])
})
