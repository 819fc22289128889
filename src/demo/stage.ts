import { createHash, randomBytes } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { chmod, copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { pino } from 'pino'
import { stringify } from 'yaml'
import { createApp } from '../app.ts'
import type { Clock } from '../clock.ts'
import { loadConfig } from '../config/load.ts'
import { LifeboatError } from '../domain/errors.ts'
import {
  archiveCommand,
  archiveProgram,
  incomingDirectory,
  programsDirectory,
  restoreProgram,
} from '../postgres/archiving.ts'
import { findInstallations, type Installation } from '../postgres/installations.ts'
import { serverOsUser } from '../postgres/os-user.ts'
import { makeOwned } from '../postgres/scratch-directory.ts'
import { type ScratchServer, startScratchServer } from '../postgres/scratch-server.ts'
import type { Version } from '../version.ts'
import { makeOwnedDirectory, removeLeftovers } from './leftovers.ts'
import { stopRestored } from './restored.ts'

/** The two repositories of the demo: each gets a full copy of every backup. */
export const repositoryNames = ['main', 'second'] as const
export const cluster = 'demo'
export const database = 'studio'

/** A throw-away PostgreSQL, and a Lifeboat that looks after it. */
export interface Stage {
  readonly server: ScratchServer
  readonly url: string
  /** Of the role admin; made up for this demo. */
  readonly token: string
  /** All that the demo writes is below it. */
  readonly directory: string
  readonly logFile: string
  /** The configuration of this Lifeboat, for its command line. */
  readonly configFile: string
  /** Where a cluster is restored to. */
  readonly restoredDirectory: string
  /** Where a repository keeps the backups of the cluster. */
  backupsDirectory(repository: (typeof repositoryNames)[number]): string
}

/** What is set up, last thing last; it is taken down the other way round. */
export type Undo = (() => Promise<unknown>)[]

const prefix = 'lifeboat-demo-'

/** The demo's own directory; those of demos that were killed go. Other OS users may enter it: as root, the server runs as another one. */
export async function makeDirectory(keep: boolean, undo: Undo): Promise<string> {
  await removeLeftovers(prefix)
  const directory = keep ? await mkdtemp(join(tmpdir(), `${prefix}kept-`)) : await makeOwnedDirectory(prefix)
  if (!keep) undo.push(() => rm(directory, { recursive: true, force: true, maxRetries: 5 }))
  await chmod(directory, 0o711)
  return directory
}

/**
 * A server with nothing in it, of the newest PostgreSQL that is here. It archives its WAL. @throws LifeboatError
 * `program-missing`
 */
export async function startServer(directory: string, undo: Undo, signal: AbortSignal): Promise<ScratchServer> {
  const osUser = await serverOsUser('postgres')
  const archive = archiveIn(directory)
  await makeOwned(archive, osUser)
  await makeOwned(join(archive, incomingDirectory), osUser)
  const server = await startScratchServer({
    installation: newestServer(await findInstallations(null)),
    directory: join(directory, 'postgres'),
    osUser,
    superuser: 'postgres',
    initdbArgs: ['-E', 'UTF8', '--locale=C', '--data-checksums'],
    settings: {
      wal_level: 'replica',
      max_wal_senders: '4',
      full_page_writes: 'on',
      archive_mode: 'on',
      archive_command: archiveCommand(await copyPrograms(directory), archive),
    },
    workFolder: directory,
    signal,
  })
  undo.push(() => server.remove())
  return server
}

function archiveIn(directory: string): string {
  return join(directory, 'archive')
}

/** The server's OS user cannot enter a clone below /root. */
async function copyPrograms(directory: string): Promise<string> {
  const programs = join(directory, 'programs')
  await mkdir(programs, { mode: 0o755 })
  for (const name of [archiveProgram, restoreProgram]) {
    await copyFile(join(programsDirectory, name), join(programs, name))
    await chmod(join(programs, name), 0o755)
  }
  await chmod(programs, 0o755) // whatever the umask is
  return programs
}

export interface LifeboatOptions {
  readonly server: ScratchServer
  readonly directory: string
  readonly port: number
  readonly clock: Clock
  readonly version: Version
}

/** Starts Lifeboat for the server, with two repositories below the directory. It writes its log there too. */
export async function startLifeboat(options: LifeboatOptions, undo: Undo): Promise<Stage> {
  const { server, directory, clock, version } = options
  const token = randomBytes(24).toString('base64url')
  const repositoryPath = (name: string) => join(directory, `repository-${name}`)
  const logFile = join(directory, 'lifeboat.log')
  const text = stringify({
    cluster,
    listen: `127.0.0.1:${await freePort(options.port)}`,
    stateDir: join(directory, 'state'),
    workDir: join(directory, 'work'),
    postgres: { host: server.source.host, port: server.source.port, user: server.source.user, databases: [database] },
    repositories: repositoryNames.map((name) => ({ name, url: pathToFileURL(repositoryPath(name)).href })),
    // The moment of each place in the WAL is noted every second: nobody here wants to wait for five.
    wal: { archive: archiveIn(directory), clockInterval: '1s' },
    auth: { tokens: [{ name: 'demo', role: 'admin', sha256: createHash('sha256').update(token).digest('hex') }] },
  })
  const configFile = join(directory, 'lifeboat.yaml')
  await writeFile(configFile, text)
  const config = await loadConfig({ text, path: configFile, env: {} })
  const log = pino({ level: 'info' }, createWriteStream(logFile))
  const app = await createApp(config, { clock, log, version })
  const restoredDirectory = join(directory, 'before')
  undo.push(
    () => stopRestored(server, restoredDirectory),
    () => app.stop(),
  )
  await app.start()
  const backupsDirectory = (name: string) => join(repositoryPath(name), cluster, 'backups')
  return { server, url: app.url, token, directory, logFile, configFile, restoredDirectory, backupsDirectory }
}

function newestServer(installations: readonly Installation[]): Installation {
  const [newest] = installations.filter(({ server }) => server).toSorted((a, b) => b.major - a.major)
  if (newest !== undefined) return newest
  throw new LifeboatError('program-missing', 'no PostgreSQL server programs (initdb, postgres) were found', {
    hint: 'install postgresql, or put its directory on PATH',
  })
}

/** The wanted port, or any other when that is taken. */
async function freePort(wanted: number): Promise<number> {
  return (await tryPort(wanted)) ?? (await tryPort(0)) ?? wanted
}

function tryPort(port: number): Promise<number | null> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(null))
    server.listen(port, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : null))
    })
  })
}
