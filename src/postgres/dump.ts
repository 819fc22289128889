import { LifeboatError } from '../domain/errors.ts'
import type { ConnectionSource, Session } from './connection.ts'
import { conninfo } from './conninfo.ts'
import { withCause } from './failures.ts'
import { type Installation, programPath } from './installations.ts'
import { collectOutput, runProgram } from './programs.ts'

export interface DumpOptions {
  readonly installation: Installation
  readonly source: ConnectionSource
  readonly env: Readonly<Record<string, string>>
  readonly database: string
  /** Id of an exported snapshot whose transaction stays open until this ends. */
  readonly snapshot: string
  readonly directory: string
  readonly jobs: number
  readonly compression: string
  readonly signal: AbortSignal
  /** A table's data is begun: `schema.name`, as pg_dump prints it. */
  readonly onTable: (table: string) => void
}

const maxWarnings = 100

/** The options of pg_dump that decide what is in the dump; kept in the manifest. */
export function dumpArguments(jobs: number, compression: string): readonly string[] {
  return ['--format=directory', `--jobs=${jobs}`, `--compress=${compression}`]
}

/**
 * Dumps one database into a new directory. Returns pg_dump's own warnings.
 * Source: https://www.postgresql.org/docs/current/app-pgdump.html
 *
 * @throws LifeboatError `program-failed`, `disk-full`, `server-unreachable`, `server-authentication`, `database-missing`
 */
export async function dumpDatabase(options: DumpOptions): Promise<readonly string[]> {
  const { source, database, directory } = options
  const warnings = new WarningLines('pg_dump')
  try {
    await runProgram({
      program: programPath(options.installation, 'pg_dump'),
      args: [
        ...dumpArguments(options.jobs, options.compression),
        `--snapshot=${options.snapshot}`,
        `--file=${directory}`,
        '--no-sync', // staged: what counts is synced when it is stored
        '--no-password',
        '--verbose',
        `--dbname=${conninfo({ ...source, database })}`,
      ],
      env: options.env,
      signal: options.signal,
      onStderrLine: (line) => {
        const table = /^pg_dump: dumping contents of table "(.*)"$/.exec(line)?.[1]
        if (table !== undefined) options.onTable(table)
        else warnings.push(line)
      },
    })
  } catch (error) {
    throw withCause(error)
  }
  return warnings.found
}

export interface DumpedGlobals {
  /** The bytes that pg_dumpall printed. */
  readonly script: Buffer
  readonly warnings: readonly string[]
}

/**
 * What `pg_dumpall --globals-only` prints: roles, memberships, settings, tablespaces; in UTF-8. Names that were made in
 * databases of another encoding may not be valid in the maintenance database, and pg_dumpall then fails: it is asked again
 * through a database of another encoding, for the bytes as they are, since globals without their odd names are no globals.
 */
export async function dumpGlobals(options: {
  readonly installation: Installation
  readonly source: ConnectionSource
  readonly env: Readonly<Record<string, string>>
  readonly maintenanceDatabase: string
  /** Databases of other encodings: in one of them names may be valid that are not in the maintenance database. */
  readonly otherDatabases: readonly string[]
  readonly withPasswords: boolean
  readonly signal: AbortSignal
}): Promise<DumpedGlobals> {
  const take = async (encoding: string, database: string) => {
    const { stdout } = await collectOutput({
      program: programPath(options.installation, 'pg_dumpall'),
      args: [
        '--globals-only',
        '--no-password',
        `--encoding=${encoding}`,
        ...(options.withPasswords ? [] : ['--no-role-passwords']),
        `--dbname=${conninfo({ ...options.source, database })}`,
        `--database=${database}`,
      ],
      env: options.env,
      signal: options.signal,
    })
    return stdout
  }
  const noted = options.withPasswords ? [] : ['globals.sql has no password hashes: the role may not read pg_authid']
  try {
    return { script: await take('UTF8', options.maintenanceDatabase), warnings: noted }
  } catch (error) {
    const cause = withCause(error)
    options.signal.throwIfAborted()
    if (!(cause instanceof LifeboatError) || cause.code !== 'program-failed') throw cause
    const warning = `globals.sql is in the bytes of the server, not in UTF-8: ${cause.message}`
    for (const database of options.otherDatabases) {
      const script = await take('SQL_ASCII', database).catch(() => null)
      options.signal.throwIfAborted()
      if (script !== null) return { script, warnings: [...noted, warning] }
    }
    throw cause
  }
}

/** zstd where the client can (16 and newer, if built with it), else gzip at its fastest. */
export async function chooseCompression(installation: Installation): Promise<string> {
  if (installation.major < 16) return '1'
  const configure = await runProgram({ program: programPath(installation, 'pg_config'), args: ['--configure'] }).then(
    ({ stdout }) => stdout,
    () => '', // pg_config is not installed everywhere: gzip always works
  )
  return configure.includes('--with-zstd') ? 'zstd:3' : 'gzip:1'
}

export interface ExportedSnapshot {
  readonly id: string
  readonly at: Date
  readonly lsn: string
}

/**
 * Begins the transaction whose snapshot the dump and the fingerprint share. It must stay open until pg_dump has ended:
 * its workers import the same id.
 * Source: https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-SNAPSHOT-SYNCHRONIZATION
 */
export async function exportSnapshot(session: Session): Promise<ExportedSnapshot> {
  await session.query('begin transaction isolation level repeatable read read only')
  const [row] = await session.query<{ id: string; at: Date; lsn: string }>(
    `select pg_export_snapshot() as id, statement_timestamp() as at,
       case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_insert_lsn() end::text as lsn`,
  )
  if (row === undefined) throw new LifeboatError('server-error', 'no snapshot was exported')
  return row
}

/** Collects a program's warnings with the lines that belong to them; the running account of --verbose is passed over. */
export class WarningLines {
  readonly found: string[] = []
  readonly #pattern: RegExp

  constructor(program: string) {
    this.#pattern = new RegExp(`^${program}: (warning|error|detail|hint): (.*)$`)
  }

  push(line: string): void {
    const match = this.#pattern.exec(line)
    if (match === null || this.found.length >= maxWarnings) return
    this.found.push(match[1] === 'warning' ? (match[2] as string) : `${match[1]}: ${match[2]}`)
  }
}
