import { parseLsn } from '../domain/lsn.ts'
import type { Session } from './connection.ts'

/** One replication slot, as the server tells of it. */
export interface ReplicationSlot {
  readonly name: string
  readonly type: 'physical' | 'logical'
  /** Ends with the session that made it; its name is another each time. */
  readonly temporary: boolean
  readonly active: boolean
  /** `reserved`, `extended`, `unreserved`, `lost`; null: it keeps nothing. */
  readonly walStatus: string | null
  /** From here on WAL is kept for it; null: none is. */
  readonly kept: bigint | null
  /** WAL that is kept for it, bytes; null: none. */
  readonly retainedBytes: number | null
  /** The server's process that sends to it, and to whom. */
  readonly user: string | null
}

interface SlotRow {
  readonly name: string
  readonly type: 'physical' | 'logical'
  readonly temporary: boolean
  readonly active: boolean
  readonly wal_status: string | null
  readonly kept: string | null
  readonly retained: string | null
  readonly used_by: string | null
}

/** Where the WAL of this server ends: what it has written, or what it has got as a standby. */
const endOfWal = `case when pg_is_in_recovery() then greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
    else pg_current_wal_flush_lsn() end`

/**
 * All replication slots, by name. Takes no privilege.
 * Source: https://www.postgresql.org/docs/current/view-pg-replication-slots.html
 */
export async function listSlots(session: Session): Promise<readonly ReplicationSlot[]> {
  const rows = await session.query<SlotRow>(
    `select s.slot_name as name, s.slot_type as type, s.temporary, s.active, s.wal_status, s.restart_lsn::text as kept,
       pg_wal_lsn_diff(${endOfWal}, s.restart_lsn)::text as retained,
       'process ' || s.active_pid || coalesce(', ' || nullif(a.application_name, ''), '') || coalesce(' from ' || host(a.client_addr), '') as used_by
     from pg_replication_slots s left join pg_stat_activity a on a.pid = s.active_pid order by s.slot_name`,
  )
  return rows.map(({ wal_status, kept, retained, used_by, ...row }) => ({
    ...row,
    walStatus: wal_status,
    kept: kept === null ? null : parseLsn(kept),
    retainedBytes: retained === null ? null : Math.max(0, Number(retained)),
    user: used_by,
  }))
}

/** Makes a physical slot that keeps WAL from now on. Takes REPLICATION. */
export async function createSlot(session: Session, name: string): Promise<void> {
  await session.query('select pg_create_physical_replication_slot($1, true)', [name])
}

/** Takes REPLICATION; fails while somebody uses it. */
export async function dropSlot(session: Session, name: string): Promise<void> {
  await session.query('select pg_drop_replication_slot($1)', [name])
}

/** What matters of a server to whoever wants to receive its WAL, besides `ReplicationFacts`. */
export interface StreamServer {
  readonly serverMajor: number
  readonly segmentSize: number
  readonly slots: readonly ReplicationSlot[]
  /** Names of the files in pg_wal; null: the role may not see them (`pg_monitor`). */
  readonly files: readonly string[] | null
}

export async function describeStreamServer(session: Session): Promise<StreamServer> {
  const [row] = await session.query<{ version: string; bytes: string; lists: boolean }>(
    `select current_setting('server_version_num') as version, (select setting from pg_settings where name = 'wal_segment_size') as bytes,
       has_function_privilege('pg_ls_waldir()', 'execute') as lists`,
  )
  const files = row?.lists ? await session.query<{ name: string }>('select name from pg_ls_waldir()') : null
  return {
    serverMajor: Math.floor(Number(row?.version) / 10_000),
    segmentSize: Number(row?.bytes),
    slots: await listSlots(session),
    files: files?.map(({ name }) => name) ?? null,
  }
}

/** How far a receiver is. */
export interface Received {
  /** Where the server's WAL ends. */
  readonly end: bigint
  /** What it has said to have written, and to have made durable; null: not said yet, or not for us to see. */
  readonly written: bigint | null
  readonly flushed: bigint | null
  /** What the slot keeps: moves with `flushed`, and is left where it was until the receiver has said something. */
  readonly kept: bigint | null
  /** The role may see `written` and `flushed` (`pg_monitor`). */
  readonly isVisible: boolean
}

/**
 * How far the receiver of a slot is, by its own messages to the server.
 * Source: https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-REPLICATION-VIEW
 */
export async function received(session: Session, slot: string): Promise<Received> {
  const [row] = await session.query<{
    ends: string
    written: string | null
    flushed: string | null
    kept: string | null
    visible: boolean
  }>(
    `select (${endOfWal})::text as ends, r.write_lsn::text as written, r.flush_lsn::text as flushed, s.restart_lsn::text as kept,
       pg_has_role('pg_read_all_stats', 'usage') as visible
     from (select) one left join pg_replication_slots s on s.slot_name = $1 left join pg_stat_replication r on r.pid = s.active_pid`,
    [slot],
  )
  const lsn = (text: string | null | undefined) => (text ? parseLsn(text) : null)
  return {
    end: lsn(row?.ends) ?? 0n,
    written: lsn(row?.written),
    flushed: lsn(row?.flushed),
    kept: lsn(row?.kept),
    isVisible: row?.visible === true,
  }
}

/** The settings that receiving WAL depends on. */
export interface WalSenderFacts {
  readonly serverMajor: number
  readonly walLevel: string
  readonly maxWalSenders: number
  readonly maxSlots: number
  readonly freeSlots: number
  /** `synchronous_standby_names` fits the name with which Lifeboat receives. */
  readonly isWaitedFor: boolean
  /** The role may receive. */
  readonly mayReplicate: boolean
  readonly slotNames: readonly string[]
}

export async function walSenderFacts(session: Session): Promise<WalSenderFacts> {
  const [row] = await session.query<{
    version: string
    level: string
    senders: string
    slots: string
    names: string
    may: boolean
    used: string[]
  }>(
    `select current_setting('server_version_num') as version, current_setting('wal_level') as level,
       current_setting('max_wal_senders') as senders, current_setting('max_replication_slots') as slots,
       current_setting('synchronous_standby_names') as names,
       (select rolsuper or rolreplication from pg_roles where rolname = current_user) as may,
       array(select slot_name::text from pg_replication_slots) as used`,
  )
  const used = row?.used ?? []
  return {
    serverMajor: Math.floor(Number(row?.version) / 10_000),
    walLevel: row?.level ?? '',
    maxWalSenders: Number(row?.senders),
    maxSlots: Number(row?.slots),
    freeSlots: Number(row?.slots) - used.length,
    isWaitedFor: /(?:^|[\s,("])(?:\*|lifeboat)(?:$|[\s,)"])/i.test(row?.names ?? ''),
    mayReplicate: row?.may === true,
    slotNames: used,
  }
}
