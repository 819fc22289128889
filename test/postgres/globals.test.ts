import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { clientEnvironment } from '../../src/postgres/client-environment.ts'
import { withSession } from '../../src/postgres/connection.ts'
import { quoteIdentifier, quoteLiteral } from '../../src/postgres/conninfo.ts'
import { dumpGlobals } from '../../src/postgres/dump.ts'
import {
  applyGlobals,
  bootstrapSuperuserOf,
  globalsForScratch,
  rolesIn,
  withBootstrapSuperuser,
} from '../../src/postgres/globals.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { splitScript, tokens } from '../../src/postgres/sql-script.ts'
import { type Cluster, startCluster } from '../support/postgres.ts'
import { scratchDirectory } from '../support/scratch.ts'

const hostileRoles = [
  `it's; DROP ROLE "x"; --`,
  'double"quote',
  'new\nline; CREATE ROLE evil;',
  '-- comment',
  '/* comment',
  '$$dollar$$ $tag$',
  'back\\slash',
  'tablespace',
  'location',
  'on tablespace',
  'role',
  'create',
  'Größe 😀 𝒳',
  '\u2028separators\u2029\ufeff',
  ' ',
]

const quoteScript = fc
  .array(
    fc.constantFrom(
      ...[';', "'", "''", '"', '""', '$$', '$a$', '\\', '\\restrict x\n', '\n', ' ', '--', '/*', '*/', 'E', "e'"],
      ...['é', '😀', '𝒳', 'create', 'role', 'tablespace', 'location', '\u2028', '0', '_', '$1', '(', ','],
    ),
    { maxLength: 40 },
  )
  .map((parts) => parts.join(''))

t.test('splitScript: joined, the parts are the script again, whatever it is', async (t) => {
  fc.assert(
    fc.property(fc.oneof(quoteScript, fc.string({ unit: 'binary' })), (script) => {
      const parts = splitScript(script)
      t.equal(parts.map(({ text }) => text).join(''), script)
      for (const { text } of parts) for (const { start, end } of tokens(text)) t.ok(start < end && end <= text.length)
    }),
    { numRuns: 300, seed: 3 },
  )
})

t.test('splitScript: statements', async (t) => {
  const kinds = (script: string) => splitScript(script).map(({ kind, text }) => `${kind}:${text}`)
  t.same(kinds(''), [])
  t.same(kinds('a;b'), ['sql:a;', 'rest:b'])
  t.same(kinds(`\\restrict x;y\nset a = ';';`), ['meta:\\restrict x;y\n', `sql:set a = ';';`])
  t.same(kinds('\\unrestrict x'), ['meta:\\unrestrict x'])
  t.same(kinds(`-- a; 'b\nc;`), [`sql:-- a; 'b\nc;`])
  t.same(kinds(`select E'\\';' ; x;`), [`sql:select E'\\';' ;`, 'sql: x;'])
  t.same(kinds(`select '\\'; x;`), [`sql:select '\\';`, 'sql: x;'], 'a backslash in a standard string means nothing')
  t.same(kinds(`select $a$;$$;$a$;`), ['sql:select $a$;$$;$a$;'])
  t.same(kinds(`select "a;""b";`), ['sql:select "a;""b";'])
  t.same(kinds('select a\\b;'), ['sql:select a\\b;'], 'a psql command begins a line of its own')
  t.same(
    tokens(`Set "a""b" = E'x\\\\y''z' 'q''r'`).map(({ value }) => value),
    ['set', 'a"b', '=', `x\\y'z`, `q'r`],
  )
  const long = `comment on role a is '${"it''s ".repeat(1_000_000)}';`
  t.equal(splitScript(`${long}x;`).length, 2, 'megabytes in one string')
})

