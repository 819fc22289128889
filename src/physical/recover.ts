import { setTimeout as delay } from 'node:timers/promises'
import { type Clock, systemClock } from '../clock.ts'
import type { WalPosition } from '../domain/coverage.ts'
import { LifeboatError } from '../domain/errors.ts'
import { formatLsn, parseLsn } from '../domain/lsn.ts'
import type { RecoveryStop } from '../domain/recovery-plan.ts'
import { type ConnectionSource, socketSource, withSession } from '../postgres/connection.ts'
import { type ControlData, readControlData } from '../postgres/control-data.ts'
import type { Installation } from '../postgres/installations.ts'
import type { OsUser } from '../postgres/programs.ts'
import { type RecoveringServer, recoveryPort, startRecovering } from './recovering-server.ts'
import { RecoveryLog } from './recovery-log.ts'
import { recoverySettings } from './recovery-settings.ts'
import { isWholeUpTo, recordEnd } from './replay-end.ts'

export interface RecoverOptions {
  readonly dataDirectory: string
  /** Left out: it is read. */
  readonly control?: ControlData
  readonly installation: Installation
  /** As `restore_command` of postgresql.conf, before quoting. */
  readonly restoreCommand: string
  /** Always an explicit number: one stray history file would send `latest` elsewhere. */
  readonly timeline: number
  readonly stop: RecoveryStop
  /**
   * Where replay must have come to: less is a failure. A moment or a restore point that the server itself has come to is
   * as far as it goes, wherever that is.
   */
  readonly mustReach: WalPosition
  /** `shutdown`: it stops at the target, which is not promoted. Only `promote` goes with the end of the WAL. */
  readonly action: 'promote' | 'pause' | 'shutdown'
  /** Made if it is not there. Short: the path of a socket has at most 107 bytes. */
  readonly socketDirectory: string
  readonly osUser: OsUser | null
  /** Command line to start it through (`Isolation`); default none. */
  readonly through?: readonly string[] | null
  /** More settings, over those of a recovery. */
  readonly settings?: Readonly<Record<string, string>>
  /** A role of the cluster, to look with; default, and where there is none of that name, `postgres`. */
  readonly user?: string
  /** Its name marks the processes for the clean-up; configuration and log are kept in it. */
  readonly workFolder: string
  readonly signal: AbortSignal
  readonly onProgress: (replayed: WalPosition, message: string) => void
  readonly clock?: Clock
}

export interface Recovered {
  readonly server: {
    readonly source: ConnectionSource
    /** Its log. */
    readonly log: string
    stop(mode?: 'fast' | 'immediate'): Promise<void>
  }
  /** The end of what was replayed. */
  readonly lsn: bigint
  /** The one that was replayed; a promoted server goes on with another one. */
  readonly timeline: number
  /** What it writes to now; null where it was not promoted. */
  readonly newTimeline: number | null
  readonly lastCommitAt: Date | null
  /** Where and why it stopped, in the server's words; null: at the end of the WAL. */
  readonly stoppedAt: string | null
  /** Seconds: `start`, `replay`. */
  readonly phases: Readonly<Record<string, number>>
}

/**
 * Starts a server on a restored data directory, and follows it until it has come to the target. It can be reached through
 * its socket alone, and archives nothing.
 *
 * @throws LifeboatError `not-recoverable` when the WAL ends before the target, with what was reached and what was asked;
 * `program-failed` with the server's own words; `disk-full`; `storage-failed`, with `details.unwritten`, when the files cannot be
 * relied on; the signal's reason. The server is stopped then
 */
export async function recover(options: RecoverOptions): Promise<Recovered> {
  const { dataDirectory, installation, osUser, stop, action } = options
  if (stop.kind === 'end' && action !== 'promote')
    throw new LifeboatError('usage-invalid', `the end of the WAL is no place at which a server can ${action}`, {
      hint: 'name a moment or a place in the WAL',
    })
  const control = options.control ?? (await readControlData(installation, dataDirectory, osUser))
  const first = await attempt(options, control, stop)
  if (first.outcome !== null) return first.outcome
  // All the WAL was replayed and the target was not in it. Where it is known that nothing is missing before the target,
  // the end is the same place: once more, to the last record that there is.
  const { lastRecord } = first
  const isSame = (stop.kind === 'time' && stop.mayEnd) || stop.kind === 'lsn'
  const wal = replayed(options, control)
  const end = lastRecord === null ? null : await recordEnd(lastRecord, first.log.replayed.timeline, wal)
  if (!isSame || lastRecord === null || end === null || !(await isWholeUpTo(end, options.mustReach, wal)))
    throw endedEarly(options, first.log)
  const second = await attempt(options, control, { kind: 'lsn', lsn: lastRecord })
  if (second.outcome === null) throw endedEarly(options, second.log)
  return second.outcome
}

