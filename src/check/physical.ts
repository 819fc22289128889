import type { ValidatedConfig } from '../config/validated.ts'
import { incrementalHint } from '../jobs/physical-plan.ts'
import { type Session, withSession } from '../postgres/connection.ts'
import { quoteIdentifier } from '../postgres/conninfo.ts'
import { runProgram } from '../postgres/programs.ts'
import { type Finding, looked, ok, problem, warning } from './finding.ts'

interface Row {
  readonly role: string
  readonly may_replicate: boolean
  readonly version: string
  readonly wal_level: string
  readonly senders: string
  readonly summarize_wal: string | null
  readonly recovery: boolean
  readonly hidden: boolean
}

/** What physical backups need, where they are scheduled. */
export async function checkPhysical(config: ValidatedConfig, signal: AbortSignal): Promise<readonly Finding[]> {
  const { full, incremental } = config.schedule
  if (full === null && incremental === null) return []
  const { postgres } = config
  return [
    ...(await looked('programs', async () => {
      const { stdout } = await runProgram({ program: 'zstd', args: ['--version'], signal })
      return [ok('programs', stdout.trim().replace(/^\*+ | \*+$|,.*$/g, ''))]
    })),
    ...(await looked('server', () =>
      withSession(postgres, { database: postgres.maintenanceDatabase, signal }, (session) =>
        checkServer(session, incremental !== null),
      ),
    )),
  ]
}

async function checkServer(session: Session, isIncremental: boolean): Promise<readonly Finding[]> {
  const [row] = await session.query<Row>(
    `select rolname as role, rolsuper or rolreplication as may_replicate, current_setting('server_version_num') as version,
       current_setting('wal_level') as wal_level, current_setting('max_wal_senders') as senders,
       current_setting('summarize_wal', true) as summarize_wal, pg_is_in_recovery() as recovery,
       not exists (select from pg_settings where name = 'config_file') as hidden
     from pg_roles where rolname = current_user`,
  )
  if (row === undefined) return []
  const found: Finding[] = []
  if (!row.may_replicate) {
    const hint = `ALTER ROLE ${quoteIdentifier(row.role)} REPLICATION, and a line for the database \`replication\` in pg_hba.conf`
    found.push(problem('server', 'the role may not take physical backups', hint))
  }
  if (row.wal_level === 'minimal')
    found.push(
      problem('server', 'wal_level is minimal: no physical backup can be taken', 'set it to replica, and restart'),
    )
  if (Number(row.senders) < 2)
    found.push(
      problem('server', `max_wal_senders is ${row.senders}: a physical backup needs one`, 'set it to 10, and restart'),
    )
  if (row.recovery)
    found.push(
      problem('server', 'it is a standby, of which physical backups are not taken', 'set postgres.host to the primary'),
    )
  if (row.hidden)
    found.push(
      warning(
        'server',
        'the role may not see where the configuration is, so that it is not saved',
        'GRANT pg_monitor to it',
      ),
    )
  if (isIncremental) found.push(...checkIncremental(row))
  return found.length > 0 ? found : [ok('server', 'physical backups can be taken')]
}

function checkIncremental({ version, summarize_wal: summarizes }: Row): readonly Finding[] {
  const major = Math.floor(Number(version) / 10_000)
  if (major < 17)
    return [
      problem('schedule', `schedule.incremental: PostgreSQL ${major} has no incremental backups`, incrementalHint),
    ]
  if (summarizes === 'on') return []
  const hint = `ALTER SYSTEM SET summarize_wal = on, and SELECT pg_reload_conf()`
  return [warning('server', 'summarize_wal is off: every incremental backup becomes a full one', hint)]
}