t.test('tablespaces never keep their place', async (t) => {
  const move = (statement: string, major = 15) => globalsForScratch(statement, 'postgres', major).statements.join('')
  for (const name of ['ts', 'location', '"LOCATION"', 'owner']) {
    for (const owner of ['postgres', 'location', '"x LOCATION \'/prod\'"']) {
      const script = move(`CREATE TABLESPACE ${name} OWNER ${owner} LOCATION E'/var/lib/\\\\prod''s';`)
      t.match(script, `LOCATION '';`)
      t.notMatch(script, /var/)
    }
  }
  t.equal(
    move('CREATE TABLESPACE odd;').replace('SET allow_in_place_tablespaces = on', ''),
    '',
    'not understood: left out',
  )
  t.equal(
    move(`CREATE TABLESPACE a OWNER b LOCATION '/x';ALTER TABLESPACE a SET (x=1);GRANT ALL ON TABLESPACE a TO b;`, 14),
    '',
  )
  t.equal(move('COMMENT ON ROLE tablespace IS NULL;', 14), 'COMMENT ON ROLE tablespace IS NULL;')
  t.equal(move('ALTER ROLE tablespace WITH LOGIN;', 14), 'ALTER ROLE tablespace WITH LOGIN;')
  t.equal(
    move('CREATE ROLE postgres; CREATE ROLE "Postgres";ALTER ROLE postgres;'),
    ' CREATE ROLE "Postgres";ALTER ROLE postgres;',
  )
})

t.test('the bootstrap superuser is noted', async (t) => {
  for (const name of ['postgres', ...hostileRoles]) {
    t.equal(bootstrapSuperuserOf(withBootstrapSuperuser(Buffer.from('-- x\n'), name).toString()), name)
  }
  t.equal(bootstrapSuperuserOf('-- x\n'), 'postgres')
  fc.assert(
    fc.property(
      fc.string({ unit: 'grapheme' }),
      (name) => bootstrapSuperuserOf(withBootstrapSuperuser(Buffer.alloc(0), name).toString()) === name,
    ),
  )
})

for (const major of [15, 17] as const) {
  const superuser = major === 15 ? `boss "B"\n'x' \\` : 'postgres'
  t.test(`PostgreSQL ${major}: globals are carried to a scratch server`, async (t) => {
    const source = await startCluster(t, { major, superuser })
    const folder = await scratchDirectory(t)
    const bases = await makeRoles(t, source)
    const globals = async (cluster: Cluster) => {
      const { script } = await dumpGlobals({
        installation: cluster.installation,
        source: cluster.source,
        env: await clientEnvironment({ source: cluster.source, serverMajor: major, workFolder: folder }),
        maintenanceDatabase: 'postgres',
        otherDatabases: [],
        withPasswords: true,
        signal: new AbortController().signal,
      })
      return script.toString()
    }
    const script = await globals(source)
    t.equal(
      splitScript(script)
        .map(({ text }) => text)
        .join(''),
      script,
    )
    t.strictSame(new Set(rolesIn(script)), new Set([superuser, ...hostileRoles, 'plain']))

    const scratch = await startCluster(t, { major, superuser })
    const made = globalsForScratch(script, superuser, major)
    t.same(made.tablespaces.toSorted(), ['fast "disk"', 'location'])
    for (const base of bases) t.notMatch(made.statements.join(''), base)
    await withSession(scratch.source, { database: 'template1' }, (session) => applyGlobals(session, made))
    // What the scratch server now has is what the source has, but for the places of tablespaces and psql's random word.
    const plain = (text: string) => text.replace(/^\\(un)?restrict .*$/gm, '').replace(/LOCATION '.*'/g, 'LOCATION')
    t.equal(plain(await globals(scratch)), plain(script))
    for (const base of bases) t.same((await readdir(base)).length, 1, 'production has its tablespace for itself')
    t.match(await scratch.sql(`select shobj_description(oid, 'pg_authid') d from pg_roles where rolname = 'plain'`), [
      { d: "it's; DROP\nROLE x; -- \\ $$" },
    ])
    await scratch.sql(`create table there (i int) tablespace "fast ""disk"""; insert into there values (1)`)
  })
}

