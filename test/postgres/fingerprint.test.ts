import t, { type Test } from 'tap'
import { compareFingerprints, type Fingerprint, type TableFingerprint } from '../../src/domain/fingerprint.ts'
import { type ConnectionSource, connect, type Session, withSession } from '../../src/postgres/connection.ts'
import { quoteIdentifier, quoteLiteral } from '../../src/postgres/conninfo.ts'
import { fingerprintSettings, retakeFingerprint, takeFingerprint } from '../../src/postgres/fingerprint.ts'
import { type Cluster, startCluster } from '../support/postgres.ts'

const ample = { maxSeconds: 600, maxTableBytes: 1 << 30 }

/** Works in a snapshot, as the dump does. */
async function inSnapshot<T>(
  source: ConnectionSource,
  database: string,
  work: (session: Session) => Promise<T>,
): Promise<T> {
  return withSession(source, { database, settings: fingerprintSettings }, async (session) => {
    await session.query('begin transaction isolation level repeatable read read only')
    return work(session)
  })
}

const take = (source: ConnectionSource, database: string, budget = ample): Promise<Fingerprint> =>
  inSnapshot(source, database, async (session) => {
    const found = await takeFingerprint(session, { budget, monotonic: () => performance.now() })
    await session.query('select 1') // whatever happened, the transaction is alive
    return found
  })

const tableOf = (fingerprint: Fingerprint, name: string, schema = 'public'): TableFingerprint => {
  const found = fingerprint.tables.find((table) => table.name === name && table.schema === schema)
  if (found === undefined) throw new Error(`no table ${name}`)
  return found
}

const isEqual = (expected: Fingerprint, found: Fingerprint) =>
  compareFingerprints(expected, found).filter(({ verdict }) => verdict !== 'pass')

t.test('on a real server', async (t) => {
  const cluster = await startCluster(t)
  await t.test('what makes two tables differ', (t) => differences(t, cluster))
  await t.test('hostile names and unusual tables', (t) => unusualTables(t, cluster))
  await t.test('settings of database and role have no say', (t) => settings(t, cluster))
  await t.test('what the role may not see', (t) => privileges(t, cluster))
  await t.test('time and size', (t) => budgets(t, cluster))
  await t.test('large objects', (t) => largeObjects(t, cluster))
  await t.test('what happens meanwhile', (t) => meanwhile(t, cluster))
})

/** Each pair: the statements that make `a`, those that make `b`, and whether they hold the same rows. */
const pairs: readonly [string, string, string, 'same' | 'other'][] = [
  ['physical order', `select i from generate_series(1, 500) i`, `select i from generate_series(500, 1, -1) i`, 'same'],
  [
    'one value',
    `select i from generate_series(1, 500) i`,
    `select case i when 250 then 999 else i end from generate_series(1, 500) i`,
    'other',
  ],
  ['one row lost', `select i from generate_series(1, 500) i`, `select i from generate_series(1, 499) i`, 'other'],
  ['one for another', `values (1), (1), (2)`, `values (1), (2), (2)`, 'other'],
  ['values swapped between rows', `values (1, 'a'), (2, 'b')`, `values (1, 'b'), (2, 'a')`, 'other'],
  ['values swapped between columns', `values ('a', 'b')`, `values ('b', 'a')`, 'other'],
  ['scale', `select 1.0::numeric`, `select 1.000::numeric`, 'other'],
  ['negative zero', `select 0::float8`, `select '-0'::float8`, 'other'],
  ['last bit of a float', `select 0.1::float8 + 0.2`, `select 0.3::float8`, 'other'],
  ['NaN', `select 'NaN'::float8`, `select 'NaN'::float8`, 'same'],
  ['case of citext', `select 'A'::citext`, `select 'a'::citext`, 'other'],
  ['enum', `select 'low'::mood`, `select 'high'::mood`, 'other'],
  ['white space in json', `select '{"a": 1}'::json`, `select '{"a":1}'::json`, 'other'],
  ['white space in jsonb', `select '{"a": 1}'::jsonb`, `select '{"a":1}'::jsonb`, 'same'],
  ['nothing and empty', `select null::text`, `select ''`, 'other'],
  ['nothing and the word', `select null::text`, `select 'NULL'`, 'other'],
  ['two columns, and one that looks like two', `values ('a', 'b')`, `values ('a,b', '')`, 'other'],
  ['trailing blank', `select 'a'::text`, `select 'a '::text`, 'other'],
  ['composed and decomposed', `select U&'\\00e9'`, `select U&'e\\0301'`, 'other'],
  ['bytes', `select '\\x00ff'::bytea`, `select '\\xff00'::bytea`, 'other'],
  [
    'a microsecond',
    `select timestamptz '2025-01-01 00:00:00.000001+00'`,
    `select timestamptz '2025-01-01 00:00:00+00'`,
    'other',
  ],
  ['the same moment', `select timestamptz '2025-01-01 01:00+01'`, `select timestamptz '2025-01-01 00:00+00'`, 'same'],
  ['months and days', `select interval '1 month'`, `select interval '30 days'`, 'other'],
  ['money', `select '1.23'::money`, `select '1.24'::money`, 'other'],
  ['bits', `select B'0101'`, `select B'101'`, 'other'],
  ['ranges', `select int4range(1, 3)`, `select int4range(1, 4)`, 'other'],
  ['equal ranges', `select int4range(1, 3)`, `select int4range(1, 2, '[]')`, 'same'],
  ['points', `select point(1, 2)`, `select point(2, 1)`, 'other'],
  ['words', `select to_tsvector('simple', 'a b')`, `select to_tsvector('simple', 'b a')`, 'other'],
  ['arrays', `select array[1, null]`, `select array[null, 1]`, 'other'],
  ['lower bounds', `select '[0:1]={1,2}'::int[]`, `select '{1,2}'::int[]`, 'other'],
]