interface Attempt {
  /** Null: the WAL ended before the target. */
  readonly outcome: Recovered | null
  readonly lastRecord: bigint | null
  readonly log: RecoveryLog
}

async function attempt(options: RecoverOptions, control: ControlData, stop: RecoveryStop): Promise<Attempt> {
  const { installation, restoreCommand, timeline, signal, clock = systemClock, through = null } = options
  const began = clock.monotonic()
  const action = options.action === 'promote' ? 'promote' : 'pause'
  const server = await startRecovering({
    ...options,
    through,
    settings: {
      ...recoverySettings({ control, serverMajor: installation.major, restoreCommand, timeline, stop, action }),
      ...options.settings,
    },
  })
  const from = { timeline, lsn: control.redo }
  const log = new RecoveryLog(server.log.path, { offset: server.log.offset, segmentSize: control.segmentSize, from })
  try {
    let replaying: number | null = null
    let told = -1n
    for (;;) {
      signal.throwIfAborted()
      const { exit } = server
      const status = await server.status()
      await log.look()
      if (log.isReplaying) replaying ??= clock.monotonic()
      if (log.replayed.lsn !== told) options.onProgress(log.replayed, words(log))
      told = log.replayed.lsn
      if (exit !== null) {
        if (log.endedBeforeTarget) return { outcome: null, lastRecord: log.lastRecord, log }
        throw failure(options, log, exit)
      }
      if (log.unwritten !== null) throw unwritten(options, log.unwritten)
      if (log.isStuck) throw failure(options, log, { code: null, signal: null })
      // Without hot_standby it says `standby` too, and takes no connections.
      const isThere = action === 'pause' && status === 'standby' && log.stoppedAt !== null
      if (status === 'ready' || (isThere && (await isPaused(await sourceOf(options), signal)))) break
      await delay(lookEveryMs)
    }
    const source = await sourceOf(options)
    const reached = await look(source, signal)
    await assertReached(options, stop, { control, log, lsn: reached.lsn })
    if (options.action === 'shutdown') await server.stop()
    const ready = clock.monotonic()
    const phases = { start: ((replaying ?? ready) - began) / 1000, replay: (ready - (replaying ?? ready)) / 1000 }
    const handle = { source, log: server.log.path, stop: (mode?: 'fast' | 'immediate') => server.stop(mode) }
    const outcome = { server: handle, ...reached, timeline, stoppedAt: log.stoppedAt, phases }
    return { outcome, lastRecord: log.lastRecord, log }
  } catch (error) {
    await server.stop('immediate')
    throw error
  }
}

const lookEveryMs = 20

/** A role that looks: at the moment that was restored the wanted one may not have been there yet. */
async function sourceOf({ socketDirectory, user = usualUser, signal }: RecoverOptions): Promise<ConnectionSource> {
  const [wanted, usual] = [user, usualUser].map((one) =>
    socketSource({ host: socketDirectory, port: recoveryPort, user: one }),
  ) as [ConnectionSource, ConnectionSource]
  if (user === usualUser) return wanted
  try {
    await withSession(wanted, { database: 'template1', signal }, async () => {})
    return wanted
  } catch (error) {
    if (error instanceof LifeboatError && error.code === 'server-authentication') return usual
    throw error
  }
}

const usualUser = 'postgres'

async function isPaused(source: ConnectionSource, signal: AbortSignal): Promise<boolean> {
  return withSession(source, { database: 'template1', signal }, async (session) => {
    const [row] = await session.query<{ paused: boolean }>(
      'select pg_is_in_recovery() and pg_is_wal_replay_paused() as paused',
    )
    return row?.paused === true
  })
}

