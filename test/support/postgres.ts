import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { join } from 'node:path'
import type { Test } from 'tap'
import { LifeboatError } from '../../src/domain/errors.ts'
import { type ConnectionSource, withSession } from '../../src/postgres/connection.ts'
import { quoteIdentifier } from '../../src/postgres/conninfo.ts'
import { findInstallations, type Installation } from '../../src/postgres/installations.ts'
import { serverOsUser } from '../../src/postgres/os-user.ts'
import { type ScratchServer, startScratchServer } from '../../src/postgres/scratch-server.ts'
import { unpackedBinDir, whyNotFile } from './cache.ts'
import { scratchDirectory } from './scratch.ts'

export type Major = 15 | 17 | 18

export interface ClusterOptions {
  /** Default 15, which Debian 12 has. */
  readonly major?: Major
  /** Server settings, over those of a small production server. */
  readonly settings?: Readonly<Record<string, string>>
  /** Lines of pg_hba.conf before `local all all trust` (and scram-sha-256 on TCP). */
  readonly hba?: readonly string[]
  /** Also listens on 127.0.0.1, on a free port. */
  readonly tcp?: boolean
  /** Name of the bootstrap superuser; default `postgres`. */
  readonly superuser?: string
  /** Default `-E UTF8 --locale=C`. */
  readonly initdbArgs?: readonly string[]
}

/** A running cluster that lives as long as its test. */
export interface Cluster {
  readonly major: Major
  readonly installation: Installation
  /** The server itself: `stop`, `start`, `dataDirectory`. */
  readonly server: ScratchServer
  /** Its superuser over the Unix socket. */
  readonly source: ConnectionSource
  /** Another role: over the socket without a password, over TCP (the cluster must have `tcp`) with one. */
  as(user: string, password?: string): ConnectionSource
  /** Runs SQL as superuser; several statements at once are one transaction, and give no rows. */
  sql<Row extends object = Record<string, unknown>>(text: string, database?: string): Promise<Row[]>
  /** Makes a database, from template0, and runs SQL in it. */
  createDatabase(name: string, sql?: string): Promise<void>
}

/** What a production server has and a scratch server has not; not durable, since no test pulls the plug. */
const productionSettings = { wal_level: 'replica', max_wal_senders: '10', autovacuum: 'on', max_wal_size: '1GB' }

/** Starts a cluster for a test, which removes it at its end. Takes about a second. */
export async function startCluster(t: Test, options: ClusterOptions = {}): Promise<Cluster> {
  const { major = 15, tcp = false, superuser = 'postgres' } = options
  const directory = await scratchDirectory(t)
  const installation = await installationOf(major)
  const port = tcp ? await freePort() : 5432
  const hba = [
    ...(options.hba ?? []),
    'local all all trust',
    ...(tcp ? ['host all all 127.0.0.1/32 scram-sha-256'] : []),
  ]
  const server = await startScratchServer({
    installation,
    directory: join(directory, 'cluster'),
    osUser: await serverOsUser('postgres'),
    superuser,
    port,
    settings: { ...productionSettings, ...(tcp ? { listen_addresses: '127.0.0.1' } : {}), ...options.settings },
    hba: `${hba.join('\n')}\n`,
    workFolder: directory,
    ...(options.initdbArgs ? { initdbArgs: options.initdbArgs } : {}),
  })
  t.teardown(() => server.remove())
  const { source } = server
  const sql = <Row extends object>(text: string, database = 'postgres') =>
    withSession(source, { database }, (session) => session.query<Row>(text))
  return {
    major,
    installation,
    server,
    source,
    as: (user, password) =>
      password === undefined
        ? { ...source, user }
        : { ...source, host: '127.0.0.1', user, password: async () => password },
    sql,
    createDatabase: async (name, text) => {
      await sql(`create database ${quoteIdentifier(name)} template template0`)
      if (text !== undefined) await sql(text, name)
    },
  }
}

/**
 * What `skip` of a test is: why this major cannot be had on this machine. False where it is there, and where nothing was
 * noted: then the test says what is missing.
 */
export async function cannotHave(major: Major): Promise<string | false> {
  const found = await installationOf(major).catch(() => null)
  const why = found === null ? await readFile(whyNotFile(major), 'utf8').catch(() => null) : null
  return why !== null && why
}

/** The server programs of one major version: the system's, else those that `npm test` has unpacked. */
export async function installationOf(major: Major): Promise<Installation> {
  const unpacked = unpackedBinDir(major)
  const all = await findInstallations(existsSync(unpacked) ? unpacked : null)
  const found = all.findLast((installation) => installation.major === major && installation.server)
  if (found !== undefined) return found
  throw new LifeboatError('program-missing', `no PostgreSQL ${major} server programs were found`, {
    hint: 'run: node test/support/setup.ts',
  })
}

/** A TCP port of 127.0.0.1 that nobody listens on just now. */
export async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', resolve)
  })
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}