/** Hostile roles with all that hangs on them, and two tablespaces. Gives the tablespaces' directories. */
async function makeRoles(t: Test, cluster: Cluster): Promise<readonly string[]> {
  const bases: string[] = []
  await cluster.sql(`create role plain login createdb connection limit 3 valid until '2099-01-01' password 'it''s:\\x'`)
  await cluster.sql(`comment on role plain is ${quoteLiteral("it's; DROP\nROLE x; -- \\ $$")}`)
  await withSession(cluster.source, { database: 'postgres' }, async (session) => {
    for (const role of hostileRoles) {
      const name = quoteIdentifier(role)
      await session.query(`create role ${name} nologin`)
      await session.query(`grant ${name} to plain`)
      await session.query(`comment on role ${name} is ${quoteLiteral(role)}`)
      await session.query(`alter role ${name} set search_path = ${name}, public`)
      await session.query(`alter role ${name} set application_name = ${quoteLiteral(role)}`)
    }
    await session.query(`alter role all set work_mem = '5MB'`)
  })
  for (const name of ['fast "disk"', 'location']) {
    const base = await scratchDirectory(t)
    await runProgram({ program: 'chmod', args: ['0777', base] })
    await runProgram({ program: 'mkdir', args: [join(base, 'ts')], user: null })
    await runProgram({ program: 'chown', args: ['--reference', cluster.server.dataDirectory, join(base, 'ts')] })
    await cluster.sql(`create tablespace ${quoteIdentifier(name)} owner location location '${join(base, 'ts')}'`)
    await cluster.sql(`grant create on tablespace ${quoteIdentifier(name)} to tablespace, "on tablespace"`)
    await cluster.sql(`comment on tablespace ${quoteIdentifier(name)} is 'it''s; x'`)
    await cluster.sql(`alter tablespace ${quoteIdentifier(name)} set (random_page_cost = 1.1)`)
    bases.push(join(base, 'ts'))
  }
  return bases
}

t.test('no psql command of a forged script is ever run', async (t) => {
  const fit = (script: string) => globalsForScratch(script, 'postgres', 15).statements
  t.same(
    fit('\\restrict abc\n\nCREATE ROLE a;\n\\unrestrict abc\n').map((text) => text.trim()),
    ['CREATE ROLE a;'],
  )
  t.same(fit(`-- dumped\n\\restrict abc\nSET client_encoding = 'LATIN1';\n`), [], 'the driver speaks UTF-8')
  for (const script of ['\\! id\n', 'CREATE ROLE a;\n\\copy x to program id\n', '-- x\n\\! id', '\\restrictx a\n']) {
    t.throws(() => fit(script), { code: 'artifact-invalid' }, script)
  }
  const inside = fit('CREATE ROLE a \\! id\n;')
  t.equal(inside.length, 1, 'inside a statement a backslash is for the server to refuse')
  const cluster = await startCluster(t)
  await t.rejects(
    withSession(cluster.source, { database: 'postgres' }, (session) =>
      applyGlobals(session, { statements: inside, tablespaces: [] }),
    ),
    { code: 'server-error' },
  )
})

t.test('globals in other encodings keep their bytes', async (t) => {
  const cluster = await startCluster(t)
  await cluster.sql(`create database latin template template0 encoding 'LATIN1' lc_collate 'C' lc_ctype 'C'`)
  await cluster.sql(`set client_encoding = 'UTF8'; create role "L\u00e9a" login password 'x'`, 'latin')
  const folder = await scratchDirectory(t)
  const take = async (maintenanceDatabase: string) =>
    dumpGlobals({
      installation: cluster.installation,
      source: cluster.source,
      env: await clientEnvironment({ source: cluster.source, serverMajor: 15, workFolder: folder }),
      maintenanceDatabase,
      otherDatabases: ['latin'],
      withPasswords: true,
      signal: new AbortController().signal,
    })
  const through = await take('latin')
  t.match(through.script.toString(), 'CREATE ROLE "L\u00e9a"', 'converted on the way')
  t.same(through.warnings, [])
  const raw = await take('postgres')
  t.ok(raw.script.includes(Buffer.from('CREATE ROLE "L\u00e9a"', 'latin1')), 'the bytes that the server holds')
  t.match(raw.warnings, [/not in UTF-8/], 'and it is told')
  t.ok(withBootstrapSuperuser(raw.script, 'postgres').includes(Buffer.from('"L\u00e9a"', 'latin1')))
})
