import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { compareFingerprints } from '../../src/domain/fingerprint.ts'
import { clientEnvironment } from '../../src/postgres/client-environment.ts'
import { connect, type Session, withSession } from '../../src/postgres/connection.ts'
import { quoteIdentifier, quoteLiteral } from '../../src/postgres/conninfo.ts'
import { databaseStatements, renameDatabase } from '../../src/postgres/database-statements.ts'
import { chooseCompression, dumpDatabase, exportSnapshot, WarningLines } from '../../src/postgres/dump.ts'
import { decodeScript } from '../../src/postgres/encodings.ts'
import { fingerprintSettings, retakeFingerprint, takeFingerprint } from '../../src/postgres/fingerprint.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { dumpAsScript, listContents, readWholeDump, restoreDump, restoreSettings } from '../../src/postgres/restore.ts'
import { compareSequences, parseSetvals, sequencesBehind } from '../../src/postgres/sequences.ts'
import { type Cluster, startCluster } from '../support/postgres.ts'
import { scratchDirectory } from '../support/scratch.ts'

const { signal } = new AbortController()
const everything = await readFile(join(import.meta.dirname, 'fixtures/every-object.sql'), 'utf8')
const name = `it's "the" \\ database; drop -- in`

interface Dumped {
  readonly directory: string
  readonly folder: string
  readonly env: Record<string, string>
  readonly fingerprint: Awaited<ReturnType<typeof takeFingerprint>>
  readonly warnings: readonly string[]
}

/** Dumps as the job does: a session holds the snapshot in which fingerprint and pg_dump work. */
async function dump(
  t: Test,
  cluster: Cluster,
  database: string,
  { jobs = 2, during = async () => {} } = {},
): Promise<Dumped> {
  const folder = await scratchDirectory(t)
  const env = await clientEnvironment({ source: cluster.source, serverMajor: cluster.major, workFolder: folder })
  const directory = join(folder, 'dump')
  const settings = fingerprintSettings
  return withSession(cluster.source, { database, settings }, async (session) => {
    const { id, lsn } = await exportSnapshot(session)
    t.match(lsn, /^[0-9A-F]+\/[0-9A-F]+$/)
    await during()
    const tables: string[] = []
    const warnings = await dumpDatabase({
      installation: cluster.installation,
      source: cluster.source,
      env,
      database,
      snapshot: id,
      directory,
      jobs,
      compression: await chooseCompression(cluster.installation),
      signal,
      onTable: (table) => tables.push(table),
    })
    const budget = { maxSeconds: 600, maxTableBytes: 1 << 30 }
    const fingerprint = await takeFingerprint(session, { budget, monotonic: () => performance.now() })
    // (Several workers write to one stderr, and tear each other's lines.)
    const names = fingerprint.tables.map((table) => `${table.schema}.${table.name}`)
    if (jobs === 1) t.same(names.toSorted(), tables.toSorted(), 'each table is told of')
    return { directory, folder, env, fingerprint, warnings }
  })
}

/** Restores under another name, as `lifeboat restore` does. */
async function restore(cluster: Cluster, dumped: Dumped, from: string, to: string): Promise<readonly string[]> {
  const { installation } = cluster
  const statements = await databaseStatements({ ...dumped, installation, signal, from, to, extraArgs: [] })
  for (const statement of statements) await cluster.sql(statement)
  const env = await clientEnvironment({
    source: cluster.source,
    serverMajor: cluster.major,
    workFolder: dumped.folder,
    settings: restoreSettings(cluster.major),
  })
  return restoreDump({
    ...{ installation, env, signal, source: cluster.source, directory: dumped.directory },
    ...{ database: to, create: false, jobs: 2 },
  })
}

async function compare(cluster: Cluster, { fingerprint }: Dumped, database: string) {
  const sessions: Session[] = []
  for (let index = 0; index < 2; index += 1) {
    const session = await connect(cluster.source, { database, settings: fingerprintSettings })
    await session.query('begin transaction isolation level repeatable read read only')
    sessions.push(session)
  }
  const found = await retakeFingerprint(sessions as [Session, ...Session[]], fingerprint)
  await Promise.all(sessions.map((session) => session.close()))
  return compareFingerprints(fingerprint, found)
}

