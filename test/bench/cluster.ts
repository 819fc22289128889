import { chmod, mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { loadConfig } from '../../src/config/load.ts'
import type { ValidatedConfig } from '../../src/config/validated.ts'
import { createSampleDatabase } from '../../src/demo/sample-database.ts'
import { type ConnectionSource, withSession } from '../../src/postgres/connection.ts'
import { chooseServer, findInstallations, type Installation } from '../../src/postgres/installations.ts'
import { serverOsUser } from '../../src/postgres/os-user.ts'
import { startScratchServer } from '../../src/postgres/scratch-server.ts'

/** A server to back up, with a realistic database `spavix`, and a configuration for it. */
export interface BenchCluster {
  readonly installation: Installation
  readonly dataDirectory: string
  readonly source: ConnectionSource
  readonly databaseBytes: number
  configText(options?: { readonly fingerprint?: boolean; readonly port?: number; readonly tokenHash?: string }): string
  config(options?: { readonly fingerprint?: boolean }): Promise<ValidatedConfig>
  remove(): Promise<void>
}

export interface BenchClusterOptions {
  /** Default PostgreSQL 15 of the system. */
  readonly installation?: Installation
  readonly settings?: Readonly<Record<string, string>>
  /** More of the configuration. */
  readonly yaml?: Readonly<Record<string, unknown>>
}

/** About 10 MB of database for each unit of scale. */
export async function startBenchCluster(
  directory: string,
  scale: number,
  options: BenchClusterOptions = {},
): Promise<BenchCluster> {
  const installation = options.installation ?? chooseServer(await findInstallations(null), 15)
  await chmod(directory, 0o711) // for the OS users of the servers
  await mkdir(join(directory, 'repository')) // else the first look at it fails, and a sidecar is never seen to be ready
  const server = await startScratchServer({
    installation,
    directory: join(directory, 'cluster'),
    osUser: await serverOsUser('postgres'),
    superuser: 'postgres',
    workFolder: directory,
    settings: { wal_level: 'replica', max_wal_senders: '10', shared_buffers: '256MB', ...options.settings },
    hba: 'local all all trust\nlocal replication all trust\n',
  })
  await createSampleDatabase(server.source, { name: 'spavix', scale })
  const [size] = await withSession(server.source, { database: 'spavix' }, async (session) => {
    await session.query('checkpoint')
    return session.query<{ bytes: string }>('select pg_database_size(current_database())::text as bytes')
  })
  const configText: BenchCluster['configText'] = ({ fingerprint = true, port = 0, tokenHash } = {}) =>
    JSON.stringify({
      cluster: 'bench',
      listen: `127.0.0.1:${port}`,
      stateDir: join(directory, 'state'),
      postgres: {
        host: server.source.host,
        port: server.source.port,
        user: 'postgres',
        databases: ['spavix'],
        binDir: installation.directory,
      },
      repositories: [{ name: 'local', url: `file://${join(directory, 'repository')}` }],
      dump: { jobs: 2, fingerprint: { enabled: fingerprint } },
      verification: { jobs: 2 },
      schedule: { dump: 'off', verify: 'off' },
      ...options.yaml,
      ...(tokenHash === undefined ? {} : { auth: { tokens: [{ name: 'bench', role: 'admin', sha256: tokenHash }] } }),
    })
  return {
    installation,
    dataDirectory: server.dataDirectory,
    source: server.source,
    databaseBytes: Number(size?.bytes),
    configText,
    config: (options) => loadConfig({ text: configText(options), env: {} }),
    remove: async () => {
      await server.remove()
      await rm(directory, { recursive: true, force: true })
    },
  }
}
