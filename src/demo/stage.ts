import { createHash, randomBytes } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
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
import { findInstallations, type Installation } from '../postgres/installations.ts'
import { serverOsUser } from '../postgres/os-user.ts'
import { type ScratchServer, startScratchServer } from '../postgres/scratch-server.ts'
import type { Version } from '../version.ts'
import { makeOwnedDirectory, removeLeftovers } from './leftovers.ts'

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

/** A server with nothing in it, of the newest PostgreSQL that is here. @throws LifeboatError `program-missing` */
export async function startServer(directory: string, undo: Undo, signal: AbortSignal): Promise<ScratchServer> {
  const server = await startScratchServer({
    installation: newestServer(await findInstallations(null)),
    directory: join(directory, 'postgres'),
    osUser: await serverOsUser('postgres'),
    superuser: 'postgres',
    workFolder: directory,
    signal,
  })
  undo.push(() => server.remove())
  return server
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
    auth: { tokens: [{ name: 'demo', role: 'admin', sha256: createHash('sha256').update(token).digest('hex') }] },
  })
  const config = await loadConfig({ text, path: 'demo.yaml', env: {} })
  const log = pino({ level: 'info' }, createWriteStream(logFile))
  const app = await createApp(config, { clock, log, version })
  undo.push(() => app.stop())
  await app.start()
  const backupsDirectory = (name: string) => join(repositoryPath(name), cluster, 'backups')
  return { server, url: app.url, token, directory, logFile, backupsDirectory }
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
