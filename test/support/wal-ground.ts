import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { WalReport } from '../../src/observe/wal-report.ts'
import { archiveCommand } from '../../src/postgres/archiving.ts'
import { parseExposition } from './exposition.ts'
import { type Cluster, type ClusterOptions, startCluster } from './postgres.ts'
import { type Served, serveTokens } from './serve.ts'
import { sidecarYaml } from './sidecar.ts'
import { replicationHba } from './streaming.ts'
import { untilAnswer } from './until.ts'
import { type Archive, makeArchive } from './wal.ts'

/** A server with segments of 1 MiB and a directory for its WAL, and what the real sidecar needs beside them. */
export interface WalGround {
  readonly cluster: Cluster
  readonly archive: Archive
  /** Root of the repository `local`. */
  readonly root: string
  /** A configuration for `serve`, with the tokens of the tests. */
  yaml(options?: { readonly wal?: object; readonly host?: string }): string
  /** Takes a backup by a sidecar with this configuration, and gives its id; by default a full one. */
  takeBackup(served: Served, type?: 'full' | 'incremental'): Promise<string>
}

/** @param options `archives: false` leaves the WAL to streaming */
export async function walGround(
  t: Test,
  options: Pick<ClusterOptions, 'major' | 'settings'> & { readonly archives?: boolean } = {},
): Promise<WalGround> {
  const { major = 15, archives = true } = options
  const archive = await makeArchive(t)
  const archiving = { archive_mode: 'on', archive_command: archiveCommand(archive.programs, archive.directory) }
  const cluster = await startCluster(t, {
    major,
    hba: replicationHba,
    initdbArgs: ['-E', 'UTF8', '--locale=C', '--wal-segsize=1'],
    settings: { ...(archives ? archiving : {}), ...options.settings },
  })
  const root = join(archive.base, 'repository')
  const yaml: WalGround['yaml'] = ({ wal = {}, host = cluster.source.host } = {}) =>
    sidecarYaml(cluster, archive.base, {
      source: { ...cluster.source, host },
      repositories: { local: root },
      yaml: {
        auth: { tokens: serveTokens },
        observe: { interval: '1s' },
        wal: { archive: archive.directory, clockInterval: '1s', ...wal },
        log: { level: 'info' },
      },
    })
  const takeBackup: WalGround['takeBackup'] = async (served, type = 'full') => {
    const before = await readdir(join(root, 'test', 'backups')).catch(() => [] as string[])
    const { id } = (await (await served.request('/api/admin/backup', { type })).json()) as { id: string }
    const run = await untilAnswer(`a backup: ${type}`, async () => {
      const answer = await served.request(`/api/runs/${id}`)
      const found = (await answer.json()) as { finishedAt: string | null; state: string }
      return found.finishedAt !== null && found
    })
    const [made] = (await readdir(join(root, 'test', 'backups'))).filter((name) => !before.includes(name))
    if (run.state !== 'succeeded' || made?.includes(`-${type}-`) !== true)
      throw new Error(`no ${type} backup: ${JSON.stringify(run)}`)
    return made
  }
  return { cluster, archive, root, yaml, takeBackup }
}

export async function walReport(served: Served): Promise<WalReport> {
  return (await (await served.request('/api/wal')).json()) as WalReport
}

/** The value of a metric: of its first line. */
export async function metricOf(served: Served, name: string): Promise<number | undefined> {
  const text = await (await served.request('/metrics')).text()
  return parseExposition(text).find((line) => line.name === name)?.value
}

/** Finishes the segment that a server writes, and gives its name. */
export async function finishSegment(server: Pick<Cluster, 'sql'>): Promise<string> {
  await server.sql('select pg_create_restore_point($$here$$)')
  const [row] = await server.sql<{ name: string }>('select pg_walfile_name(pg_switch_wal()) as name')
  return row?.name ?? ''
}
