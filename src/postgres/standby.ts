import { LifeboatError } from '../domain/errors.ts'
import { formatLsn, parseLsn } from '../domain/lsn.ts'
import { segmentAt, segmentBefore } from '../domain/wal.ts'
import { type ConnectionSource, type Session, withSession } from './connection.ts'
import { type PhysicalServerFacts, tablespacesOf } from './physical-facts.ts'
import { identifySystem } from './replication.ts'

/** What decides whether a standby can be backed up, as it is now. */
export interface StandbyFacts extends Pick<PhysicalServerFacts, 'summarizesWal' | 'tablespaces'> {
  readonly systemIdentifier: string
  /** The one that is replayed. */
  readonly timeline: number
  readonly inRecovery: boolean
}

/** What a standby is measured by. */
export interface PrimaryFacts {
  readonly systemIdentifier: string
  readonly timeline: number
  readonly inRecovery: boolean
  readonly fullPageWrites: boolean
}

type Way = { readonly database: string; readonly signal: AbortSignal }

/**
 * Connects to it both ways: as pg_basebackup will, and with SQL.
 *
 * @throws LifeboatError as `identifySystem`
 */
export async function standbyFacts(source: ConnectionSource, { database, signal }: Way): Promise<StandbyFacts> {
  const { systemIdentifier, timeline } = await identifySystem(source, signal)
  return withSession(source, { database, signal }, async (session) => {
    const [row] = await session.query<{ recovery: boolean; summarizes: string | null }>(
      `select pg_is_in_recovery() as recovery, current_setting('summarize_wal', true) as summarizes`,
    )
    return {
      ...{ systemIdentifier, timeline },
      inRecovery: row?.recovery === true,
      summarizesWal: row?.summarizes === 'on',
      tablespaces: await tablespacesOf(session),
    }
  })
}

/** Why the standby cannot be backed up in place of its primary, and what to do; null: it can. */
export function whyUnfit(standby: StandbyFacts, primary: PrimaryFacts): { why: string; hint: string } | null {
  const { systemIdentifier, timeline } = standby
  if (systemIdentifier !== primary.systemIdentifier) {
    const why = `it is of another cluster: its system identifier is ${systemIdentifier}, that of the primary ${primary.systemIdentifier}`
    return { why, hint: 'set physical.standby to a standby of the server in postgres.host' }
  }
  if (!standby.inRecovery)
    return {
      why: 'it is no standby: it has been promoted, or it is the primary',
      hint: 'set postgres.host to the primary, and physical.standby to a standby of it',
    }
  if (timeline !== primary.timeline)
    return {
      why: `it replays timeline ${timeline}, and the primary is on ${primary.timeline}`,
      hint: 'see that it follows the new primary; one that has gone past the fork must be made anew (pg_rewind)',
    }
  if (!primary.fullPageWrites)
    return {
      why: 'full_page_writes is off at the primary, without which a backup of a standby is damaged',
      hint: 'ALTER SYSTEM SET full_page_writes = on, and SELECT pg_reload_conf(), at the primary',
    }
  return null
}

/** Where the primary's WAL ends, as far as it has left its memory. */
export async function flushedTo(session: Session): Promise<bigint> {
  const [row] = await session.query<{ lsn: string }>('select pg_current_wal_flush_lsn()::text as lsn')
  return lsnOf(row?.lsn)
}

/** How far a standby has come; null: it has replayed nothing. @throws LifeboatError `server-error` when it is none any more */
export async function replayedTo(session: Session): Promise<bigint | null> {
  const [row] = await session.query<{ lsn: string | null; recovery: boolean }>(
    'select pg_last_wal_replay_lsn()::text as lsn, pg_is_in_recovery() as recovery',
  )
  if (row?.recovery !== true) throw new LifeboatError('server-error', 'the standby was promoted')
  return row.lsn === null ? null : lsnOf(row.lsn)
}

/** What the role may do at the primary, so that a backup of its standby begins and ends at once. */
export interface PrimaryRights {
  readonly checkpoint: boolean
  readonly switchSegment: boolean
}

export async function primaryRights(session: Session): Promise<PrimaryRights> {
  const [row] = await session.query<PrimaryRights>(
    `select (select rolsuper from pg_roles where rolname = current_user) or
         exists (select from pg_roles where rolname = 'pg_checkpoint' and pg_has_role(oid, 'usage')) as checkpoint,
       has_function_privilege('pg_switch_wal()', 'execute') as "switchSegment"`,
  )
  return row ?? { checkpoint: false, switchSegment: false }
}

/**
 * A backup of a standby begins at the newest checkpoint of the primary that it has replayed: a new one keeps the WAL that it
 * needs short, and lets an incremental one follow its parent however idle the cluster is.
 */
export async function orderCheckpoint(session: Session): Promise<void> {
  if ((await primaryRights(session)).checkpoint) await session.query('checkpoint')
}

/** Has the primary finish the segment that holds the end of a backup, unless it has or the role may not. */
export async function finishSegment(
  session: Session,
  { stop, segmentSize }: { readonly stop: bigint; readonly segmentSize: number },
): Promise<void> {
  if (segmentAt(await flushedTo(session), segmentSize) > segmentBefore(stop, segmentSize)) return
  if ((await primaryRights(session)).switchSegment) await session.query('select pg_switch_wal()')
}

function lsnOf(text: string | undefined): bigint {
  const lsn = parseLsn(text ?? '')
  if (lsn === null) throw new LifeboatError('server-error', 'the server did not say where its WAL ends')
  return lsn
}

/** In words, for messages. */
export function behindBy(replayed: bigint | null, target: bigint): string {
  if (replayed === null) return 'it has replayed nothing'
  return `it has replayed up to ${formatLsn(replayed)}, ${target - replayed} bytes short of ${formatLsn(target)}`
}
