import { chmod } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { clientEnvironment } from '../../src/postgres/client-environment.ts'
import { type ConnectionSource, settingsOption, withSession } from '../../src/postgres/connection.ts'
import { conninfo, passfileLine, quoteIdentifier, quoteLiteral } from '../../src/postgres/conninfo.ts'
import { programPath } from '../../src/postgres/installations.ts'
import { workMarker } from '../../src/postgres/orphans.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { type Cluster, startCluster } from '../support/postgres.ts'
import { scratchDirectory } from '../support/scratch.ts'

/** Names that somebody or some program takes for something else. */
const hostileNames = [
  `it's`,
  'a"b',
  'back\\slash',
  `\\'; drop table x; --`,
  'line\nbreak',
  'tab\tand\rreturn',
  ' leading and trailing ',
  '-d',
  '--version',
  'a=b',
  'dbname=postgres host=nowhere',
  'postgresql://other@nowhere/db',
  'postgres://x',
  'Größe 数据库 😀',
  '$HOME `id` $(id)',
  '%s%n',
  'select',
  'database',
  'é'.repeat(31),
]

const hostileText = fc
  .array(
    fc.constantFrom(
      ...Array.from(`'"\\=\n\t :-;$%\r&?@/{}*#é😀`),
      'a',
      'B',
      '0',
      'host',
      'postgres://',
      "E'",
      '--',
      '$$',
      '/*',
    ),
    { minLength: 1, maxLength: 12 },
  )
  .map((parts) => parts.join(''))
const fits = (text: string) => Buffer.byteLength(text) <= 63

async function psql(cluster: Cluster, source: ConnectionSource, database: string, folder: string, sql: string) {
  const { stdout } = await runProgram({
    program: programPath(cluster.installation, 'psql'),
    args: ['--no-psqlrc', '-At', '--no-password', `--dbname=${conninfo({ ...source, database })}`, '-c', sql],
    env: await clientEnvironment({ source, serverMajor: cluster.major, workFolder: folder }),
  })
  return stdout
}

const whereAmI = `select json_build_object('d', current_database(), 'u', current_user)`

