import { LifeboatError } from '../domain/errors.ts'
import type { Session } from './connection.ts'
import { isAsideName } from './swap-databases.ts'

/** What identifies a cluster and the state that it is in. */
export interface ClusterFacts {
  /** Decimal. */
  readonly systemIdentifier: string
  /** As `server_version` gives it, e.g. `15.18 (Debian 15.18-0+deb12u1)`. */
  readonly serverVersion: string
  readonly serverVersionNum: number
  readonly serverMajor: number
  readonly timeline: number
  readonly startedAt: Date
  readonly inRecovery: boolean
  /** Name of the bootstrap superuser (OID 10): a scratch server is made with the same. */
  readonly bootstrapSuperuser: string
}

export interface DatabaseFacts {
  readonly name: string
  readonly oid: number
  readonly bytes: number
}

/** Source: https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-CONTROLDATA */
export async function describeCluster(session: Session): Promise<ClusterFacts> {
  const [row] = await session.query<{
    system_identifier: string
    version: string
    version_num: string
    timeline_id: number
    started_at: Date
    in_recovery: boolean
    superuser: string
  }>(
    `select s.system_identifier::text, c.timeline_id, current_setting('server_version') as version,
       current_setting('server_version_num') as version_num, pg_postmaster_start_time() as started_at,
       pg_is_in_recovery() as in_recovery, (select rolname from pg_roles where oid = 10) as superuser
     from pg_control_system() s, pg_control_checkpoint() c`,
  )
  if (row === undefined) throw new LifeboatError('server-error', 'the server described nothing')
  const serverVersionNum = Number(row.version_num)
  return {
    systemIdentifier: row.system_identifier,
    serverVersion: row.version,
    serverVersionNum,
    serverMajor: Math.floor(serverVersionNum / 10_000),
    timeline: row.timeline_id,
    startedAt: row.started_at,
    inRecovery: row.in_recovery,
    bootstrapSuperuser: row.superuser,
  }
}

/**
 * Every database that can be dumped: those that allow connections, templates left out, and those that an interrupted
 * DROP DATABASE has made invalid (connection limit -2); sizes 0 where not permitted.
 */
export async function listDatabases(session: Session): Promise<readonly DatabaseFacts[]> {
  const rows = await session.query<{ name: string; oid: number; bytes: string }>(
    `select datname as name, oid, case when has_database_privilege(oid, 'connect') or pg_has_role('pg_read_all_stats', 'usage')
         then pg_database_size(oid) else 0 end::text as bytes
     from pg_database where datallowconn and not datistemplate and datconnlimit <> -2 order by datname`,
  )
  return rows.map((row) => ({ ...row, bytes: Number(row.bytes) }))
}

/**
 * The databases to back up: the configured ones, or all but those that a restore has set aside. Configured ones that do not exist are told apart, since the
 * user relies on them.
 */
export function selectDatabases<T extends { readonly name: string }>(
  existing: readonly T[],
  configured: readonly string[] | null,
): { readonly selected: readonly T[]; readonly missing: readonly string[] } {
  if (configured === null) return { selected: existing.filter(({ name }) => !isAsideName(name)), missing: [] }
  const names = new Set(existing.map(({ name }) => name))
  return {
    selected: existing.filter(({ name }) => configured.includes(name)),
    missing: configured.filter((name) => !names.has(name)),
  }
}

/** Databases of users that nobody can dump, and so nobody backs up: connections to them are not allowed. */
export async function closedDatabases(session: Session): Promise<readonly string[]> {
  const rows = await session.query<{ name: string }>(
    'select datname as name from pg_database where not datallowconn and not datistemplate order by 1',
  )
  return rows.map(({ name }) => name)
}

/** How far the server's clock is ahead of this machine's, seconds; negative: behind. Right to half of the round trip. */
export async function clockOffsetSeconds(session: Session, now: () => Date): Promise<number> {
  const before = now().getTime()
  const [row] = await session.query<{ now: Date }>('select clock_timestamp() as now')
  return ((row?.now.getTime() ?? before) - (before + now().getTime()) / 2) / 1000
}

/** Changes whenever roles, memberships or settings do. Globals are not in a dump's snapshot: taken before and after, it tells. */
export async function globalsVersion(session: Session): Promise<string> {
  const [row] = await session.query<{ version: string }>(
    `select md5(concat(
       (select string_agg(r::text, '|' order by r.oid) from pg_roles r),
       (select string_agg(m::text, '|' order by m::text) from pg_auth_members m),
       (select string_agg(s::text, '|' order by s::text) from pg_db_role_setting s),
       (select string_agg(t::text, '|' order by t.oid) from pg_tablespace t))) as version`,
  )
  return row?.version ?? ''
}

/** Whether the session may read password hashes, so that `globals.sql` can carry them. */
export async function canReadPasswords(session: Session): Promise<boolean> {
  const [row] = await session.query<{ allowed: boolean }>(
    `select has_table_privilege('pg_catalog.pg_authid', 'select') as allowed`,
  )
  return row?.allowed === true
}

/** What a role without superuser rights silently leaves out of a dump. Source: pg_dump's own catalog queries. */
export async function invisibleToRole(session: Session): Promise<readonly string[]> {
  const [row] = await session.query<{ superuser: boolean; mappings: string; subscriptions: string }>(
    `select (select rolsuper from pg_roles where rolname = current_user) as superuser,
       (select count(*) from pg_user_mappings where umoptions is null)::text as mappings,
       (select count(*) from pg_stat_subscription s join pg_database d on d.datname = current_database())::text as subscriptions`,
  )
  if (row === undefined || row.superuser) return []
  return [
    ...(row.mappings === '0'
      ? []
      : [`the options of ${row.mappings} user mappings are not in the dump: only a superuser can read them`]),
    ...(row.subscriptions === '0'
      ? []
      : [`subscriptions are not in the dump: only a superuser can read them (${row.subscriptions} in the cluster)`]),
  ]
}

/** One database for each encoding that is not the current one's. */
export async function databasesOfOtherEncodings(session: Session): Promise<readonly string[]> {
  const rows = await session.query<{ name: string }>(
    `select distinct on (d.encoding) d.datname as name from pg_database d
     where d.datallowconn and d.encoding <> (select encoding from pg_database where datname = current_database())
     order by d.encoding, d.oid`,
  )
  return rows.map(({ name }) => name)
}
