import { chmod, copyFile, mkdir, mkdtemp, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { LifeboatError } from '../../src/domain/errors.ts'
import { archiveCommand, archiveProgram, programsDirectory } from '../../src/postgres/archiving.ts'
import { baseBackupArguments } from '../../src/postgres/base-backup.ts'
import { withSession } from '../../src/postgres/connection.ts'
import { quoteIdentifier } from '../../src/postgres/conninfo.ts'
import { programPath } from '../../src/postgres/installations.ts'
import { runProgram, startChain } from '../../src/postgres/programs.ts'
import { installationOf, type Major } from '../support/postgres.ts'
import { type BenchCluster, startBenchCluster } from './cluster.ts'
import { benchTokenHash, type Sidecar, startSidecar } from './sidecar.ts'
import { type Figure, mebibytes, seconds } from './table.ts'

const rounds = 3
const port = 21_188

/**
 * Physical backups: a full one against pgBackRest (of Debian, which knows servers up to 15) with the same level of zstd and as
 * many processes, in turn; an incremental one against a full one, on 17. The best of the rounds counts.
 */
export async function benchBase(base: string, scale: number): Promise<readonly Figure[]> {
  return [...(await withCluster(base, scale, 15, benchFull)), ...(await withCluster(base, scale, 17, benchIncremental))]
}

/** A cluster that archives into the directory `archive`, and a sidecar that has taken a full backup of it. */
export async function withCluster(
  base: string,
  scale: number,
  major: Major,
  work: (cluster: BenchCluster, sidecar: Sidecar, directory: string) => Promise<readonly Figure[]>,
): Promise<readonly Figure[]> {
  const directory = await mkdtemp(join(base, 'base-'))
  await chmod(directory, 0o711)
  const archive = join(directory, 'archive')
  await mkdir(archive)
  await chmod(archive, 0o1777)
  await mkdir(join(archive, '.incoming'))
  await chmod(join(archive, '.incoming'), 0o1777)
  await copyFile(join(programsDirectory, archiveProgram), join(directory, archiveProgram))
  const cluster = await startBenchCluster(directory, scale, {
    installation: await installationOf(major),
    settings: {
      archive_mode: 'on',
      archive_command: archiveCommand(directory, archive),
      max_wal_size: '4GB',
      ...(major >= 17 ? { summarize_wal: 'on' } : {}),
    },
    yaml: { wal: { archive } },
  })
  const start = () => startSidecar(directory, cluster.configText({ port, tokenHash: benchTokenHash }), port)
  let sidecar = await start()
  try {
    await sidecar.run('backup', { type: 'full' }) // warms the cache, and marks the repository
    while (!(await hasShippedAll(sidecar))) await delay(100)
    // What it took to ship a gigabyte of WAL is another figure.
    await sidecar.stop()
    sidecar = await start()
    return await work(cluster, sidecar, directory)
  } finally {
    await sidecar.stop()
    await cluster.remove()
  }
}

async function hasShippedAll({ url }: Sidecar): Promise<boolean> {
  return /^lifeboat_wal_backlog_bytes\{.*\} 0$/m.test(await (await fetch(`${url}/metrics`)).text())
}

async function benchFull(cluster: BenchCluster, sidecar: Sidecar, directory: string): Promise<readonly Figure[]> {
  const [ours, bare, pgBackRest]: [number[], number[], number[]] = [[], [], []]
  const other = await preparePgBackRest(cluster, directory)
  let [own, children] = [0, 0]
  for (let round = 0; round < rounds; round += 1) {
    const before = await sidecar.cpuSeconds()
    ours.push(await seconds(() => sidecar.run('backup', { type: 'full' })))
    const after = await sidecar.cpuSeconds()
    own += after.own - before.own
    children += after.children - before.children
    bare.push(await seconds(() => bareBackup(cluster, directory)))
    if (other !== null) pgBackRest.push(await seconds(() => other.backUp()))
  }
  const share = own / (own + children)
  const [best, bestBare] = [Math.min(...ours), Math.min(...bare)]
  const peak = await sidecar.peakBytes()
  const size = mebibytes(cluster.databaseBytes)
  const ratio = best / Math.min(...pgBackRest)
  return [
    {
      what: `full backup of ${size} (${best.toFixed(1)} s), its WAL stored, against pgBackRest (${Math.min(...pgBackRest).toFixed(1)} s)`,
      measured: other === null ? 'pgBackRest is not installed' : `${ratio.toFixed(2)} times`,
      goal: '0.85',
      met: ratio <= 0.85,
    },
    {
      what: `the same against bare pg_basebackup and zstd (${bestBare.toFixed(1)} s)`,
      measured: `${(best / bestBare).toFixed(2)} times`,
      goal: 'told',
      met: true,
    },
    {
      what: "Lifeboat's own share of the CPU time of its pipeline",
      measured: `${(share * 100).toFixed(0)} %`,
      goal: '15 %',
      met: share <= 0.15,
    },
    { what: 'most resident memory over it', measured: mebibytes(peak), goal: '150 MiB', met: peak <= 150 * 1_048_576 },
  ]
}

async function benchIncremental(cluster: BenchCluster, sidecar: Sidecar): Promise<readonly Figure[]> {
  const [full, incremental]: [number[], number[]] = [[], []]
  for (let round = 0; round < rounds; round += 1) {
    full.push(await seconds(() => sidecar.run('backup', { type: 'full' })))
    await changeOnePercent(cluster)
    incremental.push(await seconds(() => sidecar.run('backup', { type: 'incremental' })))
  }
  const ratio = Math.min(...incremental) / Math.min(...full)
  return [
    {
      what: `incremental backup after a change of 1 % of the pages (${Math.min(...incremental).toFixed(1)} s) against the full one`,
      measured: `${ratio.toFixed(2)} times`,
      goal: '0.25',
      met: ratio <= 0.25,
    },
  ]
}

async function bareBackup({ installation, source }: BenchCluster, directory: string): Promise<void> {
  const [backup, zstd] = await startChain([
    {
      program: programPath(installation, 'pg_basebackup'),
      args: [
        ...baseBackupArguments({ checkpoint: 'fast', maxRateKib: null }),
        ...['--pgdata=-', `--host=${source.host}`, `--username=${source.user}`, '--no-password'],
      ],
    },
    { program: 'zstd', args: ['-3', '-T2', '--quiet', '--force', '-o', join(directory, 'bare.tar.zst')] },
  ])
  zstd?.stdout.resume()
  const ends = await Promise.all([backup?.exited, zstd?.exited])
  if (ends.some((end) => end?.code !== 0)) throw new Error(`the bare backup failed: ${JSON.stringify(ends)}`)
}

interface PgBackRest {
  backUp(): Promise<unknown>
  restore(directory: string): Promise<unknown>
}

/** Null where pgBackRest is not installed. */
export async function preparePgBackRest(cluster: BenchCluster, directory: string): Promise<PgBackRest | null> {
  const folder = join(directory, 'pgbackrest')
  for (const name of ['repo', 'log', 'lock', 'spool']) await mkdir(join(folder, name), { recursive: true })
  const file = join(folder, 'pgbackrest.conf')
  await writeFile(
    file,
    `[global]
repo1-path=${join(folder, 'repo')}
repo1-retention-full=2
process-max=2
compress-type=zst
compress-level=3
start-fast=y
archive-check=n
log-path=${join(folder, 'log')}
lock-path=${join(folder, 'lock')}
spool-path=${join(folder, 'spool')}
[bench]
pg1-path=${cluster.dataDirectory}
pg1-socket-path=${cluster.source.host}
pg1-port=${cluster.source.port}
pg1-user=${cluster.source.user}
`,
  )
  const call = (...args: readonly string[]) =>
    runProgram({ program: 'pgbackrest', args: [`--config=${file}`, '--stanza=bench', ...args] })
  try {
    await call('stanza-create')
  } catch (error) {
    if (error instanceof LifeboatError && error.code === 'program-missing') return null
    throw error
  }
  return {
    backUp: () => call('--type=full', 'backup'),
    restore: (to) => call(`--pg1-path=${to}`, 'restore'),
  }
}

/** One row in each hundredth page of every table gets a new version, where there is room in the same page or at the end. */
async function changeOnePercent(cluster: BenchCluster): Promise<void> {
  const tables = await query<{ name: string; pages: number; column: string }>(
    cluster,
    `select c.oid::regclass::text as name, (pg_relation_size(c.oid) / 8192)::int as pages,
       (select attname from pg_attribute a where a.attrelid = c.oid and attnum > 0 and not attisdropped and attgenerated = ''
          and attidentity = '' order by attnum desc limit 1) as column
     from pg_class c where relkind = 'r' and relnamespace = 'public'::regnamespace and pg_relation_size(c.oid) > 8192 * 100`,
    'spavix',
  )
  for (const { name, pages, column } of tables) {
    const places = `select array_agg(format('(%s,1)', page)::tid) from generate_series(0, ${pages - 1}, 100) page`
    const set = `${quoteIdentifier(column)} = ${quoteIdentifier(column)}`
    await query(cluster, `update ${name} set ${set} where ctid = any((${places})::tid[])`, 'spavix')
  }
  await query(cluster, 'checkpoint', 'spavix')
}

async function query<Row extends object>(
  { source }: BenchCluster,
  text: string,
  database = 'postgres',
): Promise<readonly Row[]> {
  return withSession(source, { database }, (session) => session.query<Row>(text))
}
