import type { Catalog } from '../observe/catalog.ts'
import { recoveryPoints, repositoryOfCollector } from '../observe/questions.ts'
import type { Findings } from './findings.ts'
import { graceSeconds, type Policy } from './policy.ts'
import type { MetricWriter } from './snapshot.ts'

/** Whether each repository can be read, its space, and the moment that it can bring back. */
export function writeRepositories(metrics: MetricWriter, catalog: Catalog, { usable }: Findings, policy: Policy): void {
  // From the collectors, not the states: a repository that was never seen has no state, but is down all the same.
  for (const { collector, success } of catalog.collectors) {
    const repository = repositoryOfCollector(collector)
    if (repository !== null) metrics.set('lifeboat_repository_up', { repository }, success)
  }
  for (const { name: repository, capacity, objects } of catalog.repositories) {
    metrics.set('lifeboat_repository_free_bytes', { repository }, capacity?.freeBytes ?? null)
    metrics.set('lifeboat_repository_capacity_bytes', { repository }, capacity?.totalBytes ?? null)
    const ofWal = walObjects(catalog, repository)
    const isKnown = objects !== undefined && ofWal !== null
    metrics.set('lifeboat_repository_objects', { repository }, isKnown ? objects + ofWal : null)
  }
  for (const { repository, findings } of catalog.postures) {
    for (const { check, state } of findings) {
      const value = state === 'unknown' ? null : state === 'good'
      metrics.set('lifeboat_repository_posture', { repository, check }, value)
    }
  }
  for (const { repository, at } of recoveryPoints(catalog, usable, graceSeconds(policy))) {
    metrics.set('lifeboat_recovery_point_timestamp_seconds', { repository }, at)
    // The one that holds the recovery point: what lies before a hole is history.
    const windows = catalog.wal?.repositories.find((one) => one.repository === repository)?.windows ?? []
    metrics.set('lifeboat_recovery_window_start_timestamp_seconds', { repository }, windows.at(-1)?.from ?? null)
  }
}

/** Null until all of it was listed once. */
function walObjects({ wal }: Catalog, repository: string): number | null {
  const stored = wal?.stored.find((one) => one.repository === repository)
  if (stored === undefined || stored.listedAt === null) return null
  return [...stored.systems.values()].reduce(
    (sum, { segments, partials, contradictions, plainFiles = 0 }) =>
      sum + segments + partials + contradictions + plainFiles,
    0,
  )
}