for (const major of [15, 17] as const) {
  t.test(`PostgreSQL ${major}`, async (t) => {
    const cluster = await startCluster(t, { major, initdbArgs: ['-E', 'UTF8', '--locale=C.UTF-8'] })
    await cluster.sql(`create role plain login; create role "o""wner"; create role "; x" login`)
    await cluster.createDatabase(name, everything)
    await cluster.sql(`create unique index concurrently invalid on broken (i)`, name).catch(() => {})
    await t.test('everything that a database can hold', (t) => roundTrip(t, cluster))
    await t.test('sequences', (t) => sequences(t, cluster))
    if (major === 15) {
      await t.test('settings that break dumps and restores', (t) => hostileSettings(t, cluster))
      await t.test('damaged dumps', (t) => damaged(t, cluster))
      await t.test('a locale and an encoding of its own', (t) => otherEncoding(t, cluster))
      await t.test('a line break in the name', (t) => lineBreakInName(t, cluster))
    }
  })
}

async function roundTrip(t: Test, cluster: Cluster): Promise<void> {
  const quoted = quoteIdentifier(name)
  await withSession(cluster.source, { database: 'postgres' }, async (session) => {
    for (const statement of [
      `alter database ${quoted} owner to "o""wner"`,
      `comment on database ${quoted} is 'it''s a "comment" on database x;\n-- y'`,
      `revoke connect on database ${quoted} from public`,
      `grant connect, temp on database ${quoted} to plain with grant option`,
      `alter database ${quoted} connection limit 17`,
      `alter database ${quoted} set search_path = '$user', public, "it's; a ""schema"""`,
      `alter database ${quoted} set work_mem = '7MB'`,
      `alter database ${quoted} set application_name = 'it''s \\ "x"'`,
      `alter role "; x" in database ${quoted} set default_transaction_read_only = on`,
      `alter role plain in database ${quoted} set search_path = ''`,
      `alter database ${quoted} is_template true`,
    ])
      await session.query(statement)
  })
  const meanwhile = `delete from users where id < 100; insert into broken values (7); select setval('users_id_seq', 1000); create table late (i int)`
  const dumped = await dump(t, cluster, name, {
    during: async () => {
      await cluster.sql(meanwhile, name)
    },
  })
  t.same(dumped.warnings, [])
  t.match(dumped.fingerprint, {
    objects: { policy: 1, rule: 1, 'event trigger': 1, publication: 2, 'large object': 3 },
  })
  await readWholeDump({ ...dumped, installation: cluster.installation, signal })

  const to = 'the "copy"; drop\nx \\ \''
  t.same(await restore(cluster, dumped, name, to), [])
  t.same(
    (await compare(cluster, dumped, to)).map(({ name, verdict, detail }) => [
      name,
      verdict,
      verdict === 'pass' ? '' : detail,
    ]),
    ['rows', 'objects', 'large objects', 'extensions', 'database', 'settings', 'collations'].map((n) => [
      n,
      'pass',
      '',
    ]),
  )
  const facts = (database: string) =>
    cluster.sql(
      `select pg_get_userbyid(datdba) o, (select jsonb_agg(x::text order by x::text) from unnest(datacl) x) a, datconnlimit c, datistemplate t, shobj_description(d.oid, 'pg_database') d,
        (select jsonb_agg(s order by s) from (select setrole::regrole::text || ': ' || array_to_string(setconfig, '; ') s from pg_db_role_setting where setdatabase = d.oid) s) s
       from pg_database d where datname = ${quoteLiteral(database)}`,
    )
  t.same(await facts(to), await facts(name))
  t.match(await facts(to), [{ o: 'o"wner', c: 17, t: true, d: /-- y/, s: [/read_only/, /work_mem/, /search_path/] }])
  const options = { ...dumped, installation: cluster.installation, source: cluster.source, signal }
  t.same(
    await compareSequences({ ...options, database: to }),
    [],
    'as the dump has them, whatever the source did since',
  )
  const behind = await withSession(cluster.source, { database: to }, sequencesBehind)
  t.same(behind, [])
  await cluster.sql(
    `select setval('users_id_seq', 5); select setval('down', -1); select setval('counter', -1, false)`,
    to,
  )
  t.match(await compareSequences({ ...options, database: to }), [
    /counter is at -1 \(not called\) instead of/,
    /down/,
    /users_id_seq is at 5 instead of/,
  ])
  t.same(await withSession(cluster.source, { database: to }, sequencesBehind), ['users_id_seq'])

  for (const [sql, check] of [
    [`update floats set n = 1.0 where n = 1`, 'rows'],
    [`drop table broken`, 'rows'],
    [`drop policy own on users`, 'objects'],
    [`drop rule quiet on of_view`, 'objects'],
    [`drop index users_expr`, 'objects'],
    [`select lo_put(5001, 1, '\\x09')`, 'large objects'],
    [`drop extension hstore cascade`, 'extensions'],
    [`alter database ${quoteIdentifier(to)} reset work_mem`, 'settings'],
    [`alter database ${quoteIdentifier(to)} connection limit 18`, 'database'],
  ] as const) {
    await cluster.sql(sql, to)
    t.ok(
      (await compare(cluster, dumped, to)).some((one) => one.name === check && one.verdict === 'fail'),
      sql,
    )
  }
}