t.test('names and texts on their way to a real server', async (t) => {
  const cluster = await startCluster(t, { tcp: true })
  const folder = await scratchDirectory(t)

  await t.test('libpq and the driver reach the database and the role of that very name', async (t) => {
    for (const name of hostileNames) {
      await cluster.createDatabase(name)
      await cluster.sql(`create role ${quoteIdentifier(name)} login`)
      const source = { ...cluster.source, user: name }
      t.same(JSON.parse(await psql(cluster, source, name, folder, whereAmI)), { d: name, u: name })
      const rows = await withSession(source, { database: name }, (session) =>
        session.query('select current_database() as d, current_user as u'),
      )
      t.same(rows, [{ d: name, u: name }])
    }
  })

  await t.test('also any other name', async (t) => {
    await fc.assert(
      fc.asyncProperty(hostileText.filter(fits), async (name) => {
        await cluster.sql(`create role ${quoteIdentifier(name)} login`)
        const found = await psql(cluster, { ...cluster.source, user: name }, 'postgres', folder, whereAmI)
        await cluster.sql(`drop role ${quoteIdentifier(name)}`)
        return JSON.parse(found).u === name
      }),
      { numRuns: 25, seed: 1 },
    )
    await t.rejects(psql(cluster, cluster.source, `no'such\\db`, folder, 'select 1'), {
      message: /database "no'such\\db" does not exist/,
    })
  })

  await t.test('quoteLiteral and quoteIdentifier come back as they went', async (t) => {
    for (const setting of ['on', 'off']) {
      await withSession(
        cluster.source,
        { database: 'postgres', settings: { standard_conforming_strings: setting, escape_string_warning: 'off' } },
        (session) =>
          fc.assert(
            fc.asyncProperty(hostileText, async (text) => {
              const literal = quoteLiteral(text)
              const identifier = fits(text) ? text : 'x'
              const [row] = await session.query<Record<string, unknown>>(
                `select ${literal} as ${quoteIdentifier(identifier)}, octet_length(${literal}) as "the length"`,
              )
              t.same(row, { [identifier]: text, 'the length': Buffer.byteLength(text) })
            }),
            { numRuns: 60, seed: 2 },
          ),
      )
    }
    t.equal(quoteLiteral(''), `''`)
    t.equal(quoteLiteral('a\\b'), `E'a\\\\b'`)
  })

  await t.test('settings with blanks and backslashes', async (t) => {
    const wanted = { application_name: 'a b\\c  d', DateStyle: 'ISO, MDY', search_path: '"a\tb", x' }
    const ask = `select current_setting('application_name') a, current_setting('search_path') p`
    const viaDriver = await withSession(cluster.source, { database: 'postgres', settings: wanted }, (session) =>
      session.query<{ p: string }>(ask),
    )
    t.equal(viaDriver[0]?.p, wanted.search_path)
    const { stdout } = await runProgram({
      program: programPath(cluster.installation, 'psql'),
      args: ['-XAt', `--dbname=${conninfo({ ...cluster.source, database: 'postgres' })}`, '-c', ask],
      env: { PGOPTIONS: settingsOption(wanted), PGAPPNAME: 'x' },
    })
    t.match(stdout, '"a\tb", x')
  })

  await t.test('passwords, with SCRAM', async (t) => passwords(t, cluster, folder))

  await t.test('the environment of a program', async (t) => {
    const source = { ...cluster.source, sslMode: 'verify-ca', sslRootCert: '/x/ca.pem', connectTimeoutMs: 1 } as const
    const env = await clientEnvironment({ source, serverMajor: 17, workFolder: folder, settings: { a: 'b c' } })
    t.same(env, {
      PGPASSFILE: join(folder, 'pgpass'),
      PGAPPNAME: 'lifeboat',
      PGCONNECT_TIMEOUT: '2',
      PGSSLMODE: 'verify-ca',
      PGSSLROOTCERT: '/x/ca.pem',
      PGOPTIONS:
        '-c default_transaction_read_only=off -c statement_timeout=0 -c lock_timeout=0 ' +
        '-c idle_in_transaction_session_timeout=0 -c standard_conforming_strings=on -c transaction_timeout=0 -c a=b\\ c',
      [workMarker]: folder,
    })
    t.notMatch((await clientEnvironment({ source, serverMajor: 15, workFolder: folder })).PGOPTIONS, 'transaction_t')
  })
})

async function passwords(t: Test, cluster: Cluster, folder: string): Promise<void> {
  for (const password of [
    'plain',
    'a:b',
    'a\\b',
    '\\:',
    ':',
    '\\',
    ' sp ace ',
    `q'"u`,
    'pässwörd😀',
    '*',
    '#x',
    '%41',
  ]) {
    await cluster.sql(`drop role if exists pw; create role pw login password ${quoteLiteral(password)}`)
    const source = cluster.as('pw', password)
    t.equal(await psql(cluster, source, 'postgres', folder, 'select 1'), '1\n', passfileLine(password).trimEnd())
    await withSession(source, { database: 'postgres' }, (session) => session.query('select 1'))
    await t.rejects(psql(cluster, cluster.as('pw', `${password}x`), 'postgres', folder, 'select 1'), {
      message: /password authentication failed/,
    })
  }
  // Without a password the file is empty: the one in HOME must not help out.
  const home = await scratchDirectory(t)
  await chmod(home, 0o700)
  const env = await clientEnvironment({ source: cluster.source, serverMajor: 15, workFolder: folder })
  const target = conninfo({ ...cluster.as('pw', ''), database: 'postgres' })
  await t.rejects(
    runProgram({
      program: programPath(cluster.installation, 'psql'),
      args: ['-XAt', '--no-password', `--dbname=${target}`, '-c', 'select 1'],
      env: { ...env, HOME: home },
    }),
    { message: /no password supplied/ },
  )
}
