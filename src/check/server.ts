import type { Clock } from '../clock.ts'
import type { ValidatedConfig } from '../config/validated.ts'
import {
  type ClusterFacts,
  canReadPasswords,
  clockOffsetSeconds,
  closedDatabases,
  type DatabaseFacts,
  describeCluster,
  invisibleToRole,
  listDatabases,
  selectDatabases,
} from '../postgres/cluster.ts'
import { type Session, withSession } from '../postgres/connection.ts'
import { quoteIdentifier } from '../postgres/conninfo.ts'
import { isAsideName } from '../postgres/swap-databases.ts'
import { type Finding, looked, ok, problem, warning } from './finding.ts'

/** What the server said of itself; null when it could not be reached. */
export interface ServerFindings {
  readonly findings: readonly Finding[]
  readonly cluster: ClusterFacts | null
  readonly largestDatabaseBytes: number
}

/** Looks at the server: reachable, privileges of the role, every database that a dump would read, the clock. */
export async function checkServer(config: ValidatedConfig, clock: Clock, signal: AbortSignal): Promise<ServerFindings> {
  const database = config.postgres.maintenanceDatabase
  let cluster: ClusterFacts | null = null
  let names: readonly string[] = []
  let largestDatabaseBytes = 0
  const findings = [
    ...(await looked('server', () =>
      withSession(config.postgres, { database, signal }, async (session) => {
        cluster = await describeCluster(session)
        const existing = await listDatabases(session)
        const { selected, missing } = selectDatabases(existing, config.postgres.databases)
        names = selected.map(({ name }) => name)
        largestDatabaseBytes = Math.max(0, ...selected.map(({ bytes }) => bytes))
        return [
          ok(
            'server',
            `PostgreSQL ${cluster.serverVersion}, system identifier ${cluster.systemIdentifier}, ${names.length} databases`,
          ),
          ...missing.map((name) =>
            problem('database', `${JSON.stringify(name)} does not exist`, 'correct postgres.databases'),
          ),
          ...(await checkLeftOut(session, existing, config.postgres.databases)),
          ...(await checkRole(session)),
          ...(await checkClock(session, clock)),
        ]
      }),
    )),
  ]
  for (const name of names) {
    const found = await looked('database', () =>
      withSession(config.postgres, { database: name, signal }, (session) => checkDatabase(session, name)),
    )
    findings.push(...found)
  }
  return { findings, cluster, largestDatabaseBytes }
}

interface RoleRow {
  readonly name: string
  readonly superuser: boolean
  readonly bypassrls: boolean
  readonly reads: boolean
  readonly monitors: boolean
  readonly lo: string
}

/** The least role that works; a superuser needs nothing more. Source: docs/privileges.md */
async function checkRole(session: Session): Promise<readonly Finding[]> {
  const [role] = await session.query<RoleRow>(
    `select rolname as name, rolsuper as superuser, rolbypassrls as bypassrls, pg_has_role('pg_monitor', 'usage') as monitors,
       ${(await hasReadAllData(session)) ? `pg_has_role('pg_read_all_data', 'usage')` : 'false'} as reads,
       current_setting('lo_compat_privileges') as lo
     from pg_roles where rolname = current_user`,
  )
  if (role === undefined) return []
  if (role.superuser) return [ok('server', `role ${JSON.stringify(role.name)} is a superuser`)]
  const grant = `"${role.name.replaceAll('"', '""')}"`
  const found: Finding[] = []
  if (!role.reads) found.push(problem('server', 'the role may not read all data', `GRANT pg_read_all_data TO ${grant}`))
  if (!role.bypassrls)
    found.push(
      problem(
        'server',
        'row security hides rows from the role, so a dump fails on such tables',
        `ALTER ROLE ${grant} BYPASSRLS`,
      ),
    )
  if (!role.monitors)
    found.push(
      warning('server', 'the role may not see statistics and sizes of everything', `GRANT pg_monitor TO ${grant}`),
    )
  if (role.lo !== 'on')
    found.push(
      warning(
        'server',
        'large objects that the role does not own cannot be dumped',
        `ALTER ROLE ${grant} SET lo_compat_privileges = on`,
      ),
    )
  if (!(await canReadPasswords(session)))
    found.push(
      warning(
        'server',
        'globals.sql will have no password hashes',
        `GRANT SELECT ON pg_authid TO ${grant}, or keep the passwords elsewhere`,
      ),
    )
  if (found.length === 0)
    found.push(ok('server', `role ${JSON.stringify(role.name)} can read everything that a dump needs`))
  found.push(
    ok('server', 'this role cannot restore: give `lifeboat restore` a superuser with --user and --password-file'),
  )
  return found
}

