import type { ValidatedConfig } from '../config/validated.ts'
import { lookAtStandby } from '../jobs/physical-standby.ts'
import { describeCluster } from '../postgres/cluster.ts'
import { type ConnectionSource, type Session, withSession } from '../postgres/connection.ts'
import { quoteIdentifier } from '../postgres/conninfo.ts'
import { physicalFacts } from '../postgres/physical-facts.ts'
import { behindBy, flushedTo, primaryRights, replayedTo } from '../postgres/standby.ts'
import { type Finding, looked, ok, problem, warning } from './finding.ts'

/** Whether physical backups can be read from the standby that is configured. */
export async function checkStandby(
  config: ValidatedConfig,
  source: ConnectionSource,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const { postgres, physical } = config
  const way = { database: postgres.maintenanceDatabase, signal }
  const found = await looked('server', () =>
    withSession(postgres, way, async (session) => {
      const primary = { ...(await describeCluster(session)), ...(await physicalFacts(session)) }
      await lookAtStandby(config, source, primary, signal)
      const flushed = await flushedTo(session)
      const replayed = await withSession(source, way, replayedTo)
      const far = replayed === null || replayed < flushed ? behindBy(replayed, flushed) : 'it has replayed all'
      return [ok('server', `the standby ${source.host}:${source.port} can be backed up: ${far}`)]
    }),
  )
  const rights = await looked('server', () => withSession(postgres, way, checkRights))
  // Without it there are backups all the same, if it may be so.
  return [...(physical.standby?.required === true ? found : found.map(asWarning)), ...rights]
}

function asWarning(finding: Finding): Finding {
  if (finding.status !== 'error') return finding
  return { ...finding, status: 'warning', what: `${finding.what}: physical backups are read from the primary` }
}

/** What makes a backup of a standby begin and end at once. */
async function checkRights(session: Session): Promise<readonly Finding[]> {
  const rights = await primaryRights(session)
  const [row] = await session.query<{ role: string; seconds: number; version: number }>(
    `select current_user as role, (select setting::int from pg_settings where name = 'archive_timeout') as seconds,
       current_setting('server_version_num')::int as version`,
  )
  const { role = '', seconds = 0, version = 0 } = row ?? {}
  const found: Finding[] = []
  if (!rights.switchSegment) {
    const grant = `GRANT EXECUTE ON FUNCTION pg_switch_wal() TO ${quoteIdentifier(role)} (in the maintenance database)`
    const what = 'the role may not finish a segment at the primary: a backup of the standby waits for archive_timeout'
    found.push(
      seconds > 0 ? warning('server', what, grant) : problem('server', `${what}, which is off`, `${grant}, or set it`),
    )
  }
  if (!rights.checkpoint && version >= 150_000)
    found.push(
      warning(
        'server',
        'the role may not order a checkpoint at the primary: an incremental backup of a standby that has got little since the last one becomes a full one',
        `GRANT pg_checkpoint TO ${quoteIdentifier(role)}`,
      ),
    )
  return found
}
