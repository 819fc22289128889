import { chmod, copyFile, mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { LifeboatError } from '../../src/domain/errors.ts'
import {
  archiveCommand,
  archiveProgram,
  programsDirectory,
  restoreCommand,
  restoreProgram,
} from '../../src/postgres/archiving.ts'
import { withSession } from '../../src/postgres/connection.ts'
import { chooseServer, findInstallations, programPath } from '../../src/postgres/installations.ts'
import { serverOsUser } from '../../src/postgres/os-user.ts'
import { type OsUser, runProgram, startProgram } from '../../src/postgres/programs.ts'
import { type ScratchServer, startScratchServer } from '../../src/postgres/scratch-server.ts'
import { type Figure, median, seconds } from './table.ts'

const segments = 60
const recoveries = 6

export interface Ground {
  readonly directory: string
  readonly programs: string
  readonly server: ScratchServer
  readonly user: OsUser | null
  /** A base backup that needs all of them. */
  readonly copy: string
  readonly names: readonly string[]
}

/** What archiving and fetching a segment of 16 MiB costs, as PostgreSQL does it: through `sh -c`. */
export async function benchWal(base: string): Promise<readonly Figure[]> {
  const directory = await mkdtemp(join(base, 'wal-'))
  await chmod(directory, 0o777)
  const ground = await prepare(directory, segments)
  try {
    const archived = await benchArchive(ground)
    return [...archived, await benchRecovery(ground)]
  } finally {
    await ground.server.remove()
    await rm(directory, { recursive: true, force: true })
  }
}

/** A server that has written so many segments since a base backup. */
export async function prepare(directory: string, segments: number): Promise<Ground> {
  const installation = chooseServer(await findInstallations(null), 15)
  const [user, programs, copy] = [await serverOsUser('postgres'), join(directory, 'programs'), join(directory, 'copy')]
  await mkdir(programs)
  for (const program of [archiveProgram, restoreProgram])
    await copyFile(join(programsDirectory, program), join(programs, program))
  const server = await startScratchServer({
    installation,
    directory: join(directory, 'cluster'),
    osUser: user,
    superuser: 'postgres',
    workFolder: directory,
    hba: 'local all all trust\nlocal replication all trust\n',
    settings: {
      wal_level: 'replica',
      max_wal_senders: '4',
      wal_keep_size: '8GB',
      archive_mode: 'on',
      archive_command: 'true',
      max_wal_size: '8GB',
    },
  })
  const args = ['-D', copy, '-X', 'none', '--no-sync', '-c', 'fast', '-h', server.source.host, '-U', 'postgres']
  await runProgram({ program: programPath(installation, 'pg_basebackup'), args, user, cwd: directory })
  await withSession(server.source, { database: 'postgres' }, async (session) => {
    await session.query('create table t (i int, text text)')
    for (let round = 0; round < segments; round += 1) {
      if (round % 20 === 19) await session.query('truncate t') // a replay that fills the disk measures the disk
      await session.query('insert into t select i, repeat(md5(i::text), 8) from generate_series(1, 46000) i')
      await session.query('select pg_switch_wal()')
    }
  })
  const names = (await readdir(join(server.dataDirectory, 'pg_wal'))).filter((name) => /^[0-9A-F]{24}$/.test(name))
  return { directory, programs, server, user, copy, names: names.toSorted().slice(0, -1) }
}

/** A directory of the server's user. */
async function directoryFor({ directory, user }: Ground, name: string): Promise<string> {
  const path = join(directory, name)
  await runProgram({ program: 'mkdir', args: ['-p', join(path, '.incoming')], user })
  return path
}

async function benchArchive(ground: Ground): Promise<readonly Figure[]> {
  const { server, user, programs, names } = ground
  const [ours, bare] = [await directoryFor(ground, 'archive'), await directoryFor(ground, 'bare')]
  const pgbackrest = await pgbackrestCommand(ground)
  const ways: readonly (readonly [name: string, command: string])[] = [
    ['ours', archiveCommand(programs, ours)],
    ['bare', `cp "%p" ${bare}/%f && sync ${bare}/%f && sync ${bare}`],
    ...(pgbackrest === null ? [] : [['pgbackrest', pgbackrest] as const]),
  ]
  const took = new Map<string, number[]>(ways.map(([name]) => [name, []]))
  for (const name of names) {
    const path = join(server.dataDirectory, 'pg_wal', name)
    for (const [way, command] of ways) {
      const text = command.replaceAll('%p', path).replaceAll('%f', name).replaceAll('%%', '%')
      const work = () => runProgram({ program: '/bin/sh', args: ['-c', text], user, cwd: server.dataDirectory })
      took.get(way)?.push(await seconds(work))
    }
  }
  const milliseconds = (way: string) => median(took.get(way) ?? []) * 1000
  const ratio = milliseconds('ours') / milliseconds('bare')
  const figures: Figure[] = [
    {
      what: `archive_command for a segment (${milliseconds('ours').toFixed(1)} ms) against \`cp\` and \`sync\` of file and directory, median of ${names.length}`,
      measured: `${ratio.toFixed(2)} times`,
      goal: '1.20',
      met: ratio <= 1.2,
    },
  ]
  if (pgbackrest === null) return figures
  const faster = milliseconds('pgbackrest') / milliseconds('ours')
  const what = `synchronous \`pgbackrest archive-push\` (${milliseconds('pgbackrest').toFixed(0)} ms) against it`
  return [...figures, { what, measured: `${faster.toFixed(1)} times`, goal: 'at least 3', met: faster >= 3 }]
}

/** Null where pgBackRest is not installed. */
async function pgbackrestCommand({ directory, server, user }: Ground): Promise<string | null> {
  const config = join(directory, 'pgbackrest.conf')
  const text = `[global]
repo1-path=${directory}/pgbackrest
log-path=${directory}
lock-path=${directory}/lock
spool-path=${directory}/spool
log-level-file=off
[bench]
pg1-path=${server.dataDirectory}
pg1-socket-path=${server.source.host}
pg1-user=postgres
`
  await writeFile(config, text)
  const args = [`--config=${config}`, '--stanza=bench']
  try {
    await runProgram({ program: 'pgbackrest', args: [...args, 'stanza-create'], user, cwd: directory })
  } catch (error) {
    if (error instanceof LifeboatError && error.code === 'program-missing') return null
    throw error
  }
  return `pgbackrest ${args.join(' ')} archive-push "%p"`
}

/** A whole recovery with each command, in turn: what counts is what PostgreSQL waits for. */
async function benchRecovery(ground: Ground): Promise<Figure> {
  const archive = join(ground.directory, 'archive')
  const ways = [restoreCommand(ground.programs, archive), `cp ${archive}/%f "%p"`] as const
  const took: [number[], number[]] = [[], []]
  for (let round = 0; round < recoveries; round += 1) {
    for (const index of [0, 1] as const) took[index].push(await recover(ground, ways[index]))
  }
  const [ours, bare] = [Math.min(...took[0]), Math.min(...took[1])]
  const bytes = (await stat(join(archive, ground.names[0] ?? ''))).size * ground.names.length
  return {
    what: `recovery of ${(bytes / 2 ** 20).toFixed(0)} MiB of WAL by restore_command (${ours.toFixed(2)} s) against \`cp\`, speed`,
    measured: `${(bare / ours).toFixed(2)} times`,
    goal: 'at least 0.90',
    met: bare / ours >= 0.9,
  }
}

/** Seconds from the start of a server until its recovery is over. */
export async function recover({ directory, copy, server, user }: Ground, command: string): Promise<number> {
  const data = join(directory, 'recovering')
  await runProgram({ program: 'cp', args: ['-a', copy, data], user })
  await runProgram({ program: 'touch', args: [join(data, 'recovery.signal')], user })
  const settings = {
    restore_command: command,
    archive_mode: 'off',
    hot_standby: 'off',
    listen_addresses: '',
    unix_socket_directories: directory,
    port: '5433',
    fsync: 'off',
  }
  const took = await seconds(async () => {
    let over: () => void = () => {}
    const recovered = new Promise<void>((resolve) => {
      over = resolve
    })
    const running = await startProgram({
      program: programPath(server.installation, 'postgres'),
      args: ['-D', data, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])],
      user,
      cwd: directory,
      onStderrLine: (line) => {
        if (line.includes('archive recovery complete')) over()
      },
    })
    running.stdout.resume()
    const early = await Promise.race([recovered, running.exited])
    if (early) throw new Error(early.stderr)
    running.kill('SIGQUIT')
    await running.exited
  })
  await rm(data, { recursive: true })
  return took
}
