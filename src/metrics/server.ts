import type { Catalog } from '../observe/catalog.ts'
import type { MetricWriter } from './snapshot.ts'

/** The cluster as last seen, and whether it was seen just now. */
export function writeServer(metrics: MetricWriter, { server, collectors }: Catalog): void {
  const health = collectors.find((state) => state.collector === 'server')
  metrics.set('lifeboat_up', {}, health?.success ?? null)
  if (server === null) return
  const labels = { system_identifier: server.systemIdentifier, server_version: server.serverVersion }
  metrics.set('lifeboat_cluster_info', labels, 1)
}
