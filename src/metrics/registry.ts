import { Registry } from 'prom-client'
import type { Catalog } from '../observe/catalog.ts'
import type { RetentionPlans } from '../observe/retention.ts'
import type { ShippingState } from '../observe/shipping-state.ts'
import { type AlertDrills, writeAlertDrills } from './alert-drill.ts'
import { writeArchiver } from './archiver.ts'
import { type UnusualBackups, writeBackups } from './backups.ts'
import { type BucketRequests, writeBuckets } from './buckets.ts'
import { type BuildInfo, writeBuild } from './build.ts'
import { writeCollectors } from './collectors.ts'
import { type Costs, writeCosts } from './costs.ts'
import { createExaminer, examine, type Findings } from './findings.ts'
import { writeJobs } from './jobs.ts'
import { type Policy, writePolicy } from './policy.ts'
import { createProcessMetrics } from './process.ts'
import { writeRepositories } from './repositories.ts'
import { writeRetention } from './retention.ts'
import { writeServer } from './server.ts'
import { writeShipping } from './shipping.ts'
import { createSnapshot } from './snapshot.ts'
import { type Tellings, writeTellings } from './tellings.ts'
import { writeVerification } from './verification.ts'
import { writeWal } from './wal.ts'
import { type StreamTellings, writeStreamTellings } from './wal-stream.ts'

export interface MetricsOptions extends BuildInfo {
  /** `cluster_name` of every series but the build's and the process's. */
  readonly cluster: string
  readonly policy: Policy
  /** Of hooks and notifications. Default: there are none. */
  readonly tellings?: Tellings
  /** Null, and the default: none is configured. */
  readonly alertDrills?: AlertDrills | null
  /** Of replication slots and the receiver of WAL. Default: nobody looks. */
  readonly wal?: StreamTellings
  /** What stays and goes in each repository of a catalog. */
  readonly retention: (catalog: Catalog) => RetentionPlans
  /** By repository, how long it would take to bring everything back, seconds. Default: nobody knows. */
  readonly recovery?: (catalog: Catalog) => ReadonlyMap<string, number>
  /** What the repositories cost. Default: no prices are known. */
  readonly costs?: Costs
  /** What is unusual in the newest backups. Default: nobody knows. */
  readonly growth?: UnusualBackups
  /** What was sent to each bucket. Default: there are none. */
  readonly buckets?: () => readonly BucketRequests[]
  /** How shipping of WAL fares. Default: none is shipped. */
  readonly shipping?: () => ShippingState | null
}

/** What a scrape gets: the Prometheus text format, version 0.0.4. */
export interface RenderedMetrics {
  readonly contentType: string
  readonly body: string
}

export interface Metrics {
  /** Renders one catalog, from memory alone. Meant to be called once for each catalog; scrapes are served the result. */
  render(catalog: Catalog): Promise<RenderedMetrics>
}

/** The metrics of this sidecar and of its process. */
export function createMetrics(options: MetricsOptions): Metrics {
  const ofProcess = createProcessMetrics()
  const examineNew = createExaminer()
  return {
    async render(catalog) {
      const body = `${await renderCatalog(options, catalog, examineNew(catalog))}\n${await ofProcess.text()}`
      return { contentType: Registry.PROMETHEUS_CONTENT_TYPE, body }
    },
  }
}

/** The metrics of one catalog without those of the process: the same catalog always gives the same text. */
export async function renderCatalog(
  options: MetricsOptions,
  catalog: Catalog,
  findings: Findings = examine(catalog),
): Promise<string> {
  const snapshot = createSnapshot(options.cluster)
  writeBuild(snapshot, options)
  writeServer(snapshot, catalog)
  writeArchiver(snapshot, catalog)
  writeWal(snapshot, catalog, options.recovery?.(catalog) ?? new Map())
  writeShipping(snapshot, options.shipping?.() ?? null)
  writeCollectors(snapshot, catalog)
  writeBackups(snapshot, catalog, findings, options.growth)
  writeVerification(snapshot, findings)
  writeRepositories(snapshot, catalog, findings, options.policy)
  writeBuckets(snapshot, catalog, options.buckets?.() ?? [])
  writeRetention(snapshot, catalog, options.retention(catalog))
  if (options.costs !== undefined) writeCosts(snapshot, catalog, options.costs)
  writeJobs(snapshot, catalog)
  writePolicy(snapshot, catalog, options.policy)
  if (options.tellings !== undefined) writeTellings(snapshot, options.tellings)
  if (options.alertDrills) writeAlertDrills(snapshot, options.alertDrills)
  if (options.wal !== undefined) writeStreamTellings(snapshot, catalog, options.wal)
  return snapshot.text()
}
