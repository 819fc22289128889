import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { WalReport } from '../../src/observe/wal-report.ts'
import { archiveCommand } from '../../src/postgres/archiving.ts'
import { type Cluster, type Major, startCluster } from './postgres.ts'
import { type Served, serve, serveTokens } from './serve.ts'
import { sidecarYaml } from './sidecar.ts'
import { type Archive, makeArchive } from './wal.ts'
import { metricOf, walReport } from './wal-ground.ts'

export interface WalSidecar {
  readonly served: Served
  readonly report: () => Promise<WalReport>
  /** The value of the first series of this name; undefined: there is none. */
  readonly metric: (name: string) => Promise<number | undefined>
}

export interface WalServiceRun extends WalSidecar {
  readonly cluster: Cluster
  readonly archive: Archive
  /** The directory of the only repository, `local`. */
  readonly repository: string
}

export interface WalServiceOptions {
  readonly major?: Major
  /** Of `wal` in the configuration. */
  readonly wal?: object
  /** Of the server; the default is `lifeboat-archive`. */
  readonly archiveCommand?: string
}

/** The real sidecar beside a real server with segments of 1 MiB that archives. */
export async function runWalService(t: Test, options: WalServiceOptions = {}): Promise<WalServiceRun> {
  const archive = await makeArchive(t)
  const cluster = await startArchiving(t, archive, options)
  const repository = join(archive.base, 'repository')
  const sidecar = await startWalSidecar(t, cluster, archive, { wal: options.wal ?? {}, repository })
  return { cluster, archive, repository, ...sidecar }
}

/** A server with segments of 1 MiB that archives. */
export function startArchiving(
  t: Test,
  archive: Archive,
  { major = 15, archiveCommand: command }: WalServiceOptions = {},
): Promise<Cluster> {
  return startCluster(t, {
    major,
    hba: ['local replication all trust'],
    initdbArgs: ['-E', 'UTF8', '--locale=C', '--wal-segsize=1'],
    settings: { archive_mode: 'on', archive_command: command ?? archiveCommand(archive.programs, archive.directory) },
  })
}

/** `lifeboat serve` beside a server; what it keeps lies in `archive.base`. */
export async function startWalSidecar(
  t: Test,
  cluster: Cluster,
  archive: Archive,
  { wal, repository, yaml = {}, env }: { wal: object; repository: string; yaml?: object; env?: Record<string, string> },
): Promise<WalSidecar> {
  const text = sidecarYaml(cluster, archive.base, {
    repositories: { local: repository },
    yaml: {
      auth: { tokens: serveTokens },
      observe: { interval: '1s' },
      wal: { archive: archive.directory, clockInterval: '1s', ...wal },
      log: { level: 'info' },
      ...yaml,
    },
  })
  const served = await serve(archive.base, text, env === undefined ? {} : { env })
  t.teardown(() => served.end())
  return { served, report: () => walReport(served), metric: (name) => metricOf(served, name) }
}

/** What is stored as WAL in a repository: keys from the system identifier on, in order. */
export async function storedWalKeys(repository: string): Promise<readonly string[]> {
  const files = await readdir(join(repository, 'test', 'wal'), { recursive: true }).catch(() => [] as string[])
  return files.filter((file) => /\.(zst|history|backup)$/.test(file)).toSorted()
}
