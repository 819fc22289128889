import { LifeboatError } from '../domain/errors.ts'
import type { Session } from './connection.ts'

/** What a physical backup has to know of a cluster before it begins. */
export interface PhysicalServerFacts {
  /** The one that is written to just now; `pg_control` knows it only from the next checkpoint on. */
  readonly timeline: number
  /** The server's clock. */
  readonly at: Date
  /** Of the WAL, bytes. */
  readonly segmentSize: number
  readonly dataChecksums: boolean
  readonly summarizesWal: boolean
  readonly fullPageWrites: boolean
  /** `minimal`, `replica` or `logical`. */
  readonly walLevel: string
  readonly maxWalSenders: number
  readonly archives: boolean
  /** Those besides the default ones that lie outside of the data directory. */
  readonly tablespaces: readonly { readonly oid: number; readonly path: string }[]
  /** Where the configuration is; null: the role may not know. */
  readonly dataDirectory: string | null
  readonly configFiles: readonly string[]
}

/** In-place tablespaces are directories of the data directory, and come with it. */
const tablespaceQuery = `select oid::int8::text as oid, pg_tablespace_location(oid) as path from pg_tablespace
  where pg_tablespace_location(oid) like '/%' order by oid`

export async function physicalFacts(session: Session): Promise<PhysicalServerFacts> {
  const [row] = await session.query<{
    timeline: string
    at: Date
    segment_size: string
    checksums: string
    summarizes: string | null
    archive_mode: string
    full_page_writes: string
    wal_level: string
    senders: string
    data_directory: string | null
    files: readonly string[] | null
  }>(
    `select case when pg_is_in_recovery() then (select timeline_id from pg_control_checkpoint())::text
         else ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int8::text end as timeline,
       statement_timestamp() as at,
       (select setting from pg_settings where name = 'wal_segment_size') as segment_size,
       current_setting('data_checksums') as checksums, current_setting('summarize_wal', true) as summarizes,
       current_setting('archive_mode') as archive_mode, current_setting('full_page_writes') as full_page_writes,
       current_setting('wal_level') as wal_level, current_setting('max_wal_senders') as senders,
       (select setting from pg_settings where name = 'data_directory') as data_directory,
       (select array_agg(distinct path) from (
          select setting from pg_settings where name in ('config_file', 'hba_file', 'ident_file')
          union select sourcefile from pg_settings) f (path) where path <> '') as files`,
  )
  if (row === undefined) throw new LifeboatError('server-error', 'the server described nothing')
  return {
    timeline: Number(row.timeline),
    at: row.at,
    segmentSize: Number(row.segment_size),
    dataChecksums: row.checksums === 'on',
    summarizesWal: row.summarizes === 'on',
    fullPageWrites: row.full_page_writes === 'on',
    walLevel: row.wal_level,
    maxWalSenders: Number(row.senders),
    archives: row.archive_mode !== 'off',
    tablespaces: await tablespacesOf(session),
    dataDirectory: row.data_directory,
    configFiles: row.files ?? [],
  }
}

export async function tablespacesOf(session: Session): Promise<PhysicalServerFacts['tablespaces']> {
  const rows = await session.query<{ oid: string; path: string }>(tablespaceQuery)
  return rows.map(({ oid, path }) => ({ oid: Number(oid), path }))
}

/** Reads a file of the server's machine through the server; null where the role may not, or there is no such file. */
export async function readServerFile(session: Session, path: string): Promise<Buffer | null> {
  const [allowed] = await session.query<{ allowed: boolean }>(
    `select has_function_privilege('pg_read_binary_file(text, bigint, bigint, boolean)', 'execute') and
       (pg_has_role('pg_read_server_files', 'usage') or (select rolsuper from pg_roles where rolname = current_user)) as allowed`,
  )
  if (allowed?.allowed !== true) return null
  const [row] = await session.query<{ bytes: Buffer | null }>('select pg_read_binary_file($1, 0, $2, true) as bytes', [
    path,
    maxConfigBytes,
  ])
  return row?.bytes ?? null
}

export const maxConfigBytes = 4 * 1024 * 1024
