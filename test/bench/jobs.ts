import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { pino } from 'pino'
import { systemClock } from '../../src/clock.ts'
import type { ValidatedConfig } from '../../src/config/validated.ts'
import { createCore } from '../../src/core.ts'
import type { Proof } from '../../src/domain/proof.ts'
import { withSession } from '../../src/postgres/connection.ts'
import { conninfo } from '../../src/postgres/conninfo.ts'
import { chooseCompression } from '../../src/postgres/dump.ts'
import { programPath } from '../../src/postgres/installations.ts'
import { serverOsUser } from '../../src/postgres/os-user.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { startScratchServer } from '../../src/postgres/scratch-server.ts'
import type { JobName, JobParams, Run } from '../../src/runner/job.ts'
import { type BenchCluster, startBenchCluster } from './cluster.ts'
import { type Figure, mebibytes, median, seconds } from './table.ts'

const rounds = 5
const log = pino({ level: 'silent' })

/**
 * Dump and test restore against the bare programs, in turn, so that a machine that slows down slows both. The best of the
 * rounds count: noise of a shared machine only ever adds.
 */
export async function benchJobs(base: string, scale: number): Promise<readonly Figure[]> {
  const directory = await mkdtemp(join(base, 'jobs-'))
  const cluster = await startBenchCluster(directory, scale)
  try {
    return [...(await benchDump(cluster, directory)), ...(await benchRestore(cluster, directory))]
  } finally {
    await cluster.remove()
  }
}

async function benchDump(cluster: BenchCluster, directory: string): Promise<readonly Figure[]> {
  const plain: number[] = []
  const withFingerprint: number[] = []
  const bare: number[] = []
  await bareDump(cluster, join(directory, 'bare-warm')) // warms the cache
  for (let round = 0; round < rounds; round += 1) {
    bare.push(await seconds(() => bareDump(cluster, join(directory, `bare-${round}`))))
    plain.push(
      await seconds(async () => runJob(await cluster.config({ fingerprint: false }), 'dump', { database: null })),
    )
    withFingerprint.push(await seconds(async () => runJob(await cluster.config(), 'dump', { database: null })))
  }
  const ratio = Math.min(...plain) / Math.min(...bare)
  const cost = Math.min(...withFingerprint) / Math.min(...bare)
  const size = mebibytes(cluster.databaseBytes)
  return [
    {
      what: `dump of ${size}, fingerprint off, against bare pg_dump + tar (${Math.min(...bare).toFixed(1)} s)`,
      measured: `${ratio.toFixed(2)} times`,
      goal: '1.10',
      met: ratio <= 1.1,
    },
    { what: 'the same with the fingerprint', measured: `${cost.toFixed(2)} times`, goal: 'told', met: true },
  ]
}

/**
 * What a careful script would do: the same options, packed, on the same disk; what was packed goes, and earlier dumps
 * stay, as with ours. (Written over what was just deleted, a file gets pages of memory that are at hand already.)
 */
async function bareDump({ installation, source }: BenchCluster, folder: string): Promise<void> {
  await mkdir(folder)
  const dump = join(folder, 'dump')
  await runProgram({
    program: programPath(installation, 'pg_dump'),
    args: [
      '--format=directory',
      '--jobs=2',
      `--compress=${await chooseCompression(installation)}`,
      '--no-sync',
      `--file=${dump}`,
      `--dbname=${conninfo({ ...source, database: 'spavix' })}`,
    ],
  })
  await runProgram({
    program: 'tar',
    args: ['--create', `--file=${join(folder, 'dump.tar')}`, `--directory=${dump}`, '.'],
  })
  await rm(dump, { recursive: true })
}

async function benchRestore(cluster: BenchCluster, directory: string): Promise<readonly Figure[]> {
  const ours: number[] = []
  const bare: number[] = []
  const whole: number[] = []
  const dump = join(directory, 'bare-unpacked')
  await mkdir(dump)
  await runProgram({
    program: 'tar',
    args: ['--extract', `--file=${join(directory, 'bare-warm', 'dump.tar')}`, `--directory=${dump}`],
  })
  for (let round = 0; round < rounds; round += 1) {
    bare.push(await seconds(() => bareRestore(cluster, directory, dump)))
    let phases: Proof['phases'] = {}
    const level = round === 0 ? 'data' : 'restore'
    await runJob(
      await cluster.config(),
      'verify',
      { backup: null, repository: null, database: null, level, rehash: false },
      async (run, core) => {
        phases = (await core.repositories[0]?.repository.latestProof(run.items[0]?.backupId ?? ''))?.phases ?? {}
      },
    )
    ours.push(['initdb', 'start', 'globals', 'restore'].reduce((sum, phase) => sum + (phases[phase] ?? Number.NaN), 0))
    if (level === 'data') whole.push(Object.values(phases).reduce((sum, value) => sum + value, 0))
  }
  const ratio = Math.min(...ours) / Math.min(...bare)
  return [
    {
      what: `restore of a verification against bare initdb + start + pg_restore (${Math.min(...bare).toFixed(1)} s)`,
      measured: `${ratio.toFixed(2)} times`,
      goal: '1.15',
      met: ratio <= 1.15,
    },
    {
      what: 'a whole verification up to level data',
      measured: `${median(whole).toFixed(1)} s`,
      goal: 'told',
      met: true,
    },
  ]
}

/** The same server settings as ours, or the comparison would flatter us: durable settings cost far more. */
async function bareRestore({ installation }: BenchCluster, directory: string, dump: string): Promise<void> {
  const folder = join(directory, 'bare-restore')
  const server = await startScratchServer({
    installation,
    directory: folder,
    osUser: await serverOsUser('postgres'),
    superuser: 'postgres',
    workFolder: folder,
  })
  try {
    await withSession(server.source, { database: 'postgres' }, (session) =>
      session.query('create role spavix_reader; create role spavix_app').catch(() => {}),
    )
    await runProgram({
      program: programPath(installation, 'pg_restore'),
      args: ['--create', '--jobs=2', `--dbname=${conninfo({ ...server.source, database: 'postgres' })}`, dump],
    }).catch(() => {}) // roles that only the globals know: errors that cost nothing
  } finally {
    await server.remove()
  }
}

async function runJob(
  config: ValidatedConfig,
  job: JobName,
  params: JobParams,
  look?: (run: Run, core: Awaited<ReturnType<typeof createCore>>) => Promise<void>,
): Promise<void> {
  const core = await createCore(config, { clock: systemClock, log, version: 'bench' })
  try {
    const run = await core.runner.wait(core.runner.trigger({ job, params, trigger: 'cli', requestedBy: null }).id)
    if (run.state !== 'succeeded') throw new Error(`${job} ${run.state}: ${run.failure?.message}`)
    await look?.(run, core)
  } finally {
    await core.close()
  }
}
