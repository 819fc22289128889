import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { LifeboatError } from '../domain/errors.ts'
import { type ConnectionSource, socketSource, withSession } from './connection.ts'
import { quoteIdentifier } from './conninfo.ts'
import { withCause } from './failures.ts'
import { type Installation, programPath } from './installations.ts'
import { killOrphans, workMarker } from './orphans.ts'
import { type OsUser, type RunningProgram, runProgram, startProgram } from './programs.ts'
import { makeOwned, makeReachable, removeTree } from './scratch-directory.ts'

export { removeTree, socketNote } from './scratch-directory.ts'

/**
 * Settings of a server that lives for one test restore: reachable through its socket alone, archiving nowhere, loading
 * nothing, and in no hurry to make anything durable, since it is thrown away.
 * Source: https://www.postgresql.org/docs/current/populate.html and .../non-durability.html
 */
const scratchSettings: Readonly<Record<string, string>> = {
  listen_addresses: '',
  archive_mode: 'off',
  wal_level: 'minimal',
  max_wal_senders: '0',
  max_logical_replication_workers: '0',
  shared_preload_libraries: '',
  session_preload_libraries: '',
  local_preload_libraries: '',
  logging_collector: 'off',
  log_destination: 'stderr',
  external_pid_file: '',
  ssl: 'off',
  autovacuum: 'off',
  fsync: 'off',
  synchronous_commit: 'off',
  full_page_writes: 'off',
  max_wal_size: '8GB',
  checkpoint_timeout: '1h',
  maintenance_work_mem: '256MB',
  shared_buffers: '128MB',
  huge_pages: 'off',
  jit: 'off',
}

export interface ScratchOptions {
  readonly installation: Installation
  /** Made by us, with every missing parent; must not exist. The server's user needs to be able to enter its parents. */
  readonly directory: string
  readonly osUser: OsUser | null
  /** Command line to start it through (`Isolation`); default none. The directory must be one that it lets through. */
  readonly through?: readonly string[] | null
  /** Name of the bootstrap superuser. */
  readonly superuser: string
  readonly port?: number
  readonly initdbArgs?: readonly string[]
  /** Override `scratchSettings`. */
  readonly settings?: Readonly<Record<string, string>>
  /** Contents of pg_hba.conf; default: trust on the socket, whose directory only our user can enter. */
  readonly hba?: string
  /** Work folder whose name the processes carry, for the clean-up after a kill. */
  readonly workFolder: string
  readonly signal?: AbortSignal
  readonly onPhase?: (phase: 'initdb' | 'start') => void
}

export interface ScratchServer {
  readonly source: ConnectionSource
  readonly dataDirectory: string
  readonly installation: Installation
  /** Whether it has ended without having been asked to. Waits a moment, since its clients learn it first. */
  isLost(): Promise<boolean>
  /** `immediate` throws away what is in memory: right for a server that is deleted next. Resolves when it is gone. */
  stop(mode?: 'fast' | 'immediate'): Promise<void>
  /** Starts it again after a stop, on the same data. */
  start(): Promise<void>
  /** Stops it and removes all that it left on disk. */
  remove(): Promise<void>
}

/**
 * Makes a new cluster (initdb) and starts it on a Unix socket.
 *
 * @throws LifeboatError `program-failed` with the server's own last words; `usage-invalid` when its OS user cannot enter
 * the directory; `disk-full`
 */
