import { hash } from 'node:crypto'
import { LifeboatError } from '../domain/errors.ts'
import { parseLsn } from '../domain/lsn.ts'
import type { ClockSample } from '../domain/recovery-point.ts'
import { type ConnectionSource, connect, type Session } from './connection.ts'

/** One look at the server's clock and its WAL. */
export interface LsnSample extends Omit<ClockSample, 'at'> {
  /** By the server's clock, milliseconds since 1970. */
  readonly serverAt: number
  /**
   * Everything that was committed before this moment is in the WAL before `lsn`. By the server's clock; on a standby that of
   * the last commit it has replayed, null if it has replayed none since its start.
   */
  readonly at: number | null
  readonly segmentSize: number
  readonly inRecovery: boolean
}

export interface LsnClockProbe {
  /** @throws LifeboatError what `connect` throws; the signal's reason when aborted */
  sample(signal: AbortSignal): Promise<LsnSample>
  close(): Promise<void>
}

/** What does not change while a session lives: all sessions end with a crash of any of the server's processes. */
interface SessionFacts {
  readonly systemIdentifier: string
  readonly start: string
  readonly segmentSize: number
}

interface OpenSession {
  readonly session: Session
  readonly facts: SessionFacts
  /** Ends the session at once. */
  readonly ended: AbortController
}

interface Row {
  readonly recovery: boolean
  readonly server_at: string
  readonly at: string | null
  readonly snapshot: string | null
  readonly lsn: string | null
  readonly timeline: string | null
}

const milliseconds = (moment: string) => `floor(extract(epoch from ${moment}) * 1000)::bigint::text`

/**
 * One statement, which is its own transaction: its moment comes before its snapshot, and that before its place in the WAL.
 * `pg_current_wal_lsn` would miss asynchronous commits, `clock_timestamp` comes after the snapshot, and the timeline of
 * the control file is the former one until the first checkpoint after a promotion. On a standby, whose control file may lag
 * behind, a place that is beyond the end of the timeline that it names counts for nothing.
 */
const sampleQuery = `
  select recovery, ${milliseconds('statement_timestamp()')} as server_at,
    case when recovery then ${milliseconds('pg_last_xact_replay_timestamp()')}
      else ${milliseconds('statement_timestamp()')} end as at,
    case when not recovery then pg_current_snapshot()::text end as snapshot,
    (case when recovery then pg_last_wal_replay_lsn() else pg_current_wal_insert_lsn() end)::text as lsn,
    case when recovery then (
        select greatest(c.timeline_id, r.min_recovery_end_timeline)::text
        from pg_control_checkpoint() c, pg_control_recovery() r)
      else ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::bigint::text end as timeline
  from (select pg_is_in_recovery() as recovery offset 0) r`

/**
 * When the server's memory was set up: by its start, or after the crash of one of its processes. Without pg_monitor only the
 * session's own start is to be seen, which comes after both.
 */
const factsQuery = `
  select system_identifier::text as id, pg_size_bytes(current_setting('wal_segment_size'))::text as segment_size,
    pg_postmaster_start_time()::text || ' ' || coalesce(
      (select max(backend_start)::text from pg_stat_activity where backend_type = 'checkpointer'),
      (select backend_start::text from pg_stat_activity where pid = pg_backend_pid())) as start
  from pg_control_system()`

/**
 * Looks at the clock over one session that stays open: a new one each few seconds would fill the server's log. One that
 * breaks, or does not answer in time, is renewed by the next look.
 */
export function createLsnClockProbe(
  source: ConnectionSource & { readonly maintenanceDatabase: string },
): LsnClockProbe {
  let open: OpenSession | null = null

  async function begin(signal: AbortSignal): Promise<OpenSession> {
    const ended = new AbortController()
    try {
      return await within(signal, ended, async () => {
        const session = await connect(source, { database: source.maintenanceDatabase, signal: ended.signal })
        const [row] = await session.query<{ id: string; segment_size: string; start: string }>(factsQuery)
        if (row === undefined) throw new LifeboatError('server-error', 'the server did not say who it is')
        const facts = { systemIdentifier: row.id, segmentSize: Number(row.segment_size), start: row.start }
        return { session, facts, ended }
      })
    } catch (error) {
      ended.abort(error)
      throw error
    }
  }

  async function look({ session, facts, ended }: OpenSession, signal: AbortSignal): Promise<LsnSample> {
    const [row] = await within(signal, ended, () => session.query<Row>(sampleQuery))
    const lsn = row?.lsn == null ? null : parseLsn(row.lsn)
    const timeline = Number(row?.timeline)
    if (row === undefined || lsn === null || !(timeline > 0)) {
      throw new LifeboatError('server-error', 'the server did not say where its WAL is', {
        hint: 'a standby that has replayed nothing yet has no place in the WAL: wait',
      })
    }
    return {
      systemIdentifier: facts.systemIdentifier,
      timeline,
      // A snapshot names each transaction under way: there may be thousands.
      state: row.snapshot === null ? null : hash('sha256', `${facts.start} ${row.snapshot}`, 'base64').slice(0, 32),
      lsn,
      serverAt: Number(row.server_at),
      at: row.at === null ? null : Number(row.at),
      segmentSize: facts.segmentSize,
      inRecovery: row.recovery,
    }
  }

  function drop({ ended }: OpenSession): void {
    ended.abort(new LifeboatError('server-unreachable', 'the session was given up'))
    open = null
  }

  return {
    async sample(signal) {
      signal.throwIfAborted()
      const former = open
      if (former !== null) {
        try {
          return await look(former, signal)
        } catch (error) {
          drop(former)
          signal.throwIfAborted()
          if (error instanceof LifeboatError && error.code === 'server-error') throw error
          // It may have ended long ago: a restart, an idle timeout. A new one tells.
        }
      }
      const made = await begin(signal)
      try {
        const found = await look(made, signal)
        open = made
        return found
      } catch (error) {
        drop(made)
        throw error
      }
    },
    async close() {
      const last = open
      open = null
      await last?.session.close()
      last?.ended.abort()
    },
  }
}

/** Does work on a session, and ends that session if the signal aborts meanwhile. */
async function within<T>(signal: AbortSignal, ended: AbortController, work: () => Promise<T>): Promise<T> {
  const onAbort = () => ended.abort(signal.reason)
  if (signal.aborted) onAbort()
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    return await work()
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}