async function sequences(t: Test, cluster: Cluster): Promise<void> {
  t.same(parseSetvals(`select pg_catalog.setval('a', 1, true); SELECT pg_catalog.setval('"x''y\\z;"', -42, false);`), [
    { name: 'a', lastValue: '1', isCalled: true },
    { name: `"x'y\\z;"`, lastValue: '-42', isCalled: false },
  ])
  t.same(parseSetvals(`SELECT pg_catalog.setval(E'public."a\\\\b''c"', 9223372036854775807, true);`), [
    { name: `public."a\\b'c"`, lastValue: '9223372036854775807', isCalled: true },
  ])
  t.same(parseSetvals(`select 'setval(1)'; SET x = 1; -- setval('a', 1, true);`), [])
  await cluster.createDatabase(
    'seqs',
    `create table a (id bigserial); insert into a values (9223372036854775807);
     create table b (id smallint generated by default as identity); insert into b values (default), (default), (40);
     create table c (id serial); insert into c values (default); create table d (id serial);
     create table e (code text); create sequence e_seq owned by e.code; insert into e values ('INV-1');
     create table f (id bigint); create sequence f_seq minvalue -9223372036854775808 start -9223372036854775808 owned by f.id; insert into f values (-9223372036854775808);
     alter database seqs set standard_conforming_strings = off; create sequence "back\\slash" start 5; create sequence "quo'te"`,
  )
  t.same((await withSession(cluster.source, { database: 'seqs' }, sequencesBehind)).toSorted(), [
    'a_id_seq',
    'b_id_seq',
    'f_seq',
  ])
  const dumped = await dump(t, cluster, 'seqs', { jobs: 1 })
  await restore(cluster, dumped, 'seqs', 'seqs2')
  const options = { ...dumped, installation: cluster.installation, source: cluster.source, signal, database: 'seqs2' }
  t.same(await compareSequences(options), [], 'with strings as the database has them')
  await cluster.sql(`alter sequence "back\\slash" restart 6`, 'seqs2')
  t.match(await compareSequences(options), [/back/])
  const none = await dump(t, cluster, 'postgres')
  t.same(await compareSequences({ ...options, ...none }), [], 'none at all')
}

/** A database may carry any setting; ours must win in every child and in pg_dump's workers. */
async function hostileSettings(t: Test, cluster: Cluster): Promise<void> {
  const settings = {
    default_transaction_read_only: 'on',
    statement_timeout: '1',
    lock_timeout: '1',
    idle_in_transaction_session_timeout: '1',
    row_security: 'off',
    standard_conforming_strings: 'off',
    default_transaction_isolation: 'serializable',
    search_path: '',
  }
  await cluster.createDatabase('bad', `create table x as select i, repeat('x', 100) v from generate_series(1, 20000) i`)
  for (const [name, value] of Object.entries(settings)) await cluster.sql(`alter database bad set ${name} = '${value}'`)
  const dumped = await dump(t, cluster, 'bad')
  await restore(cluster, dumped, 'bad', 'bad2')
  t.same(
    (await compare(cluster, dumped, 'bad2')).filter(({ verdict }) => verdict !== 'pass'),
    [],
  )
  const folder = await scratchDirectory(t)
  const create = async (env: Record<string, string>) => {
    await cluster.sql('drop database if exists bad2')
    await cluster.sql('alter database bad rename to bad_before')
    try {
      return await restoreDump({
        ...{ installation: cluster.installation, source: cluster.source, directory: dumped.directory },
        ...{ database: 'postgres', create: true, jobs: 2, signal, env },
      })
    } finally {
      await cluster.sql('drop database if exists bad')
      await cluster.sql('alter database bad_before rename to bad')
    }
  }
  const env = await clientEnvironment({ source: cluster.source, serverMajor: 15, workFolder: folder })
  t.same(await create(env), [], 'pg_restore --create sets them before it fills the database')
  const { PGOPTIONS: _, ...without } = env
  await t.rejects(create(without), { code: 'program-failed' }, 'and this is what our settings are for')
}

