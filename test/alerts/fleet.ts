import { mkdir, rename, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { Run } from '../../src/runner/job.ts'
import { physicalCluster } from '../support/archiving-cluster.ts'
import { parseExposition } from '../support/exposition.ts'
import { type Cluster, freePort } from '../support/postgres.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { type Served, serve, serveTokens } from '../support/serve.ts'
import { sidecarYaml } from '../support/sidecar.ts'
import { untilAnswer } from '../support/until.ts'
import { plainDump } from '../support/watch-only.ts'

export const databases = ['ledger', 'orders', 'parts'] as const

/** Two clusters and their sidecars, that are well: `harbour` has all kinds of backups, `lighthouse` is only watched. */
export interface Fleet {
  readonly cluster: Cluster
  /** Of the WAL of `harbour`. */
  readonly archive: string
  /** Names and times of the files in it are those of an hour ago. */
  readonly nightly: string
  readonly weekly: string
  readonly harbour: Served
  /** Where they can be scraped. */
  readonly targets: readonly string[]
  /** The folder of the backup of a database of `harbour`. */
  readonly folder: (repository: 'local' | 'offsite', database: string) => string
  /** Runs a job of `harbour`, and gives it when it has ended. */
  readonly run: (kind: 'backup' | 'verify', body: object) => Promise<Run>
  readonly killLighthouse: () => Promise<void>
  readonly restartLighthouse: () => Promise<void>
}

const auth = { tokens: serveTokens }

export async function startFleet(t: Test): Promise<Fleet> {
  const directory = await scratchDirectory(t)
  const [nightly, weekly, other] = ['nightly', 'weekly', 'other'].map((name) => join(directory, name))
  if (nightly === undefined || weekly === undefined || other === undefined) throw new Error('three directories')
  for (const watched of [nightly, weekly, other]) await mkdir(watched)
  for (const database of ['crm', 'wiki', 'shop']) await putDump(nightly, database, hourAgo())
  await putDump(weekly, 'crm', hourAgo())
  await putDump(other, 'crm', hourAgo())
  const port = await freePort()
  const watching = join(directory, 'lighthouse')
  await mkdir(watching)
  const lighthouseYaml = JSON.stringify({
    cluster: 'lighthouse',
    listen: `127.0.0.1:${port}`,
    stateDir: join(watching, 'state'),
    watch: [{ name: 'other', directory: other, quietTime: '1s' }],
    observe: { interval: '1s' },
    auth,
  })
  const started = serve(watching, lighthouseYaml)
  const { cluster, archive } = await physicalCluster(t)
  for (const database of databases) {
    await cluster.createDatabase(database, 'create table things as select g from generate_series(1, 1000) g')
  }
  const home = join(directory, 'harbour')
  await mkdir(home)
  const harbour = await serve(
    home,
    sidecarYaml(cluster, home, {
      databases,
      repositories: { local: join(home, 'local'), offsite: join(home, 'offsite') },
      yaml: {
        cluster: 'harbour',
        wal: { archive, clockInterval: '1s' },
        watch: [nightly, weekly].map((watched) => ({ directory: watched, quietTime: '1s' })),
        observe: { interval: '1s' },
        log: { level: 'info' },
        auth,
      },
    }),
  )
  t.teardown(() => harbour.end('SIGKILL'))
  let lighthouse = await started
  t.teardown(() => lighthouse.end('SIGKILL'))
  const run: Fleet['run'] = async (kind, body) => {
    const { id } = (await (await harbour.request(`/api/admin/${kind}`, body)).json()) as Run
    return untilAnswer(`the end of ${kind} ${JSON.stringify(body)}`, async () => {
      const found = (await (await harbour.request(`/api/runs/${id}`)).json()) as Run
      return found.finishedAt !== null && found
    })
  }
  const { items } = await run('backup', {})
  await untilSeen(harbour, 'lifeboat_backup_last_success_timestamp_seconds', 2 * databases.length + 4)
  await untilSeen(lighthouse, 'lifeboat_backup_last_success_timestamp_seconds', 1)
  return {
    cluster,
    archive,
    nightly,
    weekly,
    harbour,
    targets: [harbour.url, lighthouse.url].map((url) => new URL(url).host),
    folder: (repository, database) => {
      const item = items.find((one) => one.repository === repository && one.database === database)
      return join(home, repository, 'harbour', 'backups', item?.backupId ?? 'none')
    },
    run,
    killLighthouse: () => lighthouse.end('SIGKILL'),
    restartLighthouse: async () => {
      lighthouse = await serve(watching, lighthouseYaml)
    },
  }
}

/** Resolves when a sidecar tells of so many. */
async function untilSeen(served: Served, metric: string, count: number): Promise<void> {
  await untilAnswer(`${count} of ${metric}`, async () => {
    const samples = parseExposition(await (await served.request('/metrics')).text())
    return samples.filter(({ name }) => name === metric).length === count
  })
}

export const hourAgo = () => new Date(Date.now() - 3_600_000)

/** A dump of another tool, whole at once; gives its path. */
export async function putDump(directory: string, database: string, at: Date): Promise<string> {
  const path = join(directory, `${database}_backup_${at.toISOString().slice(0, 19).replaceAll(/[-:]/g, '')}.sql`)
  await writeFile(`${path}.tmp`, plainDump(`create table ${database} (id int);`))
  await utimes(`${path}.tmp`, at, at)
  await rename(`${path}.tmp`, path)
  return path
}
