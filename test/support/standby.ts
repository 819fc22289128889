import { join } from 'node:path'
import type { Test } from 'tap'
import { type CopyServer, copyCluster, startCopy } from './copy.ts'
import type { Cluster } from './postgres.ts'
import { openDirectory } from './scratch.ts'

/** A standby of a cluster, which streams from it, and has replayed all that it had. The cluster needs `local replication all trust`. */
export async function startStandby(
  t: Test,
  cluster: Cluster,
  {
    settings = {},
    args = [],
  }: { readonly settings?: Readonly<Record<string, string>>; readonly args?: readonly string[] } = {},
): Promise<CopyServer & { readonly directory: string }> {
  const directory = join(await openDirectory(t), 'standby')
  await copyCluster(cluster, directory, ['-R', ...args])
  const copy = await startCopy(t, {
    ...{ installation: cluster.installation, directory, superuser: cluster.source.user, signalFile: 'standby.signal' },
    // A standby must have as many of all as its primary.
    settings: { max_wal_senders: '10', ...settings },
  })
  return { ...copy, directory }
}
