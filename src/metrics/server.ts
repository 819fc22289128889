import type { Catalog } from '../observe/catalog.ts'
import type { MetricWriter } from './snapshot.ts'

/** The cluster as it is known from whatever source there is, and whether the server answers just now. */
export function writeServer(metrics: MetricWriter, { server, collectors }: Catalog): void {
  const health = collectors.find((state) => state.collector === 'server')
  metrics.set('lifeboat_up', {}, health?.success ?? null)
  if (server === null || server.systemIdentifier === null) return
  const labels = { system_identifier: server.systemIdentifier, server_version: server.serverVersion ?? '' }
  metrics.set('lifeboat_cluster_info', labels, 1)
}