async function hasReadAllData(session: Session): Promise<boolean> {
  const rows = await session.query(`select from pg_roles where rolname = 'pg_read_all_data'`)
  return rows.length > 0
}

async function checkDatabase(session: Session, name: string): Promise<readonly Finding[]> {
  const label = JSON.stringify(name)
  const [row] = await session.query<{ tables: string; unreadable: string; example: string | null; invalid: string }>(
    `select count(*)::text as tables, count(*) filter (where not readable)::text as unreadable, min(name) filter (where not readable) as example,
       (select count(*) from pg_index where not indisvalid)::text as invalid
     from (select c.oid::regclass::text as name, has_table_privilege(c.oid, 'select') and has_schema_privilege(c.relnamespace, 'usage') as readable
       from pg_class c where c.relkind in ('r', 'p', 'S') and c.relnamespace in (select oid from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema')) t`,
  )
  const found: Finding[] = []
  if (row !== undefined && row.unreadable !== '0') {
    found.push(
      problem(
        'database',
        `${label}: ${row.unreadable} tables cannot be read, e.g. ${row.example}: the dump will fail`,
        'GRANT pg_read_all_data to the role (14 and newer), or SELECT on them',
      ),
    )
  }
  if (row !== undefined && row.invalid !== '0')
    found.push(
      warning('database', `${label}: ${row.invalid} invalid indexes, which a dump leaves out`, 'REINDEX or drop them'),
    )
  for (const lost of await invisibleToRole(session))
    found.push(warning('database', `${label}: ${lost}`, 'dump as a superuser, or note them down elsewhere'))
  return found.length > 0 ? found : [ok('database', `${label}: ${row?.tables ?? 0} tables can be read`)]
}

/** Verdicts, schedules and alerts compare times of both machines. */
async function checkClock(session: Session, clock: Clock): Promise<readonly Finding[]> {
  const offset = await clockOffsetSeconds(session, () => clock.now())
  const words = `the server's clock is ${Math.abs(offset).toFixed(1)} s ${offset < 0 ? 'behind' : 'ahead of'} ours`
  if (Math.abs(offset) < 2) return [ok('clock', words)]
  return [(Math.abs(offset) < 60 ? warning : problem)('clock', words, 'let both machines keep time by NTP')]
}

/** Databases that no backup holds, though nobody said so. */
async function checkLeftOut(
  session: Session,
  existing: readonly DatabaseFacts[],
  configured: readonly string[] | null,
): Promise<readonly Finding[]> {
  const aside = existing.filter(({ name }) => isAsideName(name) && configured?.includes(name) !== true)
  const closed = await closedDatabases(session)
  return [
    ...aside.map(({ name }) =>
      warning(
        'database',
        `${JSON.stringify(name)} is not backed up: a restore has set it aside`,
        `when you are sure that it is not needed: DROP DATABASE ${quoteIdentifier(name)}`,
      ),
    ),
    ...closed.map((name) =>
      warning(
        'database',
        `${JSON.stringify(name)} is not backed up: it allows no connections`,
        `ALTER DATABASE ${quoteIdentifier(name)} ALLOW_CONNECTIONS true, or drop it when it is not needed`,
      ),
    ),
  ]
}
