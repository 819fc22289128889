import { chown, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import { serverOsUser } from '../../src/postgres/os-user.ts'
import { startCopier } from './copier.ts'
import { type Cluster, type ClusterOptions, startCluster } from './postgres.ts'
import { openDirectory } from './scratch.ts'
import { type Sidecar, type SidecarOptions, startSidecar } from './sidecar.ts'

/** A cluster that archives its WAL, and sidecars whose repositories get it. */
export interface PhysicalCluster {
  readonly cluster: Cluster
  /** While it holds a file `.stop`, archive_command fails. */
  readonly archive: string
  /** `ships: false`: no WAL comes into its repositories. */
  readonly sidecar: (
    t: Test,
    options?: SidecarOptions & { readonly ships?: boolean | readonly string[] },
  ) => Promise<{ readonly sidecar: Sidecar; readonly systemIdentifier: string }>
}

export async function physicalCluster(t: Test, options: ClusterOptions = {}): Promise<PhysicalCluster> {
  const archive = await openDirectory(t)
  const cluster = await startCluster(t, {
    ...options,
    hba: [...(options.hba ?? []), 'local replication all trust'],
    settings: {
      archive_mode: 'on',
      full_page_writes: 'on',
      // Whole or not there: who reads the archive must not take half of a segment for one.
      archive_command: `test ! -e ${join(archive, '.stop')} && cp %p ${join(archive, '.%f')} && mv ${join(archive, '.%f')} ${join(archive, '%f')}`,
      ...(options.major !== undefined && options.major >= 17 ? { summarize_wal: 'on' } : {}),
      ...options.settings,
    },
  })
  const [row] = await cluster.sql<{ id: string }>('select system_identifier::text as id from pg_control_system()')
  const systemIdentifier = row?.id ?? ''
  return {
    cluster,
    archive,
    sidecar: async (t, { ships = true, ...more } = {}) => {
      const sidecar = await startSidecar(t, cluster, { ...more, yaml: { wal: { archive }, ...more.yaml } })
      const all = sidecar.core.repositories.map(({ repository }) => repository)
      const repositories = ships === true ? all : all.filter(({ name }) => ships !== false && ships.includes(name))
      if (repositories.length > 0) startCopier(t, { archive, repositories, systemIdentifier })
      return { sidecar, systemIdentifier }
    },
  }
}

/** A tablespace in a directory of its own, which goes with the test; gives the directory. */
export async function makeTablespace(t: Test, cluster: Cluster, name: string): Promise<string> {
  const location = join(await openDirectory(t), name)
  await mkdirOwned(location)
  await cluster.sql(`create tablespace ${name} location '${location}'`)
  return location
}

/** A directory of the server's own OS user. */
export async function mkdirOwned(path: string): Promise<void> {
  await mkdir(path, { mode: 0o700 })
  const user = await serverOsUser('postgres')
  if (user !== null) await chown(path, user.uid, user.gid)
}