async function differences(t: Test, cluster: Cluster): Promise<void> {
  await cluster.createDatabase('pairs', `create extension citext; create type mood as enum ('low', 'high')`)
  await withSession(cluster.source, { database: 'pairs' }, async (session) => {
    for (const [name, a, b] of pairs) {
      await session.query(
        `create table ${quoteIdentifier(`a ${name}`)} as ${a}; create table ${quoteIdentifier(`b ${name}`)} as ${b}`,
      )
    }
  })
  const fingerprint = await take(cluster.source, 'pairs')
  t.same(new Set(fingerprint.tables.map(({ method }) => method)), new Set(['full']))
  for (const [name, , , expected] of pairs) {
    const [a, b] = [tableOf(fingerprint, `a ${name}`).whole, tableOf(fingerprint, `b ${name}`).whole]
    t.equal(a?.rows === b?.rows && a?.hash === b?.hash ? 'same' : 'other', expected, name)
  }
}

async function unusualTables(t: Test, cluster: Cluster): Promise<void> {
  const schemas = [`it's "x"`, 'new\nline', '-dash', 'Ü😀']
  await cluster.createDatabase(
    'odd',
    'create extension postgres_fdw; create server other foreign data wrapper postgres_fdw',
  )
  const lines = schemas.map((name) => {
    const quoted = quoteIdentifier(name)
    return `create schema ${quoted}; create table ${quoted}.${quoted} (${quoted} int); insert into ${quoted}.${quoted} values (1)`
  })
  await cluster.sql(
    `${lines.join(';')};
    create table alias (row_ int, row__ int, other text); insert into alias values (1, 2, 'a');
    create table alias2 (row_ int, row__ int, other text); insert into alias2 values (1, 2, 'b');
    create table empty (i int); create table none (); insert into none default values; insert into none default values;
    create table generated (i int, j int generated always as (i * 2) stored); insert into generated values (2);
    create table dropped (i int, j text, k int); insert into dropped values (1, 'x', 2); alter table dropped drop column j;
    create unlogged table unlogged (i int); insert into unlogged values (1);
    create temp table temporary (i int);
    create table parted (i int, t text) partition by list (i);
    create table parted_1 partition of parted for values in (1);
    create table parted_d partition of parted default partition by range (t);
    create table parted_d_1 partition of parted_d default;
    insert into parted values (1, 'a'), (2, 'b'), (3, 'c');
    create table parent (i int); create table child (j int) inherits (parent);
    insert into parent values (1); insert into child values (2, 2), (3, 3);
    create materialized view stored as select * from parent; create materialized view bare as select 1 with no data;
    create view looked as select 1 / 0 as boom; create foreign table away (i int) server other;
    create table forms (c alias, a alias[]); insert into forms values ((1, 2, 'z'), array[(1, 2, 'z')::alias]);
    create function spy(alias2) returns text language plpgsql as $$ begin raise exception 'spied'; end $$;
    create cast (alias2 as text) with function spy(alias2)`,
    'odd',
  )
  const fingerprint = await take(cluster.source, 'odd')
  const found = Object.fromEntries(
    fingerprint.tables.map(({ name, whole, method }) => [name, method === 'full' ? whole?.rows : method]),
  )
  t.same(found, {
    ...Object.fromEntries(schemas.map((name) => [name, 1])),
    ...{ alias: 1, alias2: 1, empty: 0, none: 2, generated: 1, dropped: 1, unlogged: 1, parted_1: 1, parted_d_1: 2 },
    ...{ parent: 1, child: 2, forms: 1 },
  })
  t.not(tableOf(fingerprint, 'alias').whole?.hash, tableOf(fingerprint, 'alias2').whole?.hash, 'the whole row counts')
  t.same(tableOf(fingerprint, 'empty').whole, { rows: 0, hash: '0' })
  t.same(isEqual(fingerprint, await take(cluster.source, 'odd')), [])
}

