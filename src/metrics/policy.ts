import type { GrowthBounds } from '../domain/growth.ts'
import type { RetentionPolicy } from '../domain/retention.ts'
import type { Catalog } from '../observe/catalog.ts'
import { requiredDatabases } from '../observe/questions.ts'
import type { MetricWriter } from './snapshot.ts'

/** The limits that alerts compare with; null: not set, no series. */
export interface Policy {
  readonly rpoSeconds: number
  readonly rtoSeconds: number
  readonly dumpMaxAgeSeconds: number | null
  readonly fullMaxAgeSeconds: number | null
  readonly incrementalMaxAgeSeconds: number | null
  readonly verificationMaxAgeSeconds: number | null
  readonly alertPathMaxAgeSeconds: number | null
  /** By the name of the repository. */
  readonly retention: ReadonlyMap<string, RetentionPolicy>
  readonly growth: GrowthBounds
}

/** How long a new database may go without a backup; where dumps have no limit of age, the objective is the limit. */
export function graceSeconds({ dumpMaxAgeSeconds, rpoSeconds }: Policy): number {
  return dumpMaxAgeSeconds ?? rpoSeconds
}

/**
 * The limits from the config. The maximum age of dumps has a series for each database that must be backed up, so that
 * `policy unless success` finds the ones that never were.
 */
export function writePolicy(metrics: MetricWriter, catalog: Catalog, policy: Policy): void {
  for (const database of requiredDatabases(catalog) ?? []) {
    metrics.set('lifeboat_policy_backup_max_age_seconds', { backup_type: 'dump', database }, policy.dumpMaxAgeSeconds)
  }
  const physical = { full: policy.fullMaxAgeSeconds, incremental: policy.incrementalMaxAgeSeconds }
  for (const [backup_type, seconds] of Object.entries(physical))
    metrics.set('lifeboat_policy_backup_max_age_seconds', { backup_type, database: '' }, seconds)
  // Of two directories that hold the same database the stricter limit counts: it is written last.
  for (const { databases, maxAgeSeconds } of catalog.watches.toSorted((a, b) => b.maxAgeSeconds - a.maxAgeSeconds)) {
    for (const database of databases) {
      metrics.set('lifeboat_policy_backup_max_age_seconds', { backup_type: 'external', database }, maxAgeSeconds)
    }
  }
  for (const { collector, maxAgeSeconds } of catalog.collectors) {
    metrics.set('lifeboat_policy_collector_max_age_seconds', { collector }, maxAgeSeconds)
  }
  for (const { job, timeoutSeconds } of catalog.jobs) {
    metrics.set('lifeboat_policy_job_timeout_seconds', { job }, timeoutSeconds)
  }
  for (const [repository, { keepForSeconds, windowSeconds }] of policy.retention) {
    metrics.set('lifeboat_policy_retention_seconds', { repository }, keepForSeconds)
    metrics.set('lifeboat_policy_recovery_window_seconds', { repository }, windowSeconds)
  }
  metrics.set('lifeboat_policy_alert_path_max_age_seconds', {}, policy.alertPathMaxAgeSeconds)
  metrics.set('lifeboat_policy_backup_shrink_below_ratio', {}, policy.growth.shrinkBelow)
  metrics.set('lifeboat_policy_backup_grow_above_ratio', {}, policy.growth.growAbove)
  metrics.set('lifeboat_policy_rpo_seconds', {}, policy.rpoSeconds)
  metrics.set('lifeboat_policy_rto_seconds', {}, policy.rtoSeconds)
  metrics.set('lifeboat_policy_verification_max_age_seconds', {}, policy.verificationMaxAgeSeconds)
}
