import { LifeboatError } from '../domain/errors.ts'
import type { Fingerprint, RowsHash } from '../domain/fingerprint.ts'
import { fingerprintFormatVersion } from '../domain/fingerprint.ts'
import type { Session } from './connection.ts'

/** A table whose rows are hashed. */
export interface TableToHash {
  readonly schema: string
  readonly name: string
  readonly bytes: number
  /** An estimate, from the last ANALYZE or VACUUM, or from the size if there was none. */
  readonly rows: number
  /** The column of its primary key, when that is one integer column. */
  readonly key: string | null
  readonly columns: readonly string[]
}

/** True in SQL for an object that an extension made: a dump does not carry it, CREATE EXTENSION does. */
const ofExtension = (catalog: string, oid: string) =>
  `exists (select from pg_depend d where d.classid = '${catalog}'::regclass and d.objid = ${oid} and d.deptype = 'e')`
const userSchema = (oid: string) =>
  `${oid} in (select oid from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema')`

/**
 * Ordinary tables and leaf partitions. Not: materialized views (a restore runs their query again), foreign tables,
 * temporary tables, and extensions' own tables unless their whole content is dumped as configuration.
 */
const tablesQuery = `
  select n.nspname as schema, c.relname as name, pg_table_size(c.oid)::text as bytes,
    case when c.reltuples > 0 then c.reltuples::float8 else pg_table_size(c.oid)::float8 / 100 end as rows,
    (select a.attname from pg_index i join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[0]
      where i.indrelid = c.oid and i.indisprimary and i.indnkeyatts = 1
        and a.atttypid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)) as key,
    (select coalesce(jsonb_agg(a.attname), '[]') from pg_attribute a where a.attrelid = c.oid and not a.attisdropped) as columns
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relkind = 'r' and c.relpersistence <> 't' and ${userSchema('n.oid')}
    and (not ${ofExtension('pg_class', 'c.oid')}
      or exists (select from pg_extension e where e.extcondition[array_position(e.extconfig, c.oid)] = ''))
  order by n.nspname, c.relname`

/** Counts by kind of what a dump carries (not: invalid indexes). `pg_class` kinds: r table, p partitioned, v view, m materialized view, f foreign, S sequence, i/I index, c composite type. */
const objectsQuery = `
  select kind, count(*)::text as count from (
    select 'schema' as kind from pg_namespace n where ${userSchema('n.oid')} and not ${ofExtension('pg_namespace', 'n.oid')}
    union all select case c.relkind when 'r' then 'table' when 'p' then 'partitioned table' when 'v' then 'view' when 'm' then 'materialized view'
        when 'f' then 'foreign table' when 'S' then 'sequence' when 'c' then 'composite type' else 'index' end
      from pg_class c where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S', 'c', 'i', 'I') and c.relpersistence <> 't' and ${userSchema('c.relnamespace')}
        and not ${ofExtension('pg_class', 'c.oid')}
        and not exists (select from pg_index i where i.indexrelid = c.oid
          and (${ofExtension('pg_class', 'i.indrelid')} or not (i.indisvalid or c.relkind = 'I')))
    union all select 'function' from pg_proc p where ${userSchema('p.pronamespace')} and not ${ofExtension('pg_proc', 'p.oid')}
    union all select case t.typtype when 'd' then 'domain' when 'e' then 'enum' else 'range type' end
      from pg_type t where t.typtype in ('d', 'e', 'r') and ${userSchema('t.typnamespace')} and not ${ofExtension('pg_type', 't.oid')}
    union all select case o.contype when 'p' then 'primary key' when 'u' then 'unique constraint' when 'f' then 'foreign key' when 'c' then 'check constraint' else 'other constraint' end
      from pg_constraint o where o.contype <> 'n' and ${userSchema('o.connamespace')} and not ${ofExtension('pg_class', 'o.conrelid')} and not ${ofExtension('pg_type', 'o.contypid')}
    union all select 'trigger' from pg_trigger g where not g.tgisinternal and not ${ofExtension('pg_class', 'g.tgrelid')} and not ${ofExtension('pg_trigger', 'g.oid')}
    union all select 'policy' from pg_policy l where not ${ofExtension('pg_class', 'l.polrelid')}
    union all select 'event trigger' from pg_event_trigger v where not ${ofExtension('pg_event_trigger', 'v.oid')}
    union all select 'publication' from pg_publication
    union all select 'extension' from pg_extension
    union all select 'rule' from pg_rewrite w join pg_class c on c.oid = w.ev_class
      where w.rulename <> '_RETURN' and ${userSchema('c.relnamespace')} and not ${ofExtension('pg_class', 'c.oid')}
    union all select 'statistics object' from pg_statistic_ext x where ${userSchema('x.stxnamespace')} and not ${ofExtension('pg_statistic_ext', 'x.oid')}
    union all select 'operator' from pg_operator o where ${userSchema('o.oprnamespace')} and not ${ofExtension('pg_operator', 'o.oid')}
    union all select 'operator class' from pg_opclass o where ${userSchema('o.opcnamespace')} and not ${ofExtension('pg_opclass', 'o.oid')}
    union all select 'collation' from pg_collation o where ${userSchema('o.collnamespace')} and not ${ofExtension('pg_collation', 'o.oid')}
    union all select 'text search configuration' from pg_ts_config o where ${userSchema('o.cfgnamespace')} and not ${ofExtension('pg_ts_config', 'o.oid')}
    union all select 'text search dictionary' from pg_ts_dict o where ${userSchema('o.dictnamespace')} and not ${ofExtension('pg_ts_dict', 'o.oid')}
    union all select 'cast' from pg_cast o where o.oid >= 16384 and not ${ofExtension('pg_cast', 'o.oid')}
    union all select 'foreign server' from pg_foreign_server o where not ${ofExtension('pg_foreign_server', 'o.oid')}
    union all select 'default privilege' from pg_default_acl
    union all select 'large object' from pg_largeobject_metadata
  ) objects group by kind order by kind`