async function settings(t: Test, cluster: Cluster): Promise<void> {
  await cluster.createDatabase(
    'formats',
    `create role formatter superuser login;
    create table x as select date '2025-02-03' as d, timestamptz '2025-02-03 04:05:06+00' as z, interval '1 day 2 hours' as i,
      0.1::float8 + 0.2 as f, '\\x01ff'::bytea as b, '1234.5'::money as m, 'pg_class'::regclass as c, '<a/>'::xml as x, time '1:00' as t`,
  )
  const before = await take(cluster.source, 'formats')
  const hostile: Record<string, string> = {
    DateStyle: 'German',
    IntervalStyle: 'sql_standard',
    TimeZone: 'Asia/Kathmandu',
    extra_float_digits: '-15',
    bytea_output: 'escape',
    search_path: 'evil, pg_catalog',
    row_security: 'on',
    default_transaction_read_only: 'on',
    client_encoding: 'LATIN1',
    standard_conforming_strings: 'off',
    xmloption: 'document',
    quote_all_identifiers: 'on',
  }
  await cluster.sql(
    `create schema evil; create function evil.count(out int) language sql as 'select 666'; create table evil.pg_class (oid int);
    create function evil.hashtextextended(text, int) returns bigint language sql as 'select 1::bigint'`,
    'formats',
  )
  const withSchema = await take(cluster.source, 'formats')
  for (const [name, value] of Object.entries(hostile)) {
    await cluster.sql(`alter database formats set ${name} = ${name === 'search_path' ? value : quoteLiteral(value)};
      alter role formatter set ${name} = ${name === 'search_path' ? value : quoteLiteral(value)}`)
  }
  for (const source of [cluster.source, cluster.as('formatter')]) {
    const after = await take(source, 'formats')
    t.same(tableOf(after, 'x').whole, tableOf(before, 'x').whole, source.user)
    t.same(
      isEqual(withSchema, after).map(({ name }) => name),
      ['settings'],
    )
  }
  t.equal(before.settings.length, 0)
  const after = await take(cluster.source, 'formats')
  t.equal(after.settings.length, Object.keys(hostile).length)
  t.ok(after.settings.includes('DateStyle=German') || after.settings.includes('datestyle=German'))
}

async function privileges(t: Test, cluster: Cluster): Promise<void> {
  await cluster.createDatabase(
    'guarded',
    `create role owner_ login; create role reader login;
    create table open (i int); insert into open values (1); create table closed (i int); insert into closed values (1);
    create table zz_open (i int); insert into zz_open values (1);
    create table policed (i int); insert into policed values (1), (2);
    grant select on open, policed, zz_open to reader;
    alter table policed owner to owner_; alter table policed enable row level security; alter table policed force row level security;
    create policy p on policed using (i = 1)`,
  )
  for (const [user, rows] of [
    ['postgres', 2],
    ['owner_', null],
    ['reader', null],
  ] as const) {
    const found = tableOf(await take({ ...cluster.source, user }, 'guarded'), 'policed')
    if (rows === null) t.match(found, { method: 'unknown', reason: /row-level security|permission denied/ }, user)
    else t.equal(found.whole?.rows, rows)
  }
  const found = await take(cluster.as('reader'), 'guarded')
  t.match(
    tableOf(found, 'policed'),
    { method: 'unknown', reason: /row-level security/ },
    'never a count of the visible',
  )
  t.match(tableOf(found, 'closed'), { method: 'unknown', reason: /permission denied/ })
  t.equal(tableOf(found, 'open').whole?.rows, 1)
  t.equal(tableOf(found, 'zz_open').whole?.rows, 1, 'the next one is hashed all the same')
  const unknown = found.tables.filter(({ method }) => method === 'unknown')
  t.equal(unknown.length, 2)
  t.same(isEqual(found, await take(cluster.source, 'guarded')), [], 'what was compared is equal')
}