async function damaged(t: Test, cluster: Cluster): Promise<void> {
  const { installation, source } = cluster
  await cluster.createDatabase('whole', `create table x as select i, md5(i::text) v from generate_series(1, 20000) i`)
  const dumped = await dump(t, cluster, 'whole')
  const { folder, env } = dumped
  const copy = async (damage: string) => {
    const directory = join(folder, 'copy')
    await runProgram({ program: 'rm', args: ['-rf', directory] })
    await runProgram({ program: 'cp', args: ['-r', dumped.directory, directory] })
    await runProgram({ program: '/bin/sh', args: ['-c', damage], cwd: directory })
    return { installation, env, directory, signal }
  }
  for (const damage of [
    'rm *.dat.gz',
    'truncate -s -100 *.dat.gz',
    'printf XXXXXXXX | dd of=$(ls *.dat.gz) bs=1 seek=5000 conv=notrunc',
  ]) {
    const options = await copy(damage)
    t.ok((await listContents(options)).length > 0, 'the table of contents says nothing')
    await t.rejects(readWholeDump(options), { code: 'program-failed' }, damage)
  }
  for (const damage of ['rm toc.dat', 'truncate -s 10 toc.dat', ': > toc.dat']) {
    const options = await copy(damage)
    await t.rejects(listContents(options), { code: 'program-failed' }, damage)
    await t.rejects(readWholeDump(options), { code: 'program-failed' }, damage)
  }
  const options = await copy('true')
  await readWholeDump(options)
  t.match(await dumpAsScript({ ...options, extraArgs: ['--create', '--schema-only'] }), /CREATE DATABASE whole/)

  const attempt = (more: object) =>
    dumpDatabase({
      ...{ installation, source, env, database: 'whole', snapshot: 'x', directory: join(folder, 'other'), jobs: 2 },
      ...{ compression: '1', signal, onTable: () => {}, ...more },
    })
  await t.rejects(attempt({}), { code: 'program-failed', message: /snapshot/ })
  await t.rejects(attempt({ database: `no "such" one` }), { code: 'database-missing', hint: /dropped/ })
  await t.rejects(attempt({ source: { ...source, port: 1 } }), { code: 'server-unreachable' })
  await t.rejects(
    attempt({ directory: dumped.directory }),
    { code: 'program-failed', message: /not empty|exists/ },
    'never over another',
  )
  await t.rejects(attempt({ source: { ...source, user: 'nobody at all' } }), { code: 'server-authentication' })
  const aborted = AbortSignal.abort(new Error('enough'))
  await t.rejects(attempt({ signal: aborted }), { message: 'enough' })
  const full = { ...options, source, database: 'whole', create: false, jobs: 1 }
  await t.rejects(restoreDump(full), { code: 'program-failed', message: /already exists/ }, 'the first error ends it')
  await mkdir(join(folder, 'empty'))
  await t.rejects(readWholeDump({ ...options, directory: join(folder, 'empty') }), { code: 'program-failed' })

  const lines = new WarningLines('pg_dump')
  for (const line of [
    'pg_dump: warning: could not do x',
    'pg_dump: detail: y',
    'pg_dump: dumping contents of table "public.pg_dump: warning: not one"',
    'pg_restore: warning: another program',
  ])
    lines.push(line)
  t.same(lines.found, ['could not do x', 'detail: y'])
  for (let index = 0; index < 300; index += 1) lines.push('pg_dump: warning: again')
  t.equal(lines.found.length, 100)
}

