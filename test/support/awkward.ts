import { quoteIdentifier } from '../../src/postgres/conninfo.ts'
import type { Cluster } from './postgres.ts'

/** What makes dumps and restores stumble that does not set their sessions right. */
const awkwardSql = `
create schema "S p a c e";
create table "S p a c e"."t""able
" (t text, "select" int, row_ int);
insert into "S p a c e"."t""able
" select 'x', i, i from generate_series(1, 10) i;
create table t (t numeric);
insert into t values (1.0), (1.000), (0), (-0.0), ('NaN'), (null);
create table generated (id int generated always as identity, twice int generated always as (2) stored);
insert into generated default values;
create unlogged table quick as select 1 as i;
create sequence down increment -5 minvalue -100 maxvalue -1 start -1;
select nextval('down');
create table guarded as select 1 as i;
alter table guarded enable row level security;
alter table guarded force row level security;
create publication everything for all tables;
create function forbid() returns event_trigger language plpgsql as $$ begin raise exception 'no DDL here'; end $$;
create event trigger forbidden on ddl_command_start execute function forbid();
`

/** A database whose own settings forbid to write, end every statement at once, and whose trigger forbids DDL. */
export async function createAwkwardDatabase(cluster: Cluster, name: string): Promise<void> {
  await cluster.createDatabase(name, awkwardSql)
  const quoted = quoteIdentifier(name)
  const settings = {
    default_transaction_read_only: 'on',
    statement_timeout: '1',
    lock_timeout: '1',
    idle_in_transaction_session_timeout: '1',
    search_path: 'nowhere',
    DateStyle: "'German, DMY'",
    extra_float_digits: '-10',
    ...(cluster.major >= 17 ? { transaction_timeout: '1' } : {}),
  }
  for (const [setting, value] of Object.entries(settings))
    await cluster.sql(`alter database ${quoted} set ${setting} = ${value}`)
}
