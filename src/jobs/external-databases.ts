import type { Inspection } from '../domain/external.ts'
import { definesTables } from '../external/defines-tables.ts'
import type { RestoreErrors } from '../external/restore-errors.ts'
import { type ConnectionSource, withSession } from '../postgres/connection.ts'
import { quoteIdentifier, quoteLiteral } from '../postgres/conninfo.ts'
import type { Installation } from '../postgres/installations.ts'
import type { ScratchServer } from '../postgres/scratch-server.ts'
import { VerdictError } from './level-recorder.ts'

/** A database that a dump left in the scratch server. */
export interface RestoredDatabase {
  readonly name: string
  readonly tables: number
}

/** Names that cannot be given to a database. */
function isImpossible(name: string): boolean {
  return ['', 'template0', 'template1'].includes(name) || Buffer.byteLength(name) > 63
}

/**
 * Makes the database that a dump is restored into, in the encoding that the dump is in: bytes of SQL_ASCII are text in no
 * other. Nothing is made where the dump makes its own.
 *
 * @param wanted what the file is named for: any text
 * @returns to which database to connect
 */
export async function makeDatabase(
  source: ConnectionSource,
  wanted: string,
  { createsDatabase, encoding }: Inspection,
  signal: AbortSignal,
): Promise<string> {
  // A dump with --clean drops what it is about to make, and nobody can drop what he is connected to.
  if (createsDatabase) return wanted === 'postgres' ? 'template1' : 'postgres'
  const name = isImpossible(wanted) ? 'lifeboat_restored' : wanted
  await withSession(source, { database: 'template1', signal }, async (session) => {
    if (name === 'postgres') await session.query('drop database postgres') // made by initdb
    // pg_dump can be asked for one that only clients know (SJIS): less than 0, or beyond the servers' ones.
    const [server] = await session.query<{ name: string }>(
      `select pg_encoding_to_char(pg_char_to_encoding(name)) as name from (values (${quoteLiteral(encoding ?? 'UTF8')})) as v (name)
         where pg_char_to_encoding(name) between 0 and 34`,
    )
    await session.query(
      `create database ${quoteIdentifier(name)} template template0 encoding ${quoteLiteral(server?.name ?? 'UTF8')}`,
    )
  })
  return name
}

/**
 * The databases that a dump has made, first the one that the file is named for, or else the largest. That of initdb is
 * among them only if it is all there is, is named, or holds something.
 */
export async function restoredDatabases(
  source: ConnectionSource,
  wanted: string,
  { inspection, made }: { readonly inspection: Inspection; readonly made: string },
  signal: AbortSignal,
): Promise<readonly RestoredDatabase[]> {
  const names = inspection.createsDatabase ? await allDatabases(source, signal) : [made]
  const found: RestoredDatabase[] = []
  for (const name of names) found.push({ name, tables: await countTables(source, name, signal) })
  const own = found.filter(({ name, tables }) => name !== 'postgres' || tables > 0 || name === wanted)
  const kept = own.length > 0 ? own : found
  return kept.toSorted((a, b) => Number(b.name === wanted) - Number(a.name === wanted))
}

async function allDatabases(source: ConnectionSource, signal: AbortSignal): Promise<readonly string[]> {
  const rows = await withSession(source, { database: 'postgres', signal }, (session) =>
    session.query<{ name: string }>(
      'select datname as name from pg_database where datallowconn and not datistemplate order by pg_database_size(oid) desc',
    ),
  )
  return rows.map(({ name }) => name)
}

async function countTables(source: ConnectionSource, database: string, signal: AbortSignal): Promise<number> {
  const [row] = await withSession(source, { database, signal }, (session) =>
    session.query<{ tables: string }>(
      `select count(*)::text as tables from pg_class where relkind in ('r', 'p', 'f')
         and relnamespace not in (select oid from pg_namespace where nspname in ('pg_catalog', 'information_schema', 'pg_toast'))`,
    ),
  )
  return Number(row?.tables)
}

export interface DescribeOptions {
  readonly path: string
  readonly inspection: Inspection
  readonly clients: Installation
  readonly server: ScratchServer
  readonly errors: RestoreErrors
  readonly found: readonly RestoredDatabase[]
  readonly signal: AbortSignal
}

/**
 * What came out, in words for a proof.
 *
 * @throws VerdictError when nothing came out and the dump does not say that there is nothing: a proof of nothing would
 * be believed
 */
export async function describeCopy(options: DescribeOptions): Promise<string> {
  const { path, inspection, clients, server, errors, found, signal } = options
  const tables = found.reduce((sum, one) => sum + one.tables, 0)
  if (tables === 0) {
    if (inspection.createsDatabase && found.every(({ name }) => name === 'postgres'))
      throw new VerdictError('inconclusive', 'database-missing', 'restore', 'the dump makes no database and no table')
    if (await definesTables(path, inspection, clients, signal))
      throw new VerdictError('inconclusive', 'tables-missing', 'restore', 'the dump makes tables, but none is there')
  }
  const { serverVersion } = inspection
  const isOther = serverVersion !== null && Number.parseInt(serverVersion, 10) !== server.installation.major
  return [
    `${tables} tables${inspection.createsDatabase ? ` in ${nameSome(found.map(({ name }) => name))}` : ''}`,
    isOther ? `restored into PostgreSQL ${server.installation.version}, the dump is of ${serverVersion}` : '',
    errors.roles.length > 0 ? `roles that the dump names and does not carry: ${nameSome(errors.roles)}` : '',
    errors.tablespaces.length > 0 ? `tablespaces that it names: ${nameSome(errors.tablespaces)}` : '',
  ]
    .filter((part) => part !== '')
    .join('; ')
}

function nameSome(names: readonly string[]): string {
  return `${names.slice(0, 5).join(', ')}${names.length > 5 ? ` and ${names.length - 5} more` : ''}`
}
