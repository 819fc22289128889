import type { ValidatedConfig } from '../config/validated.ts'
import { incrementalHint } from '../jobs/physical-plan.ts'
import { standbySource } from '../jobs/physical-standby.ts'
import { withSession } from '../postgres/connection.ts'
import { quoteIdentifier } from '../postgres/conninfo.ts'
import { type Finding, looked, ok, problem, warning } from './finding.ts'
import { checkPhysicalPrograms } from './physical-programs.ts'
import { checkPhysicalRoom } from './physical-room.ts'
import { checkSending } from './sending.ts'
import { checkStandby } from './standby.ts'

interface Row {
  readonly role: string
  readonly may_replicate: boolean
  readonly version: string
  readonly wal_level: string
  readonly senders: string
  readonly recovery: boolean
  readonly hidden: boolean
}

/** What physical backups need, where they are scheduled. */
export async function checkPhysical(config: ValidatedConfig, signal: AbortSignal): Promise<readonly Finding[]> {
  const { full, incremental } = config.schedule
  if (full === null && incremental === null) return []
  const { postgres } = config
  let major: number | null = null
  let primary: readonly Finding[] = []
  const reached = await looked('server', () =>
    withSession(postgres, { database: postgres.maintenanceDatabase, signal }, async (session) => {
      const [row] = await session.query<Row>(rowQuery)
      if (row === undefined) return []
      major = Math.floor(Number(row.version) / 10_000)
      primary = [...checkRow(row), ...(await checkPhysicalRoom(session, config))]
      return incremental === null ? [] : checkMajor(major)
    }),
  )
  const programs = await checkPhysicalPrograms(config, major, signal)
  const found = [...primary, ...reached]
  const source = standbySource(config)
  // Where the basics are wrong the rest says the same in other words.
  if (found.every(({ status }) => status !== 'error')) {
    found.push(...(await checkSending(config, source ?? postgres, signal)))
    if (source !== null) found.push(...(await checkStandby(config, source, signal)))
  }
  const isFine = found.every(({ status }) => status === 'ok')
  return [...programs, ...found, ...(isFine ? [ok('server', 'physical backups can be taken')] : [])]
}

const rowQuery = `select rolname as role, rolsuper or rolreplication as may_replicate, current_setting('server_version_num') as version,
    current_setting('wal_level') as wal_level, current_setting('max_wal_senders') as senders, pg_is_in_recovery() as recovery,
    not exists (select from pg_settings where name = 'config_file') as hidden
  from pg_roles where rolname = current_user`

function checkRow(row: Row): readonly Finding[] {
  const found: Finding[] = []
  if (!row.may_replicate) {
    const hint = `ALTER ROLE ${quoteIdentifier(row.role)} REPLICATION, and a line for the database \`replication\` in pg_hba.conf`
    found.push(problem('server', 'the role may not take physical backups', hint))
  }
  if (row.wal_level === 'minimal')
    found.push(
      problem('server', 'wal_level is minimal: no physical backup can be taken', 'set it to replica, and restart'),
    )
  if (row.senders === '0')
    found.push(problem('server', 'max_wal_senders is 0: a physical backup needs one', 'set it to 10, and restart'))
  if (row.recovery)
    found.push(
      problem(
        'server',
        'postgres.host is a standby',
        'set postgres.host to the primary, and physical.standby to the standby: a backup of it needs both',
      ),
    )
  if (row.hidden)
    found.push(
      warning(
        'server',
        'the role may not see where the configuration is, so that it is not saved',
        'GRANT pg_monitor to it',
      ),
    )
  return found
}

function checkMajor(major: number): readonly Finding[] {
  if (major >= 17) return []
  return [problem('schedule', `schedule.incremental: PostgreSQL ${major} has no incremental backups`, incrementalHint)]
}