async function budgets(t: Test, cluster: Cluster): Promise<void> {
  const max = '9223372036854775807'
  const min = '-9223372036854775808'
  await cluster.createDatabase(
    'big',
    `create table dense (id int primary key, v text); insert into dense select i, repeat('x', 50) from generate_series(1, 20000) i;
    create table sparse (v text, id bigint primary key);
    insert into sparse select repeat('x', 50), i from generate_series(-5000, 5000) i;
    insert into sparse values ('min', ${min}), ('max', ${max}), ('mid', 4611686018427387904);
    create table "Odd ""key""" ("the ""id""" smallint primary key, row_ text); insert into "Odd ""key""" select i, repeat('x', 100) from generate_series(-3000, 3000) i;
    create table keyless (v text); insert into keyless select repeat('x', 50) from generate_series(1, 10000);
    create table texts (id text primary key, v text); insert into texts select i, repeat('x', 50) from generate_series(1, 10000) i;
    create table twokeys (a int, b int, v text, primary key (a, b)); insert into twokeys select i, i, repeat('x', 50) from generate_series(1, 10000) i;
    create table emptied (id int primary key, v text); insert into emptied select i, repeat('x', 50) from generate_series(1, 10000) i;
    create table small (i int); insert into small values (1)`,
  )
  await cluster.sql('vacuum', 'big')
  await cluster.sql('delete from emptied', 'big')
  const budget = { maxSeconds: 600, maxTableBytes: 300_000 }
  const before = await take(cluster.source, 'big', budget)
  t.match(tableOf(before, 'small'), { method: 'full' })
  for (const name of ['keyless', 'texts', 'twokeys']) {
    t.match(tableOf(before, name), { method: 'unknown', reason: /size budget/ }, name)
  }
  t.match(
    tableOf(before, 'emptied'),
    { method: 'full', whole: { rows: 0, hash: '0' } },
    'no range would compare nothing',
  )
  for (const [name, share] of [
    ['dense', 0.35],
    ['sparse', 0.6],
    ['Odd "key"', 0.6],
  ] as const) {
    const { method, ranges = [] } = tableOf(before, name)
    t.equal(method, 'ranges', name)
    const rows = ranges.map((range) => range.rows)
    t.ok(
      rows.every((count) => count > 0),
      `${name}: no range is empty: ${rows.join(' ')}`,
    )
    const total = rows.reduce((sum, count) => sum + count, 0)
    const [all] = await cluster.sql<{ n: string }>(`select count(*) as n from ${quoteIdentifier(name)}`, 'big')
    t.ok(total < share * Number(all?.n) && total > 50, `${name}: ${total} of ${all?.n}`)
    const bounds = ranges.map(({ from, to }) => [BigInt(from), BigInt(to)] as const)
    t.ok(
      bounds.every(([from, to], i) => from <= to && (i === 0 || from > (bounds[i - 1]?.[1] ?? from))),
      'apart, in order',
    )
  }
  const sparse = tableOf(before, 'sparse').ranges
  t.equal(sparse?.[0]?.from, min)
  t.equal(sparse?.at(-1)?.to, max, 'the end of the table is always looked at')

  const retake = () => inSnapshot(cluster.source, 'big', (session) => retakeFingerprint([session], before))
  t.same(isEqual(before, await retake()), [])
  await cluster.sql(`delete from dense where id = 20000`, 'big')
  t.match(isEqual(before, await retake()), [{ name: 'rows', verdict: 'fail', detail: /public\.dense has/ }])
  await cluster.sql(
    `insert into dense values (20000, repeat('x', 50)); update sparse set v = 'other' where id = ${max}`,
    'big',
  )
  t.match(isEqual(before, await retake()), [{ detail: /public\.sparse has \d+ rows, but not the same/ }])
  await cluster.sql(
    `update sparse set v = 'max' where id = ${max}; alter table dense drop constraint dense_pkey; insert into emptied values (1)`,
    'big',
  )
  const changed = await retake()
  t.match(tableOf(changed, 'dense'), { method: 'unknown', reason: 'its primary key differs' })
  t.match(isEqual(before, changed)[0], { detail: /public\.emptied has 1 rows instead of 0/ })

  const none = await take(cluster.source, 'big', { ...ample, maxSeconds: 0 })
  t.ok(none.tables.every(({ method, reason }) => method === 'unknown' && reason === 'time budget used up'))
  await cluster.createDatabase(
    'slow',
    `create table a (i int); insert into a values (1);
    -- A gigabyte of text in few pages, as it is copied compressed: slow to read on any machine, and quick to make.
    create table slow as select repeat('slow', 25000) as v;
    insert into slow select v from slow, generate_series(1, 9999); select lo_create(77)`,
  )
  for (let index = 0; index < 3; index += 1) {
    const found = await take(cluster.source, 'slow', { ...ample, maxSeconds: 0.12 })
    t.match(tableOf(found, 'slow'), { method: 'unknown', reason: 'time budget used up' })
    t.match(tableOf(found, 'a').method, 'full')
  }
  const progress: unknown[] = []
  await inSnapshot(cluster.source, 'slow', (session) =>
    takeFingerprint(session, {
      budget: ample,
      monotonic: () => 0,
      onProgress: (done, total, table) => progress.push([done === total, table]),
    }),
  )
  t.same(progress, [
    [false, 'public.a'],
    [true, 'public.slow'],
  ])
}

