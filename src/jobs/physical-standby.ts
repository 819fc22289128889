import type { Clock } from '../clock.ts'
import type { ValidatedConfig } from '../config/validated.ts'
import { type ErrorCode, LifeboatError, toFailure } from '../domain/errors.ts'
import { type ConnectionSource, type Session, withSession } from '../postgres/connection.ts'
import {
  behindBy,
  finishSegment,
  flushedTo,
  orderCheckpoint,
  type PrimaryFacts,
  replayedTo,
  type StandbyFacts,
  standbyFacts,
  whyUnfit,
} from '../postgres/standby.ts'

/** The standby that a backup is read from. */
export interface Standby {
  readonly source: ConnectionSource
  readonly facts: StandbyFacts
}

/** How the standby is reached; null: none is configured. */
export function standbySource({ postgres, physical }: ValidatedConfig): ConnectionSource | null {
  const { standby } = physical
  return standby === null ? null : { ...postgres, host: standby.host, port: standby.port }
}

/**
 * Looks at the standby.
 *
 * @throws LifeboatError when it cannot be reached, or is not what can be backed up in place of the primary
 */
export async function lookAtStandby(
  config: ValidatedConfig,
  source: ConnectionSource,
  primary: PrimaryFacts,
  signal: AbortSignal,
): Promise<Standby> {
  try {
    const database = config.postgres.maintenanceDatabase
    const facts = await standbyFacts(source, { database, signal })
    const unfit = whyUnfit(facts, primary)
    if (unfit !== null) throw new LifeboatError('server-error', unfit.why, { hint: unfit.hint })
    return { source, facts }
  } catch (error) {
    signal.throwIfAborted()
    throw ofStandby(error, source)
  }
}

/** Pauses between looks at how far the standby has come. */
const [firstPauseMs, longestPauseMs] = [50, 1000]

/**
 * Resolves when the standby has replayed all that the primary had written when this was called.
 *
 * @throws LifeboatError `server-error` when it has not after `maxLag`, or was promoted
 */
export async function standbyCaughtUp(
  { config, clock, signal }: { readonly config: ValidatedConfig; readonly clock: Clock; readonly signal: AbortSignal },
  { source }: Standby,
): Promise<void> {
  const { postgres, physical } = config
  const database = postgres.maintenanceDatabase
  const maxLagMs = physical.standby?.maxLagMs ?? 0
  const target = await withSession(postgres, { database, signal }, async (primary) => {
    if (physical.checkpoint === 'fast') await orderCheckpoint(primary)
    return flushedTo(primary)
  })
  const deadline = clock.monotonic() + maxLagMs
  const wait = async (session: Session) => {
    for (let pause = firstPauseMs; ; pause = Math.min(pause * 2, longestPauseMs)) {
      const replayed = await replayedTo(session)
      if (replayed !== null && replayed >= target) return
      const left = deadline - clock.monotonic()
      if (left <= 0) {
        const why = `it is too far behind: after ${Math.round(maxLagMs / 1000)} s ${behindBy(replayed, target)}`
        throw new LifeboatError('server-error', why, {
          hint: 'see pg_stat_wal_receiver and the log of the standby; physical.standby.maxLag sets how long it may take',
        })
      }
      await clock.sleep(Math.min(pause, left), signal)
    }
  }
  try {
    await withSession(source, { database, signal }, wait)
  } catch (error) {
    signal.throwIfAborted()
    throw ofStandby(error, source)
  }
}

/**
 * The standby archives nothing of what the primary writes: the primary must finish the segment in which the backup ends. Not
 * permitted or not possible: then `archive_timeout` does it some time, and the wait for the WAL lasts as long.
 */
export async function finishAtPrimary(
  { postgres }: Pick<ValidatedConfig, 'postgres'>,
  end: { readonly stop: bigint; readonly segmentSize: number },
  signal: AbortSignal,
): Promise<void> {
  const { maintenanceDatabase: database } = postgres
  await withSession(postgres, { database, signal }, (session) => finishSegment(session, end)).catch(() => {
    signal.throwIfAborted()
  })
}

const codesOfServer: ReadonlySet<ErrorCode> = new Set([
  'server-unreachable',
  'server-authentication',
  'server-error',
  'database-missing',
  'program-failed',
])

/** Marks what a server fails with as the standby's, and says so; all else is handed back as it is. */
export function ofStandby(error: unknown, { host, port }: ConnectionSource): unknown {
  if (!(error instanceof LifeboatError) || !codesOfServer.has(error.code) || isOfStandby(error)) return error
  if (error.details?.repository !== undefined) return error
  const { code, message, hint, details } = error
  return new LifeboatError(code, `the standby ${host}:${port}: ${message}`, {
    ...(hint === undefined ? {} : { hint: hint.replace('postgres.host and postgres.port', 'physical.standby') }),
    details: { ...details, standby: true },
    cause: error,
  })
}

export function isOfStandby(error: unknown): boolean {
  return error instanceof LifeboatError && error.details?.standby === true
}

/** Why the primary is backed up all the same, as it stands in the manifest. */
export function instead(error: unknown): string {
  return `a backup of the primary instead of the standby: ${toFailure(error).message}`
}
