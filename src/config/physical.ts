import type { Problems } from './problems.ts'
import { longestGapSeconds, maxAgeSeconds, withSlack } from './schedule.ts'
import type { RawConfig } from './schema.ts'
import { isRecord } from './shape.ts'
import { parseDuration, parseSize } from './units.ts'
import type { PhysicalConfig, ValidatedConfig } from './validated.ts'

export function physicalOf({ physical: raw, postgres }: RawConfig): PhysicalConfig {
  const { standby } = raw
  return {
    checkpoint: raw.checkpoint,
    maxRateKib: raw.maxRate === undefined ? null : Math.floor(parseSize(String(raw.maxRate)) / 1024),
    compression: { level: raw.compressionLevel, threads: raw.compressionThreads },
    timeoutSeconds: parseDuration(raw.timeout) / 1000,
    walTimeoutMs: parseDuration(raw.walTimeout),
    chainLimit: raw.chainLimit,
    standby:
      standby === undefined
        ? null
        : {
            ...{ host: standby.host, port: standby.port ?? postgres.port, required: standby.required },
            maxLagMs: parseDuration(standby.maxLag),
          },
    consolidate: raw.consolidate,
  }
}

/**
 * The ages at which the newest full and the newest incremental backup are too old; null: not scheduled. An incremental that
 * becomes a full one, as each does that would make the chain too long, leaves a gap of two turns.
 */
export function physicalMaxAges({
  full,
  incremental,
}: Pick<ValidatedConfig['schedule'], 'full' | 'incremental'>): Pick<
  ValidatedConfig['policy'],
  'fullMaxAgeSeconds' | 'incrementalMaxAgeSeconds'
> {
  return {
    fullMaxAgeSeconds: full === null ? null : maxAgeSeconds(full),
    incrementalMaxAgeSeconds: incremental === null ? null : withSlack(2 * longestGapSeconds(incremental)),
  }
}

/** A physical backup without its WAL is a heap of pages that fit no moment. */
export function checkPhysical(tree: unknown, problems: Problems): void {
  checkStandby(tree, problems)
  if (!isRecord(tree) || (isRecord(tree.wal) && typeof tree.wal.archive === 'string')) return
  for (const key of ['full', 'incremental'] as const) {
    const cron = isRecord(tree.schedule) ? tree.schedule[key] : undefined
    if (typeof cron !== 'string' || cron === 'off') continue
    problems.add(
      ['schedule', key],
      'needs the WAL of the server, and wal.archive is not set: a physical backup cannot be restored without its WAL',
      'Set wal.archive (`lifeboat wal setup` shows how the server fills it), or switch the schedule off.',
    )
  }
}

function checkStandby(tree: unknown, problems: Problems): void {
  const { postgres, physical } = isRecord(tree) ? tree : {}
  const standby = isRecord(physical) ? physical.standby : undefined
  if (!isRecord(standby) || !isRecord(postgres) || standby.host !== postgres.host) return
  if (standby.port !== undefined && standby.port !== postgres.port) return
  problems.add(
    ['physical', 'standby', 'host'],
    'is that of postgres.host, on the same port: that is one server',
    'Set postgres.host to the primary, and physical.standby to the standby; or leave physical.standby out.',
  )
}
