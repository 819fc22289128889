import { longestGapSeconds } from '../config/schedule.ts'
import type { ValidatedConfig } from '../config/validated.ts'
import { type ConnectionSource, type Session, withSession } from '../postgres/connection.ts'
import { identifySystem } from '../postgres/replication.ts'
import { type Finding, looked, problem, warning } from './finding.ts'

/** A summarizer keeps up with all that a server writes; one that is so far behind has a reason. */
const behindBytes = 1024 * 1024 * 1024

/**
 * Whether the server that is read lets us in as a base backup comes: role, pg_hba.conf, a WAL sender that is free; and, for
 * incremental backups, whether its summaries are there and will be.
 */
export async function checkSending(
  config: ValidatedConfig,
  source: ConnectionSource,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const { incremental } = config.schedule
  const found = await looked('server', async () => {
    await identifySystem(source, signal)
    return []
  })
  if (found.length > 0) return found
  const database = config.postgres.maintenanceDatabase
  return looked('server', () =>
    withSession(source, { database, signal }, async (session) => [
      ...(await checkSenders(session)),
      ...(incremental === null ? [] : await checkSummaries(session, longestGapSeconds(incremental))),
    ]),
  )
}

async function checkSenders(session: Session): Promise<readonly Finding[]> {
  const [row] = await session.query<{ most: number; used: number }>(
    `select current_setting('max_wal_senders')::int as most, (select count(*)::int from pg_stat_replication) as used`,
  )
  const { most, used } = row ?? { most: 0, used: 0 }
  if (used < most) return []
  const hint = 'each backup, standby and receiver of WAL needs one: raise it, which needs a restart'
  return [problem('server', `none of max_wal_senders = ${most} is free for a backup`, hint)]
}

interface Summaries {
  readonly summarizes: string
  readonly keep_minutes: number
  readonly pid: number | null
  readonly behind: string
}

/** Source: https://www.postgresql.org/docs/17/functions-info.html#FUNCTIONS-INFO-WAL-SUMMARY */
async function checkSummaries(session: Session, longestGap: number): Promise<readonly Finding[]> {
  const [row] = await session.query<Summaries>(
    `select current_setting('summarize_wal') as summarizes,
       (select setting::int from pg_settings where name = 'wal_summary_keep_time') as keep_minutes, summarizer_pid as pid,
       pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_flush_lsn() end,
         summarized_lsn)::int8::text as behind
     from pg_get_wal_summarizer_state()`,
  )
  if (row === undefined) return []
  if (row.summarizes !== 'on') {
    const hint = `ALTER SYSTEM SET summarize_wal = on, and SELECT pg_reload_conf()`
    return [warning('server', 'summarize_wal is off: every incremental backup becomes a full one', hint)]
  }
  const found: Finding[] = []
  if (row.pid === null || Number(row.behind) > behindBytes) {
    const state = row.pid === null ? 'does not run' : `is ${Math.round(Number(row.behind) / 1_048_576)} MiB behind`
    found.push(
      warning(
        'server',
        `the summarizer of the WAL ${state}: incremental backups wait for it, or become full ones`,
        "see the server's log",
      ),
    )
  }
  if (row.keep_minutes > 0 && row.keep_minutes * 60 <= longestGap)
    found.push(
      warning(
        'server',
        `wal_summary_keep_time is ${row.keep_minutes} min, and schedule.incremental pauses for longer: the summaries are gone by then`,
        `ALTER SYSTEM SET wal_summary_keep_time = '10d', and SELECT pg_reload_conf()`,
      ),
    )
  return found
}