/** What was replayed can be asked for after the promotion as well; `pg_current_wal_lsn()` would tell what was written since. */
async function look(source: ConnectionSource, signal: AbortSignal) {
  return withSession(source, { database: 'template1', signal }, async (session) => {
    const [row] = await session.query<{ lsn: string | null; at: Date | null; timeline: string | null }>(
      `select pg_last_wal_replay_lsn() as lsn, pg_last_xact_replay_timestamp() as at,
         case when not pg_is_in_recovery() then
           ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int8::text end as timeline`,
    )
    const newTimeline = row?.timeline == null ? null : Number(row.timeline)
    return { lsn: parseLsn(row?.lsn ?? '') ?? 0n, lastCommitAt: row?.at ?? null, newTimeline }
  })
}

async function assertReached(
  options: RecoverOptions,
  stop: RecoveryStop,
  { control, log, lsn }: { control: ControlData; log: RecoveryLog; lsn: bigint },
): Promise<void> {
  // The server has found in the WAL what comes after the moment, or the point itself.
  if ((stop.kind === 'time' || stop.kind === 'name') && log.stoppedAt !== null) return
  if (lsn >= options.mustReach.lsn) return
  if (stop.kind !== 'immediate' && (await isWholeUpTo(lsn, options.mustReach, replayed(options, control)))) return
  throw endedEarly(options, log, lsn)
}

function replayed({ dataDirectory, timeline }: RecoverOptions, { segmentSize }: ControlData) {
  return { dataDirectory, timeline, segmentSize }
}

function words({ replayed, isReplaying }: RecoveryLog): string {
  return isReplaying ? `replaying ${formatLsn(replayed.lsn)} on timeline ${replayed.timeline}` : 'starting the server'
}

function endedEarly(
  options: RecoverOptions,
  log: RecoveryLog,
  lsn = log.lastRecord ?? log.replayed.lsn,
): LifeboatError {
  const { stop, mustReach } = options
  const asked =
    stop.kind === 'time'
      ? stop.text
      : stop.kind === 'name'
        ? `the restore point ${JSON.stringify(stop.name)}`
        : formatLsn(mustReach.lsn)
  return new LifeboatError(
    'not-recoverable',
    `the recovery ended early: it came to ${formatLsn(lsn)} on timeline ${log.replayed.timeline}, and was to come to ${asked}`,
    {
      hint:
        stop.kind === 'name'
          ? 'see that the name is right, and that the point was made on this timeline before the end of the WAL'
          : 'do not use what was restored: it lacks what came after. See lifeboat wal gaps, and ask for an earlier moment',
      details: { reached: formatLsn(lsn), mustReach: formatLsn(mustReach.lsn) },
    },
  )
}

function failure(
  { dataDirectory }: RecoverOptions,
  log: RecoveryLog,
  { code, signal }: NonNullable<RecoveringServer['exit']>,
): LifeboatError {
  const reason = log.reason()
  const place = log.isReplaying ? ` at ${formatLsn(log.replayed.lsn)} on timeline ${log.replayed.timeline}` : ''
  if (log.newTablespace !== null) return madeLater(dataDirectory, log.newTablespace, place)
  const full = /No space left on device|Disk quota exceeded/.test(reason)
  const isWal = log.isReplaying || /restore file|recovery|checkpoint record|timeline|lifeboat-restore-wal/.test(reason)
  const how = signal === null ? `status ${code}` : signal
  return new LifeboatError(
    full ? 'disk-full' : isWal ? 'not-recoverable' : 'program-failed',
    log.isStuck
      ? `the recovery cannot go on${place}: a setting of the server was raised: ${reason}`
      : `the server that recovers ended${place} (${how}): ${reason}`,
    full ? { hint: `free some space where ${dataDirectory} is, and begin again` } : { details: { exitCode: code } },
  )
}

/** What the kernel has given up to write it has forgotten: another attempt would find nothing wrong. */
function unwritten({ dataDirectory }: RecoverOptions, reason: string): LifeboatError {
  return new LifeboatError('storage-failed', `what was restored cannot be written to the disk: ${reason}`, {
    hint: `look into the kernel log, and remove ${dataDirectory}: restore to another disk, or begin again by the same command`,
    details: { unwritten: true },
  })
}

function madeLater(dataDirectory: string, path: string, place: string): LifeboatError {
  return new LifeboatError(
    'not-recoverable',
    `the recovery stops${place}, where a tablespace was made in ${JSON.stringify(path)} after the backup: going on would use that very directory, which may be that of a server`,
    {
      hint: `take a newer backup, in which it can be mapped, or ask for an earlier moment. Where that directory is nobody else's: make it, restore with --no-start, chmod 700 ${dataDirectory}/pg_tblspc, and start the server as it is told then`,
    },
  )
}
