import type { ArchiverFiles, ArchiverSample } from '../domain/archiver.ts'
import { LifeboatError } from '../domain/errors.ts'
import type { Session } from './connection.ts'

/** So many of the newest archived files are asked for: the server forgets them with the WAL itself. */
const mostDone = 64

/**
 * Asks the server how its archiver fares. To see what waits takes the role pg_monitor.
 *
 * Source: https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-ARCHIVER-VIEW
 */
export async function sampleArchiver(session: Session): Promise<ArchiverSample> {
  const [row] = await session.query<{
    version_num: string
    at: Date
    mode: string
    has_command: boolean
    archived: string
    failed: string
    last_archived_at: Date | null
    last_failed: string | null
    last_failed_at: Date | null
    pid: number | null
    wait_event: string | null
    lists: boolean
  }>(
    `select current_setting('server_version_num') as version_num, statement_timestamp() as at,
       current_setting('archive_mode') as mode,
       coalesce(current_setting('archive_library', true), '') <> '' or
         current_setting('archive_command') not in ('', '(disabled)') as has_command,
       archived_count::text as archived, failed_count::text as failed, last_archived_time as last_archived_at,
       last_failed_wal as last_failed, last_failed_time as last_failed_at, a.pid, a.wait_event,
       has_function_privilege('pg_ls_archive_statusdir()', 'execute') as lists
     from pg_stat_archiver left join pg_stat_activity a on a.backend_type = 'archiver'`,
  )
  if (row === undefined) throw new LifeboatError('server-error', 'the server said nothing of its archiver')
  const { mode, pid } = row
  return {
    serverMajor: Math.floor(Number(row.version_num) / 10_000),
    at: row.at,
    mode: mode === 'on' || mode === 'always' ? mode : 'off',
    hasCommand: row.has_command,
    archived: Number(row.archived),
    failed: Number(row.failed),
    lastArchivedAt: row.last_archived_at,
    lastFailedAt: row.last_failed_at,
    lastFailed: row.last_failed,
    process: pid === null ? null : { pid, waitEvent: row.wait_event },
    files: row.lists ? await listFiles(session) : null,
  }
}

/** Source: https://www.postgresql.org/docs/current/functions-admin.html (pg_ls_archive_statusdir) */
async function listFiles(session: Session): Promise<ArchiverFiles> {
  const [row] = await session.query<{
    ready: string
    oldest: string | null
    oldest_since: Date | null
    done: readonly string[] | null
  }>(
    `with status as materialized (
       select regexp_replace(name, '\\.(ready|done)$', '') as name, name like '%.ready' as is_ready, modification
       from pg_ls_archive_statusdir() where name ~ '\\.(ready|done)$'
     )
     select (select count(*)::text from status where is_ready) as ready,
       (select name from status where is_ready order by modification, name limit 1) as oldest,
       (select min(modification) from status where is_ready) as oldest_since,
       (select array_agg(name) from (
          select name from status where not is_ready order by modification desc, name desc limit ${mostDone}) d) as done`,
  )
  const { oldest = null, oldest_since: since = null } = row ?? {}
  return {
    ready: Number(row?.ready),
    oldestReady: oldest === null || since === null ? null : { name: oldest, since },
    done: row?.done ?? [],
  }
}
