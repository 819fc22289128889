import type { Catalog } from '../observe/catalog.ts'
import type { MetricWriter } from './snapshot.ts'

/** What was sent to the bucket of one repository. */
export interface BucketRequests {
  readonly repository: string
  readonly requests: readonly { readonly operation: string; readonly requests: number; readonly errors: number }[]
}

/** What buckets cost in requests, and what is in them that is not ours, or not yet anywhere else. */
export function writeBuckets(metrics: MetricWriter, catalog: Catalog, buckets: readonly BucketRequests[]): void {
  for (const { name: repository, foreign = null, replication } of catalog.repositories) {
    metrics.set('lifeboat_repository_foreign_objects', { repository }, foreign)
    for (const [state, count] of Object.entries(replication ?? {})) {
      metrics.set('lifeboat_repository_replicated_backups', { repository, state }, count)
    }
  }
  for (const { repository, requests: counts } of buckets) {
    for (const { operation, requests, errors } of counts) {
      metrics.set('lifeboat_s3_requests_total', { repository, operation }, requests)
      metrics.set('lifeboat_s3_request_errors_total', { repository, operation }, errors)
    }
  }
}
