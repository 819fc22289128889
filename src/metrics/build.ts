import type { MetricWriter } from './snapshot.ts'

export interface BuildInfo {
  /** Version of Lifeboat. */
  readonly version: string
  /** Commit that it was built from; empty when not known. */
  readonly revision: string
  /** As `process.version` gives it. */
  readonly nodeVersion: string
}

export function writeBuild(metrics: MetricWriter, { version, revision, nodeVersion }: BuildInfo): void {
  metrics.set('lifeboat_build_info', { version, revision, node_version: nodeVersion }, 1)
}
