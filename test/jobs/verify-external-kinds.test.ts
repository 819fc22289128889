import { createHash } from 'node:crypto'
import { copyFile, readFile, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { createSampleDatabase } from '../../src/demo/sample-database.ts'
import { clientEnvironment } from '../../src/postgres/client-environment.ts'
import { conninfo, quoteIdentifier } from '../../src/postgres/conninfo.ts'
import { programPath } from '../../src/postgres/installations.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { installationOf, startCluster } from '../support/postgres.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { old, watchOnly } from '../support/watch-only.ts'

interface Kind {
  readonly database?: string
  readonly args: readonly string[]
  readonly program?: 'pg_dump' | 'pg_dumpall'
  /** Of the programs; the server is of 15. */
  readonly major?: 17
  readonly verdict?: 'inconclusive'
  readonly cause?: string
  readonly detail: RegExp
}

/** pg_dump writes more before it connects to such a one. */
const strange = `it's \\ "strange"`

/** What people call pg_dump with, and what of it an empty server has no answer to. */
const kinds: Readonly<Record<string, Kind>> = {
  '--create --clean': { args: ['--create', '--clean'], detail: /^10 tables in app; roles .*studio_app/ },
  '--clean --inserts': { args: ['--clean', '--inserts'], detail: /^10 tables/ },
  'session authorization': { args: ['--use-set-session-authorization'], detail: /^10 tables/ },
  'a newer pg_dump': { args: [], major: 17, detail: /^10 tables/ },
  'a newer pg_dump, custom': { args: ['--format=custom'], major: 17, detail: /^10 tables/ },
  'a tablespace': { database: 'odd', args: [], detail: /^1 tables; tablespaces that it names: fast$/ },
  'a tablespace, custom': { database: 'odd', args: ['--format=custom'], detail: /^1 tables$/ },
  'a tablespace, --create': { database: strange, args: ['--create'], detail: /^1 tables in it's \\ "strange"/ },
  'SQL_ASCII with bytes of no other encoding': { database: 'bytes', args: [], detail: /^1 tables$/ },
  'SQL_ASCII, custom': { database: 'bytes', args: ['--format=custom'], detail: /^1 tables$/ },
  'an encoding of clients alone': { database: strange, args: ['--encoding=SJIS'], detail: /^1 tables$/ },
  'an empty database': { database: 'empty', args: ['--format=custom'], detail: /^0 tables$/ },
  'a whole cluster, --clean': {
    program: 'pg_dumpall',
    args: ['--clean'],
    detail: /^13 tables in app, .*tablespaces that it names: fast$/,
  },
  'roles alone': {
    program: 'pg_dumpall',
    args: ['--globals-only'],
    verdict: 'inconclusive',
    cause: 'database-missing',
    detail: /makes no database/,
  },
}

t.test('dumps that differ from what an empty server expects', { timeout: 280_000 }, async (t) => {
  const cluster = await startCluster(t, { settings: { allow_in_place_tablespaces: 'on' } })
  await createSampleDatabase(cluster.source, { name: 'app', scale: 0.02 })
  await cluster.sql(`create tablespace fast location ''`)
  await cluster.createDatabase('odd', 'create table big (i int) tablespace fast; insert into big values (1)')
  await cluster.sql(`create database ${quoteIdentifier(strange)} template template0 tablespace fast`)
  await cluster.sql('create table a (i int)', strange)
  await cluster.sql(`create database bytes template template0 encoding 'SQL_ASCII'`)
  await cluster.sql(`create table a (x text); insert into a values (E'\\xe4\\xf6')`, 'bytes')
  await cluster.createDatabase('empty')
  const folder = await scratchDirectory(t)
  const directory = await scratchDirectory(t)
  const env = await clientEnvironment({ source: cluster.source, serverMajor: 15, workFolder: folder })
  const newer = await installationOf(17)
  const watching = await watchOnly(t, directory, `postgres: { binDir: ${newer.directory} }`)
  const file = join(directory, 'app_backup_20260101_020000')
  const verified = async () => {
    await utimes(file, old, old)
    const run = await watching.verify({ level: 'restore' })
    return { run, proof: watching.proofOf(run) }
  }
  const made = async ({ database = 'app', args, program = 'pg_dump', major }: Kind) => {
    const path = join(folder, 'dump')
    await runProgram({
      program: programPath(major === undefined ? cluster.installation : newer, program),
      args: [...args, `--file=${path}`, `--dbname=${conninfo({ ...cluster.source, database })}`],
      env,
    })
    await copyFile(path, file)
  }

  for (const [name, kind] of Object.entries(kinds)) {
    await made(kind)
    const { run, proof } = await verified()
    const { verdict = 'pass', cause } = kind
    t.match(run.items, [{ verdict }], `${name}: ${JSON.stringify(run.failure)}`)
    t.match(proof.levels.restore, { verdict, ...(cause === undefined ? {} : { cause }) }, name)
    t.match(proof.levels.restore?.checks.find((check) => check.name === 'restore')?.detail, kind.detail, name)
    const sha256 = createHash('sha256')
      .update(await readFile(file))
      .digest('hex')
    t.match(proof.hashed, [{ version: proof.manifestChecksum, stored: { sha256 } }], 'whose bytes they were')
  }

  await made({ program: 'pg_dumpall', args: [], detail: /./ })
  const text = await readFile(file, 'utf8')
  await writeFile(file, text.replace(/^(CREATE DATABASE app .*)LOCALE = 'C'/m, "$1LOCALE = 'xx_XX.utf8'"))
  t.match((await verified()).proof.levels.restore, { verdict: 'inconclusive', cause: 'locale-missing' })

  await made({ database: strange, args: [], detail: /./ })
  const plain = await readFile(file, 'utf8')
  await writeFile(file, plain.replace('SET statement_timeout', 'begin;\nSET statement_timeout'))
  const { proof: undone } = await verified()
  t.match(undone.levels.restore, { verdict: 'inconclusive', cause: 'tables-missing' }, 'rolled back at the end')

  await writeFile(
    file,
    `${plain.replaceAll(/^-- Dumped (from database|by pg_dump) version .*$/gm, '-- Dumped $1 version 14.5').replace('CREATE TABLE', 'create nonsense;\nCREATE TABLE')}`,
  )
  t.match(
    (await verified()).proof.levels.restore,
    { verdict: 'inconclusive', cause: 'version-differs', checks: [{ detail: /install that version/ }] },
    'an error in another version shows nothing',
  )
})