export async function startScratchServer(options: ScratchOptions): Promise<ScratchServer> {
  const { directory, installation, osUser, superuser } = options
  const data = join(directory, 'data')
  const port = options.port ?? 5432
  await makeOwned(directory, osUser)
  const socketDirectory = await makeReachable(directory, osUser)
  const source = (user: string) => socketSource({ host: socketDirectory, port, user })
  // initdb pastes the name into SQL without quoting it (15 and 17 fail on a double quote).
  const initdbUser = /^[A-Za-z_][A-Za-z0-9_]*$/.test(superuser) ? superuser : 'lifeboat_bootstrap'
  const { through = null } = options
  const common = {
    user: osUser,
    through,
    cwd: directory,
    bare: true,
    env: { HOME: directory, [workMarker]: options.workFolder },
  }
  const removeFiles = async () => {
    await killOrphans(directory)
    await removeTree(socketDirectory)
    await removeTree(directory)
  }
  let running: RunningProgram | null = null

  const stop = async (mode: 'fast' | 'immediate' = 'fast') => {
    if (running === null) return
    const server = running
    running = null
    // Without its first process a namespace is gone; outside, one that is killed leaves its shared memory behind.
    server.kill(mode === 'fast' ? 'SIGINT' : through === null ? 'SIGQUIT' : 'SIGKILL')
    if (await endsWithin(server, mode === 'fast' ? 30_000 : 10_000)) return
    server.kill('SIGKILL')
    await server.exited
  }
  const start = async () => {
    options.onPhase?.('start')
    const settings = {
      ...scratchSettings,
      // In an IPC namespace it goes with the server, and /dev/shm, which containers keep small, is not needed.
      ...(through === null ? {} : { dynamic_shared_memory_type: 'sysv' }),
      ...options.settings,
      unix_socket_directories: socketDirectory,
    }
    const args = [
      '-D',
      data,
      '-p',
      String(port),
      ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
    ]
    await rm(join(data, 'postmaster.pid'), { force: true }) // a killed one left it, and we would take it for the new one's
    // Not bound to the signal: a server that gets SIGTERM waits for its clients. Its owner stops it, in every case.
    const server = await startProgram({ ...common, program: programPath(installation, 'postgres'), args })
    server.stdout.resume()
    running = server
    await ready(server, data, options.signal)
  }

  try {
    options.onPhase?.('initdb')
    await runProgram({
      program: programPath(installation, 'initdb'),
      args: [
        '-D',
        data,
        '-U',
        initdbUser,
        '-A',
        'trust',
        '--no-sync',
        '--no-instructions',
        ...(options.initdbArgs ?? ['-E', 'UTF8', '--locale=C']),
      ],
      ...common,
      ...(options.signal ? { signal: options.signal } : {}),
    })
    await start()
    if (initdbUser !== superuser) await renameSuperuser(source(initdbUser), superuser)
    if (options.hba !== undefined) {
      await writeFile(join(data, 'pg_hba.conf'), options.hba)
      await withSession(source(superuser), { database: 'template1' }, (session) =>
        session.query('select pg_reload_conf()'),
      )
    }
  } catch (error) {
    await stop('immediate')
    await removeFiles().catch(() => {}) // what failed first is what counts; the work folder's owner removes the rest
    throw withCause(error)
  }
  return {
    source: source(superuser),
    dataDirectory: data,
    installation,
    isLost: async () => running !== null && endsWithin(running, lossMs),
    stop,
    start,
    remove: async () => {
      await stop('immediate')
      await removeFiles()
    },
  }
}

/** A server that is killed closes its connections before we are told of its end. */
const lossMs = 500

/** A session cannot rename its own user: a helper role does it and goes. */
async function renameSuperuser(source: ConnectionSource, name: string): Promise<void> {
  const database = 'template1'
  await withSession(source, { database }, (session) => session.query('create role lifeboat_rename superuser login'))
  await withSession({ ...source, user: 'lifeboat_rename' }, { database }, (session) =>
    session.query(`alter role ${quoteIdentifier(source.user)} rename to ${quoteIdentifier(name)}`),
  )
  await withSession({ ...source, user: name }, { database }, (session) => session.query('drop role lifeboat_rename'))
}

/** The pid file's eighth line says `ready` once connections are accepted. Source: src/include/utils/pidfile.h */
async function ready(server: RunningProgram, data: string, signal: AbortSignal | undefined): Promise<void> {
  let exit: { stderr: string; code: number | null } | null = null
  void server.exited.then((ended) => {
    exit = ended
  })
  for (;;) {
    signal?.throwIfAborted()
    if (exit !== null) {
      const { stderr, code } = exit as { stderr: string; code: number | null }
      throw new LifeboatError(
        'program-failed',
        `the scratch server did not start (status ${code}): ${stderr.split('\n').slice(-3).join('; ')}`,
        { details: { exitCode: code, stderr: stderr.slice(-4096) } },
      )
    }
    const lines = await readFile(join(data, 'postmaster.pid'), 'utf8').catch(() => '')
    if (lines.split('\n')[7]?.trim() === 'ready') return
    await delay(15)
  }
}

async function endsWithin(server: RunningProgram, ms: number): Promise<boolean> {
  const timer = new AbortController()
  try {
    return await Promise.race([server.exited.then(() => true), delay(ms, false, { signal: timer.signal })])
  } finally {
    timer.abort()
  }
}
