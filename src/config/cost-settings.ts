import type { CostSettings } from '../domain/cost-usage.ts'
import type { BucketWork } from '../domain/cost-work.ts'
import { monthSeconds, standardClass } from '../domain/prices.ts'
import type { RetentionPolicy } from '../domain/retention.ts'
import { runsPerSecond } from './schedule.ts'
import { type BucketConfig, leaseSecondsOf, type RepositoryConfig, type ValidatedConfig } from './validated.ts'

/** A lease is renewed so many times in its time to live. */
const renewalsPerTtl = 3

/** What the configuration says of the cost of one of its repositories. */
export function costSettingsOf(
  config: ValidatedConfig,
  { name, retention, walKeepForSeconds, bucket }: RepositoryConfig,
  counted: BucketWork['counted'] = null,
): CostSettings {
  const { schedule, physical, verification, observe } = config
  const perMonth = (cron: string | null) => (cron === null ? null : runsPerSecond(cron) * monthSeconds)
  return {
    ...{ retention: lockedRetention(retention, bucket), walKeepForSeconds, chainLimit: physical.chainLimit },
    rates: {
      dump: perMonth(schedule.dump),
      full: perMonth(schedule.full),
      incremental: perMonth(schedule.incremental),
    },
    verification: { perMonth: perMonth(schedule.verify), level: verification.level },
    classes: {
      backups: bucket?.storageClass ?? standardClass,
      wal: bucket?.walStorageClass ?? standardClass,
      others: standardClass,
    },
    bucket:
      bucket === null
        ? null
        : {
            ...{ partBytes: bucket.partBytes, counted },
            leaseRenewalsPerMonth: (monthSeconds * renewalsPerTtl) / leaseSecondsOf(config, name),
            looksPerMonth: monthSeconds / observe.intervalSeconds,
          },
  }
}

/** What is locked stays as long as it is, and with a legal hold for ever. */
export function lockedRetention(retention: RetentionPolicy, bucket: BucketConfig | null): RetentionPolicy {
  const lock = bucket?.objectLock ?? null
  const { keepForSeconds } = retention
  if (lock === null || keepForSeconds === null) return retention
  const lockedSeconds = lock.legalHold ? null : Math.max(keepForSeconds, lock.forSeconds ?? 0)
  return { ...retention, keepForSeconds: lockedSeconds }
}