async function otherEncoding(t: Test, cluster: Cluster): Promise<void> {
  await cluster.sql(`create database latin template template0 encoding 'LATIN1' locale 'C' connection limit 3`)
  await cluster.sql(
    `comment on database latin is 'Übersicht'; create role "größe"; grant connect on database latin to "größe"`,
  )
  await cluster.sql(
    `create table "straße" (id serial, name text); insert into "straße" (name) values ('Köln'); create sequence "zähler";
    comment on table "straße" is 'groß'`,
    'latin',
  )
  const dumped = await dump(t, cluster, 'latin')
  await restore(cluster, dumped, 'latin', 'latin 2')
  t.same(
    (await compare(cluster, dumped, 'latin 2')).filter(({ verdict }) => verdict !== 'pass'),
    [],
  )
  const facts = `select shobj_description(oid, 'pg_database') d, pg_encoding_to_char(encoding) e, datacl::text a from pg_database`
  t.match(await cluster.sql(`${facts} where datname = 'latin 2'`), [{ d: 'Übersicht', e: 'LATIN1', a: /größe/ }])
  const options = { ...dumped, installation: cluster.installation, source: cluster.source, signal, database: 'latin 2' }
  t.same(await compareSequences(options), [], 'names are read in the encoding of the dump')
  await cluster.sql('alter sequence "zähler" restart 9', 'latin 2')
  t.match(await compareSequences(options), [/zähler/])

  const script = (name: string, byte: number) =>
    decodeScript(Buffer.concat([Buffer.from(`SET client_encoding = '${name}';\n`), Buffer.from([byte])])).at(-1)
  t.equal(script('LATIN1', 0xe4), 'ä')
  t.equal(script('LATIN9', 0xa4), '€')
  t.equal(script('WIN1252', 0x80), '€')
  t.equal(script('KOI8R', 0xc1), 'а')
  t.equal(decodeScript(Buffer.from('ä')), 'ä')
  t.equal(decodeScript(Buffer.from(`SET client_encoding = 'SQL_ASCII';\nä`)).at(-1), 'ä')
}

/** No psql script can hold such a name: pg_restore can make the database only while it is connected. */
async function lineBreakInName(t: Test, cluster: Cluster): Promise<void> {
  const broken = 'two\nlines'
  await cluster.createDatabase(broken, 'create table x (i int); insert into x values (1)')
  const dumped = await dump(t, cluster, broken)
  await t.rejects(restore(cluster, dumped, broken, 'other'), { code: 'usage-invalid', hint: /own name/ })
  await cluster.sql(`drop database ${quoteIdentifier(broken)}`)
  const { installation, source } = cluster
  await restoreDump({ ...dumped, installation, source, signal, database: 'postgres', create: true, jobs: 2 })
  t.same(
    (await compare(cluster, dumped, broken)).filter(({ verdict }) => verdict !== 'pass'),
    [],
  )
}

t.test('renaming a database in a script changes that name alone', async (t) => {
  const renamed = (script: string, from = 'database', to = 'new "x"') => renameDatabase(script, from, to)
  t.same(
    renamed(
      `CREATE DATABASE database WITH ENCODING = 'UTF8' OWNER = database;\n\\connect database\nSET x = 'ALTER DATABASE database';`,
    ),
    [`CREATE DATABASE "new ""x""" WITH ENCODING = 'UTF8' OWNER = database;`],
  )
  t.same(renamed(`ALTER ROLE database IN DATABASE database SET a TO 'database';`), [
    `ALTER ROLE database IN DATABASE "new ""x""" SET a TO 'database';`,
  ])
  t.same(renamed(`COMMENT ON DATABASE database IS 'DATABASE database';GRANT ALL ON DATABASE database TO database;`), [
    `COMMENT ON DATABASE "new ""x""" IS 'DATABASE database';`,
    `GRANT ALL ON DATABASE "new ""x""" TO database;`,
  ])
  t.same(renamed(`ALTER DATABASE other SET a = 1; ALTER DATABASE "Database" SET a = 1;`), [])
  t.same(renamed(`ALTER ROLE database IN DATABASE "in" SET a = 1;`, 'in'), [
    `ALTER ROLE database IN DATABASE "new ""x""" SET a = 1;`,
  ])
  t.same(renamed(`-- DATABASE x; y\nALTER DATABASE "a""b;\n" RESET ALL;`, 'a"b;\n', '-x'), [
    `-- DATABASE x; y\nALTER DATABASE "-x" RESET ALL;`,
  ])
})