async function largeObjects(t: Test, cluster: Cluster): Promise<void> {
  await cluster.createDatabase(
    'los',
    `select lo_from_bytea(101, 'abc'); select lo_create(102); select lo_create(103); select lo_put(103, 70000000, 'end')`,
  )
  const first = await take(cluster.source, 'los')
  t.equal(first.largeObjects?.rows, 3)
  t.equal(first.objects['large object'], 3)
  const changed = async (sql: string) => {
    await cluster.sql(sql, 'los')
    return (await take(cluster.source, 'los')).largeObjects
  }
  t.not((await changed(`select lo_put(103, 35000000, '\\x01')`))?.hash, first.largeObjects?.hash)
  t.same(
    await changed(`select lo_put(103, 35000000, '\\x00')`),
    first.largeObjects,
    'a hole and written zeros are the same',
  )
  t.not(
    (await changed(`select lo_unlink(102); select lo_create(104)`))?.hash,
    first.largeObjects?.hash,
    'another number',
  )
  await cluster.sql('create role lo_reader login')
  const blind = await take(cluster.as('lo_reader'), 'los')
  t.equal(blind.largeObjects, null)
  t.match(blind.warnings, [/large objects were not fingerprinted: permission denied/])
  const retaken = await inSnapshot(cluster.source, 'los', (session) => retakeFingerprint([session], blind))
  t.match(isEqual(blind, retaken), [{ name: 'large objects', verdict: 'inconclusive' }], 'not looked at is not equal')
  t.same((await take(cluster.source, 'postgres')).largeObjects, { rows: 0, hash: '0' })
}

async function meanwhile(t: Test, cluster: Cluster): Promise<void> {
  await cluster.createDatabase(
    'moving',
    'create table going (i int); create table staying (i int); insert into staying values (1)',
  )
  const options = { budget: ample, monotonic: () => performance.now() }
  await inSnapshot(cluster.source, 'moving', async (session) => {
    await session.query('select 1')
    await cluster.sql('insert into staying values (2); drop table going; create table coming (i int)', 'moving')
    const found = await takeFingerprint(session, options)
    t.match(tableOf(found, 'going'), { method: 'unknown', reason: /does not exist/ })
    t.equal(tableOf(found, 'staying').whole?.rows, 1, 'as the snapshot has it')
    t.equal(found.tables.length, 2)
    await session.query('select 1')
  })
  const session = await connect(cluster.source, { database: 'moving', settings: fingerprintSettings })
  await session.query('begin transaction isolation level repeatable read read only')
  const [row] = await session.query<{ pid: number }>('select pg_backend_pid() as pid')
  await cluster.sql(`select pg_terminate_backend(${row?.pid}, 5000)`)
  await t.rejects(
    takeFingerprint(session, options),
    { code: 'server-unreachable' },
    'a lost session is no unknown table',
  )
  await session.close()
  const aborted = new AbortController()
  await withSession(cluster.source, { database: 'moving', signal: aborted.signal }, async (one) => {
    await one.query('begin transaction isolation level repeatable read read only')
    const taking = takeFingerprint(one, { ...options, onProgress: () => aborted.abort(new Error('enough')) })
    await t.rejects(taking, { message: 'enough' })
  })
  const source = await take(cluster.source, 'moving')
  const sessions = await Promise.all(
    [1, 2, 3].map(() => connect(cluster.source, { database: 'moving', settings: fingerprintSettings })),
  )
  const many = await retakeFingerprint(sessions as [Session, ...Session[]], source).catch((error: unknown) => error)
  t.match(many, { details: { sqlState: '25P01' } }, 'a savepoint needs a transaction')
  for (const one of sessions) await one.query('begin')
  t.same(isEqual(source, await retakeFingerprint(sessions as [Session, ...Session[]], source)), [])
  await Promise.all(sessions.map((one) => one.close()))
}