const databaseQuery = `
  select to_jsonb(d) as row, pg_encoding_to_char(d.encoding) as encoding from pg_database d where d.datname = current_database()`

const settingsQuery = `
  select coalesce(r.rolname, '') as role, setting from pg_db_role_setting s
    join pg_database d on d.oid = s.setdatabase left join pg_roles r on r.oid = s.setrole, unnest(s.setconfig) as setting
  where d.datname = current_database() order by 1, 2`

/** What a fingerprint says about the database besides its rows. */
export async function describeDatabase(
  session: Session,
): Promise<Omit<Fingerprint, 'largeObjects' | 'tables' | 'warnings'>> {
  const [moment] = await session.query<{ at: Date; lsn: string; version: string }>(
    `select statement_timestamp() as at, current_setting('server_version_num') as version,
       case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_insert_lsn() end::text as lsn`,
  )
  const [database] = await session.query<{ row: Record<string, unknown>; encoding: string }>(databaseQuery)
  const settings = await session.query<{ role: string; setting: string }>(settingsQuery)
  const extensions = await session.query<{ name: string; version: string }>(
    'select extname as name, extversion as version from pg_extension order by extname',
  )
  const collations = await session.query<{ name: string; version: string }>(
    `select distinct n.nspname || '.' || c.collname || ' (' || c.collprovider::text || ')' as name, pg_collation_actual_version(c.oid) as version
     from pg_collation c join pg_namespace n on n.oid = c.collnamespace
     where pg_collation_actual_version(c.oid) is not null
       and c.oid in (select attcollation from pg_attribute union select unnest(indcollation) from pg_index) order by 1`,
  )
  const objects = await session.query<{ kind: string; count: string }>(objectsQuery)
  if (moment === undefined || database === undefined)
    throw new LifeboatError('server-error', 'the server described nothing')
  return {
    formatVersion: fingerprintFormatVersion,
    takenAt: moment.at.toISOString(),
    lsn: moment.lsn,
    serverVersionNum: Number(moment.version),
    database: { encoding: database.encoding, ...localeOf(database.row) },
    settings: settings.map(({ role, setting }) => (role === '' ? setting : `${role}: ${setting}`)),
    extensions,
    collations,
    objects: Object.fromEntries(objects.map(({ kind, count }) => [kind, Number(count)])),
  }
}

export async function listTables(session: Session): Promise<readonly TableToHash[]> {
  const rows = await session.query<Omit<TableToHash, 'bytes'> & { bytes: string | null }>(tablesQuery)
  return rows.map((row) => ({ ...row, bytes: Number(row.bytes ?? 0), rows: Number(row.rows ?? 0) }))
}

/**
 * Hash over the contents of all large objects. The pages of pg_largeobject cannot be hashed instead: a restore fills
 * the holes of a sparse one. One larger than 1 GB cannot be read whole; all are then left out, with a warning.
 */
export async function hashLargeObjects(
  session: Session,
  timeoutMs: number,
): Promise<{ hash: RowsHash | null; warnings: readonly string[] }> {
  await session.query('savepoint large_objects')
  try {
    await session.query(`set local statement_timeout = ${timeoutMs}`)
    const [row] = await session.query<{ rows: string; hash: string }>(
      `select count(*)::text as rows, coalesce(sum(hashtextextended((oid::text || ':' || md5(lo_get(oid))) collate "C", 0)), 0)::text as hash
       from pg_largeobject_metadata`,
    )
    await session.query('set local statement_timeout = 0')
    await session.query('release savepoint large_objects')
    return { hash: { rows: Number(row?.rows), hash: row?.hash ?? '' }, warnings: [] }
  } catch (error) {
    const { details, message } = error as LifeboatError
    const state = details?.sqlState
    if (typeof state !== 'string' || state === '' || state.startsWith('57P')) throw error
    await session.query('rollback to savepoint large_objects')
    return { hash: null, warnings: [`large objects were not fingerprinted: ${message}`] }
  }
}

/**
 * Columns of pg_database that a restore must reproduce; which of them exist depends on the server's version. They go by
 * their newest names, so that a copy on a newer server can be compared.
 */
function localeOf(row: Record<string, unknown>): Record<string, string | number | boolean | null> {
  const wanted = [
    'datcollate',
    'datctype',
    'datlocprovider',
    'datlocale',
    'daticurules',
    'datconnlimit',
    'datistemplate',
    'datallowconn',
  ]
  const renamed = 'daticulocale' in row ? { ...row, datlocale: row.daticulocale } : row
  return Object.fromEntries(
    wanted
      .filter((name) => name in renamed)
      .map((name) => [name, (renamed as typeof row)[name] as string | number | boolean | null]),
  )
}
