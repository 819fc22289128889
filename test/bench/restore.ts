import { mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import { parseLsn } from '../../src/domain/lsn.ts'
import { recover } from '../../src/physical/recover.ts'
import { withSession } from '../../src/postgres/connection.ts'
import { programPath } from '../../src/postgres/installations.ts'
import { serverOsUser } from '../../src/postgres/os-user.ts'
import { runProgram, startProgram } from '../../src/postgres/programs.ts'
import type { Run } from '../../src/runner/job.ts'
import { preparePgBackRest, withCluster } from './base.ts'
import type { BenchCluster } from './cluster.ts'
import type { Sidecar } from './sidecar.ts'
import { type Figure, mebibytes, seconds } from './table.ts'

const rounds = 3
/** Each fills a segment. */
const walRounds = 64

/**
 * Restores of a whole cluster by `lifeboat restore`: to a started, consistent server against `pgbackrest restore` alone, with the
 * same level of zstd and as many processes; then the replay of 1 GiB of WAL against that by `cp` from a local directory on the
 * same data directory. In turn; the best of the rounds counts.
 */
export function benchRestore(base: string, scale: number): Promise<readonly Figure[]> {
  return withCluster(base, scale, 15, async (cluster, sidecar, directory) => {
    const ground = { cluster, sidecar, directory }
    return [...(await benchConsistent(ground)), ...(await benchReplay(ground))]
  })
}

interface Ground {
  readonly cluster: BenchCluster
  readonly sidecar: Sidecar
  readonly directory: string
}

async function benchConsistent({ cluster, directory }: Ground): Promise<readonly Figure[]> {
  const other = await preparePgBackRest(cluster, directory)
  await other?.backUp()
  const unproven = await compareRestores({ cluster, directory }, other, 'never verified')
  await lifeboat({ directory }, 'verify', '--level=restore')
  return [unproven, await compareRestores({ cluster, directory }, other, 'proven by a verification')]
}

async function compareRestores(
  { cluster, directory }: Omit<Ground, 'sidecar'>,
  other: Awaited<ReturnType<typeof preparePgBackRest>>,
  which: string,
): Promise<Figure> {
  const [ours, theirs, phases]: [number[], number[], string[]] = [[], [], []]
  for (let round = 0; round < rounds; round += 1) {
    const to = join(directory, `${which.replaceAll(' ', '-')}-${round}`)
    let run: Run | null = null
    await settled()
    ours.push(
      await seconds(async () => {
        run = await restore({ directory, to }, '--immediate')
      }),
    )
    phases.push(phasesOf(run))
    await stop(cluster, to)
    if (other === null) continue
    const others = `${to}-pgbackrest`
    await mkdir(others)
    await settled()
    theirs.push(await seconds(() => other.restore(others)))
  }
  const [best, bestOther] = [Math.min(...ours), Math.min(...theirs)]
  const ratio = best / bestOther
  return {
    what: `restore of ${mebibytes(cluster.databaseBytes)}, ${which}, to a started, consistent server (${best.toFixed(1)} s: ${phases[ours.indexOf(best)]}) against \`pgbackrest restore\` alone (${bestOther.toFixed(1)} s)`,
    measured: other === null ? 'pgBackRest is not installed' : `${ratio.toFixed(2)} times`,
    goal: '0.70',
    met: ratio <= 0.7,
  }
}

async function benchReplay({ cluster, directory }: Ground): Promise<readonly Figure[]> {
  const bytes = await writeWal(cluster, join(directory, 'repository'))
  const [ours, whole, copied, phases]: [number[], number[], number[], string[]] = [[], [], [], []]
  for (let round = 0; round < rounds; round += 1) {
    const to = join(directory, `latest-${round}`)
    let run: Run | null = null
    await settled()
    whole.push(
      await seconds(async () => {
        run = await restore({ directory, to }, '--latest')
      }),
    )
    const { measured, restored } = (run as Run | null)?.items[0] ?? {}
    ours.push(measured?.phases.replay ?? Number.NaN)
    phases.push(phasesOf(run))
    await stop(cluster, to)
    const again = `${to}-copied`
    await settled()
    await restore({ directory, to: again }, '--latest', '--no-start')
    // At once, as it is in a whole restore: what memory there is then is the same for both.
    copied.push(await replayByCopy({ cluster, directory }, again, parseLsn(restored?.lsn ?? '') ?? 0n))
  }
  const [best, bestCopied] = [Math.min(...ours), Math.min(...copied)]
  const ratio = best / bestCopied
  const fastest = Math.min(...whole)
  return [
    {
      what: `replay of ${mebibytes(bytes)} of WAL from a repository (${best.toFixed(1)} s) against \`cp\` from a local directory into the same data directory (${bestCopied.toFixed(1)} s)`,
      measured: `${ratio.toFixed(2)} times`,
      goal: '1.10',
      met: ratio <= 1.1,
    },
    {
      what: `that restore as a whole (${phases[whole.indexOf(fastest)]})`,
      measured: `${fastest.toFixed(1)} s`,
      goal: 'told',
      met: true,
    },
  ]
}

function restore(
  { directory, to }: { readonly directory: string; readonly to: string },
  ...args: readonly string[]
): Promise<Run> {
  return lifeboat({ directory }, 'restore', `--to=${to}`, ...args)
}

async function lifeboat({ directory }: { readonly directory: string }, ...args: readonly string[]): Promise<Run> {
  const main = join(import.meta.dirname, '..', '..', 'dist', 'main.js')
  const config = join(directory, 'lifeboat.yaml')
  const running = await startProgram({
    program: process.execPath,
    args: [main, ...args, `--config=${config}`, '--json'],
  })
  const [told, { code, stderr }] = await Promise.all([text(running.stdout), running.exited])
  if (code !== 0) throw new Error(`lifeboat ${args.join(' ')}: ${stderr}${told}`)
  return JSON.parse(told) as Run
}

function phasesOf(run: Run | null): string {
  const phases = Object.entries(run?.items[0]?.measured?.phases ?? {})
  return phases.map(([name, took]) => `${name} ${took.toFixed(1)}`).join(', ')
}

/**
 * What was written so far is not for the next one to sync. A virtual machine gives free memory back to its host within
 * seconds, and to get it again costs as much as to fill it: so it is used once before.
 */
async function settled(): Promise<void> {
  await runProgram({ program: 'sync', args: [] })
  const touch = () => runProgram({ program: 'dd', args: ['if=/dev/zero', 'of=/dev/null', 'bs=2000M', 'count=1'] })
  await Promise.all([touch(), touch()])
}

/**
 * What was restored stays until the end: for minutes after a file was deleted ext4 passes over its inode, which makes who
 * creates files next take twice as long (`recently_deleted` in fs/ext4/ialloc.c).
 */
async function stop({ installation }: BenchCluster, to: string): Promise<void> {
  const args = [`--pgdata=${to}`, '--mode=immediate', 'stop']
  await runProgram({ program: programPath(installation, 'pg_ctl'), args, user: await serverOsUser('postgres') }).catch(
    () => {}, // it may have been stopped
  )
}

/** Gives the bytes that were written, all of which are stored. */
async function writeWal({ source }: BenchCluster, repository: string): Promise<number> {
  return withSession(source, { database: 'postgres' }, async (session) => {
    const [before] = await session.query<{ lsn: string }>('select pg_current_wal_lsn()::text as lsn')
    await session.query('create table filled (i int, text text)')
    let name = ''
    for (let round = 0; round < walRounds; round += 1) {
      await session.query('insert into filled select i, repeat(md5(i::text), 8) from generate_series(1, 46000) i')
      const [row] = await session.query<{ name: string }>('select pg_walfile_name(pg_switch_wal()) as name')
      name = row?.name ?? ''
    }
    const isStored = async () =>
      (await readdir(repository, { recursive: true })).some((path) => path.split('/').at(-1)?.startsWith(name))
    while (!(await isStored())) await delay(100)
    const [row] = await session.query<{ bytes: string }>(
      `select pg_wal_lsn_diff(pg_current_wal_lsn(), '${before?.lsn}')::text as bytes`,
    )
    return Number(row?.bytes)
  })
}

/** Seconds of the replay alone, measured as in a restore. */
async function replayByCopy(
  { cluster, directory }: Pick<Ground, 'cluster' | 'directory'>,
  dataDirectory: string,
  lsn: bigint,
): Promise<number> {
  const recovered = await recover({
    ...{ dataDirectory, installation: cluster.installation, timeline: 1, stop: { kind: 'end' }, action: 'promote' },
    restoreCommand: `cp ${join(directory, 'archive')}/%f "%p"`,
    mustReach: { timeline: 1, lsn },
    socketDirectory: join(dataDirectory, 'lifeboat-restore', 's'),
    osUser: await serverOsUser('postgres'),
    workFolder: join(dataDirectory, 'lifeboat-restore'),
    signal: new AbortController().signal,
    onProgress: () => {},
  })
  await recovered.server.stop('immediate')
  return recovered.phases.replay ?? Number.NaN
}
