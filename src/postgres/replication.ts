import { LifeboatError } from '../domain/errors.ts'
import { parseLsn } from '../domain/lsn.ts'
import { lineage, parseHistory, type Stretch } from '../domain/timeline.ts'
import { type ConnectionSource, type Session, withSession } from './connection.ts'
import { quoteIdentifier } from './conninfo.ts'

/** What a server says to those who want its WAL. */
export interface ReplicationFacts {
  readonly systemIdentifier: string
  readonly timeline: number
  /** Where its WAL ends; of a standby, what it has got. */
  readonly end: bigint
  /** The WAL that leads to its timeline. */
  readonly stretches: readonly Stretch[]
}

/**
 * Connects as a receiver of WAL does, which needs the attribute REPLICATION, an entry in pg_hba.conf and a free WAL sender.
 * Source: https://www.postgresql.org/docs/current/protocol-replication.html
 *
 * @throws LifeboatError as `connect`, with a hint on what is lacking
 */
export async function identifySystem(source: ConnectionSource, signal: AbortSignal): Promise<ReplicationFacts> {
  try {
    return await withSession(source, { database: 'replication', replication: true, signal }, async (session) => {
      const [system] = await session.query<{ systemid: string; timeline: number; xlogpos: string }>('IDENTIFY_SYSTEM')
      const timeline = Number(system?.timeline)
      const end = parseLsn(system?.xlogpos ?? '')
      if (system === undefined || end === null) throw new LifeboatError('server-error', 'the server identified nothing')
      return { systemIdentifier: system.systemid, timeline, end, stretches: await stretchesOf(timeline) }

      async function stretchesOf(timeline: number): Promise<readonly Stretch[]> {
        if (timeline === 1) return lineage({ timeline, switches: [] })
        return lineage(parseHistory(timeline, String(await historyOf(session, timeline))))
      }
    })
  } catch (error) {
    throw explainReplication(error, source.user)
  }
}

/**
 * The bytes of the history file of a timeline that the server knows, with the same privileges.
 *
 * @throws LifeboatError as `connect`, `server-error` where it has none
 */
export async function timelineHistory(
  source: ConnectionSource,
  timeline: number,
  signal: AbortSignal,
): Promise<Buffer> {
  try {
    return await withSession(source, { database: 'replication', replication: true, signal }, (session) =>
      historyOf(session, timeline),
    )
  } catch (error) {
    throw explainReplication(error, source.user)
  }
}

async function historyOf(session: Session, timeline: number): Promise<Buffer> {
  const [row] = await session.query<{ content: Buffer | string }>(`TIMELINE_HISTORY ${timeline}`)
  return Buffer.from(row?.content ?? '') // of a string its UTF-8
}

/** Gives the refusals that replication alone knows their own hints. */
export function explainReplication(error: unknown, user: string): unknown {
  if (!(error instanceof LifeboatError)) return error
  const hints: Readonly<Record<string, string>> = {
    '42501': `ALTER ROLE ${quoteIdentifier(user)} REPLICATION`,
    '28000': `let the role connect for replication: a line \`host replication ${user} ADDRESS scram-sha-256\` in pg_hba.conf (\`all\` as database does not include it)`,
    '53300': 'raise max_wal_senders, which needs a restart of the server',
    '53400': 'raise max_replication_slots, which needs a restart of the server, or drop a slot that is not needed',
    '55000': 'the server needs wal_level = replica or logical: see `lifeboat wal setup`',
  }
  const hint = hints[String(error.details?.sqlState)]
  if (hint === undefined) return error
  return new LifeboatError(error.code, error.message, { hint, details: error.details ?? {}, cause: error })
}
