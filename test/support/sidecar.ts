import { readdir, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'
import { type Clock, systemClock } from '../../src/clock.ts'
import { loadConfig } from '../../src/config/load.ts'
import type { ValidatedConfig } from '../../src/config/validated.ts'
import { type Core, createCore } from '../../src/core.ts'
import type { Manifest } from '../../src/domain/backup.ts'
import type { ConnectionSource } from '../../src/postgres/connection.ts'
import { workMarker } from '../../src/postgres/orphans.ts'
import type { Repository } from '../../src/repository/repository.ts'
import type { JobName, JobParams, Run } from '../../src/runner/job.ts'
import { keptLog } from './log.ts'
import type { Cluster } from './postgres.ts'
import { scratchDirectory } from './scratch.ts'

export interface SidecarOptions {
  /** Whom it connects as; default the cluster's superuser over its socket. */
  readonly source?: ConnectionSource
  readonly databases?: readonly string[]
  /** Name to directory; default one, `local`, in the sidecar's own directory. */
  readonly repositories?: Readonly<Record<string, string>>
  /** More of the configuration, as it would be written; sections replace the defaults here. */
  readonly yaml?: Readonly<Record<string, unknown>>
  /** Last changes, which the loader would refuse (limits too short for production). */
  readonly adjust?: (config: ValidatedConfig) => ValidatedConfig
  readonly clock?: Clock
  readonly restoreTarget?: ConnectionSource
  /** Directory to live in, e.g. that of an earlier one; default a new one. */
  readonly directory?: string
}

/** The acting half of Lifeboat on a real cluster, with everything that a test asks it. */
export interface Sidecar {
  readonly directory: string
  readonly config: ValidatedConfig
  readonly core: Core
  readonly repository: Repository
  readonly lines: readonly Record<string, unknown>[]
  /** The configuration as a file holds it. */
  readonly yaml: string
  run(job: JobName, params?: JobParams): Promise<Run>
  begin(job: JobName, params?: JobParams): { readonly id: string; readonly ended: Promise<Run> }
  /** Resolves with the run as it is when its progress says something that matches. */
  progress(id: string, words: RegExp): Promise<Run>
  /** The complete backups of a repository, oldest first. */
  manifests(repository?: Repository): Promise<readonly Manifest[]>
  /** What should not be there after a run: work folders, unfinished backups, processes. */
  leftovers(): Promise<readonly string[]>
  /** The directory of a backup in a repository. */
  folder(manifest: Manifest, repository?: string): string
}

const allParams: Readonly<Record<JobName, JobParams>> = {
  dump: { database: null },
  full: {},
  incremental: {},
  verify: { backup: null, repository: null, database: null, level: 'data', rehash: false },
  restore: {
    backup: null,
    database: null,
    repository: null,
    target: null,
    replace: false,
    noOwner: false,
    compare: true,
    foreign: false,
  },
  expire: { repository: null, confirmClock: false },
  copy: { backup: null, repository: null },
  'alert-drill': { from: 'rule', echo: true },
}

/** The configuration of a sidecar in a directory, as a file holds it (JSON is YAML). */
export function sidecarYaml(cluster: Cluster, directory: string, options: SidecarOptions = {}): string {
  const { source = cluster.source, repositories = { local: join(directory, 'repository') } } = options
  return JSON.stringify({
    cluster: 'test',
    listen: '127.0.0.1:0',
    stateDir: join(directory, 'state'),
    postgres: {
      host: source.host,
      port: source.port,
      user: source.user,
      sslMode: 'disable',
      ...(cluster.major === 15 ? {} : { binDir: cluster.installation.directory }),
      ...(options.databases ? { databases: options.databases } : {}),
    },
    repositories: Object.entries(repositories).map(([name, path]) => ({ name, url: `file://${path}` })),
    log: { level: 'silent' },
    // What fails shall fail at once.
    runner: { retries: 0 },
    ...options.yaml,
  })
}

export async function startSidecar(t: Test, cluster: Cluster, options: SidecarOptions = {}): Promise<Sidecar> {
  const directory = options.directory ?? (await scratchDirectory(t))
  const yaml = sidecarYaml(cluster, directory, options)
  const { password } = options.source ?? cluster.source
  const loaded = await loadConfig({ text: yaml, env: {} })
  const { adjust = (config) => config } = options
  const config = adjust({ ...loaded, postgres: { ...loaded.postgres, password } })
  const { log, lines } = keptLog()
  const core = await createCore(config, {
    clock: options.clock ?? systemClock,
    log,
    version: '0.0.0-test',
    ...(options.restoreTarget ? { restoreTarget: options.restoreTarget } : {}),
  })
  t.teardown(() => core.close())
  const [first] = core.repositories as readonly [Core['repositories'][number]]
  const begin = (job: JobName, params: JobParams = {}) => {
    const { id } = core.runner.trigger({
      job,
      params: { ...allParams[job], ...params },
      trigger: 'cli',
      requestedBy: 'test',
    })
    return { id, ended: core.runner.wait(id) }
  }
  return {
    directory,
    config,
    core,
    lines,
    yaml,
    repository: first.repository,
    begin,
    run: (job, params) => begin(job, params).ended,
    // It is told at most once a second, in which much may pass.
    progress: async (id, words) => {
      for (;;) {
        const run = core.runner.get(id)
        if (run !== null && words.test(run.progress?.message ?? '')) return run
        if (run?.finishedAt) throw new Error(`run ended before ${words}: ${JSON.stringify(run)}`)
        await delay(2)
      }
    },
    manifests: (repository = first.repository) => manifestsIn(repository),
    leftovers: async () => [
      ...(await readdir(config.workDir).catch(() => [])),
      ...(await processesOf(config.workDir)),
      ...(await Promise.all(core.repositories.map(({ repository }) => unfinishedIn(repository)))).flat(),
    ],
    folder: (manifest, repository = first.repository.name) =>
      join(
        core.repositories.find((one) => one.repository.name === repository)?.path ?? '',
        config.cluster,
        'backups',
        manifest.backupId,
      ),
  }
}

/** The complete backups of a repository, oldest first. */
export async function manifestsIn(repository: Repository): Promise<readonly Manifest[]> {
  const found: Manifest[] = []
  for await (const id of repository.listBackups()) {
    const folder = await repository.inspect(id)
    if (folder?.state === 'complete') found.push(await repository.readManifest(id))
  }
  return found.toSorted((a, b) => Date.parse(a.start.time) - Date.parse(b.start.time))
}

async function unfinishedIn(repository: Repository): Promise<readonly string[]> {
  const found: string[] = []
  for await (const id of repository.listBackups()) {
    const folder = await repository.inspect(id)
    if (folder?.state !== 'complete' || folder.inProgress !== null) found.push(`${repository.name}/${id}`)
  }
  return found
}

/** Processes that work in a folder or below it: their command lines. */
export async function processesOf(folder: string): Promise<readonly string[]> {
  const found: string[] = []
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const environment = await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '')
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    const marked = environment.split('\0').some((line) => line.startsWith(`${workMarker}=${folder}`))
    if (marked || command.includes(folder)) found.push(command.replaceAll('\0', ' '))
  }
  return found
}

/** The path of a file that is run as `lifeboat` is. */
export const mainFile = join(dirname(import.meta.dirname), '..', 'src', 'main.ts')
