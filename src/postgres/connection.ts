import { readFile } from 'node:fs/promises'
import type { Socket } from 'node:net'
import type { ConnectionOptions } from 'node:tls'
import pg from 'pg'
import { LifeboatError } from '../domain/errors.ts'
import type { Target } from './conninfo.ts'
import { authenticationFailure, serverFailure } from './server-failure.ts'

/** How to reach a server, and who to be there. */
export interface ConnectionSource {
  readonly host: string
  readonly port: number
  readonly user: string
  /** Asked at each connection: a rotated password needs no restart. */
  readonly password: (() => Promise<string>) | null
  readonly connectTimeoutMs: number
  readonly sslMode: 'disable' | 'prefer' | 'require' | 'verify-ca' | 'verify-full'
  readonly sslRootCert: string | null
}

export interface ConnectOptions {
  readonly database: string
  readonly signal?: AbortSignal
  /** Extra server settings for the session, as `-c name=value` would set them. */
  readonly settings?: Readonly<Record<string, string>>
  /** Speaks the commands of replication instead of SQL; the database is not looked at. */
  readonly replication?: boolean
}

/**
 * Settings that every session and every child process needs: a database or role may carry others by ALTER … SET, and a
 * `default_transaction_read_only=on` or a timeout found there breaks dumps and restores, and with
 * `standard_conforming_strings=off` pg_dump writes strings that mean something else to whoever reads its script.
 * Source: https://www.postgresql.org/docs/current/runtime-config-client.html
 */
export const neutralSettings: Readonly<Record<string, string>> = {
  default_transaction_read_only: 'off',
  statement_timeout: '0',
  lock_timeout: '0',
  idle_in_transaction_session_timeout: '0',
  standard_conforming_strings: 'on',
}

/** `neutralSettings` and what newer servers know besides. */
export function neutralSettingsFor(serverMajor: number): Readonly<Record<string, string>> {
  return serverMajor >= 17 ? { ...neutralSettings, transaction_timeout: '0' } : neutralSettings
}

/** Settings in the form of PGOPTIONS and of the startup packet. */
export function settingsOption(settings: Readonly<Record<string, string>>): string {
  return Object.entries(settings)
    .map(([name, value]) => `-c ${name}=${value.replace(/[\\\s]/g, '\\$&')}`)
    .join(' ')
}

/** One session. Values come as the driver gives them: bigint and numeric as text. */
export interface Session {
  query<Row extends object>(text: string, values?: readonly unknown[]): Promise<Row[]>
  /** Rejects when the server or the network ends the session; never resolves. Watched or not, it raises no unhandled rejection. */
  readonly lost: Promise<never>
  close(): Promise<void>
}

/**
 * Opens a session.
 *
 * @throws LifeboatError `server-unreachable`, `server-authentication`, `database-missing`, `server-error`; the signal's
 * reason when aborted. An abort later ends the session: the query that runs then fails with the signal's reason.
 */
export async function connect(source: ConnectionSource, options: ConnectOptions): Promise<Session> {
  try {
    return await connectOnce(source, options)
  } catch (error) {
    // A limit of the database's or role's own that strikes before it can be lifted. The server knows it, then.
    if (error instanceof LifeboatError && error.details?.sqlState === '25P04')
      return connectOnce(source, { ...options, settings: { ...options.settings, transaction_timeout: '0' } })
    throw error
  }
}

async function connectOnce(source: ConnectionSource, options: ConnectOptions): Promise<Session> {
  const { signal } = options
  signal?.throwIfAborted()
  const client = await open(source, options)
  let lose: (error: unknown) => void = () => {}
  const lost = new Promise<never>((_, reject) => {
    lose = reject
  })
  lost.catch(() => {})
  let closing = false
  const failed = (error: unknown) => (signal?.aborted ? signal.reason : serverFailure(error))
  client.on('error', (error) => lose(failed(error)))
  client.on('end', () => {
    if (!closing) lose(failed(new LifeboatError('server-unreachable', 'the server closed the connection')))
  })
  const onAbort = () => {
    lose(signal?.reason)
    destroy(client)
  }
  signal?.addEventListener('abort', onAbort, { once: true })

  const session: Session = {
    lost,
    query: async <Row extends object>(text: string, values?: readonly unknown[]) => {
      signal?.throwIfAborted()
      try {
        const result = await Promise.race([client.query(text, values === undefined ? undefined : [...values]), lost])
        return result.rows as Row[]
      } catch (error) {
        throw failed(error)
      }
    },
    close: async () => {
      closing = true
      // A server that hangs does not close its end.
      const impatient = setTimeout(() => destroy(client), source.connectTimeoutMs)
      await Promise.race([client.end(), lost]).catch(() => {})
      clearTimeout(impatient)
      signal?.removeEventListener('abort', onAbort)
    },
  }
  if (options.replication) return session
  // A setting of newer servers that older ones do not know: it cannot travel in the startup packet.
  try {
    await session.query(
      `select set_config(name, '0', false) from pg_catalog.pg_settings where name = 'transaction_timeout'`,
    )
  } catch (error) {
    await session.close()
    throw error
  }
  return session
}

/** Runs `work` in a session of its own and closes it whatever happens. */
export async function withSession<T>(
  source: ConnectionSource,
  options: ConnectOptions,
  work: (session: Session) => Promise<T>,
): Promise<T> {
  const session = await connect(source, options)
  try {
    return await work(session)
  } finally {
    await session.close()
  }
}

/** A source that needs no password: a scratch server's socket. */
export function socketSource(target: Pick<Target, 'host' | 'port' | 'user'>): ConnectionSource {
  return { ...target, password: null, connectTimeoutMs: 10_000, sslMode: 'disable', sslRootCert: null }
}

async function open(
  source: ConnectionSource,
  { database, signal, settings, replication }: ConnectOptions,
): Promise<pg.Client> {
  const ssl = await sslOptions(source)
  const password = (await source.password?.()) ?? null
  let passwordAsked = false
  let answered = false
  const attempt = async (withSsl: ConnectionOptions | false) => {
    const client = new pg.Client({
      host: source.host,
      port: source.port,
      user: source.user,
      database,
      // An empty function result would make the driver read PGPASSWORD or ~/.pgpass: decide here instead.
      password: () => {
        passwordAsked = true
        return password ?? ''
      },
      ssl: withSsl,
      connectionTimeoutMillis: source.connectTimeoutMs,
      keepAlive: true,
      application_name: 'lifeboat',
      ...(replication ? { replication: 'true' } : {}),
      options: settingsOption({ ...neutralSettings, ...settings }),
    })
    const onAbort = () => destroy(client)
    signal?.addEventListener('abort', onAbort, { once: true })
    // Told by connect() as well, unless it comes right behind the server's readiness (a limit of the role that strikes
    // at once): both are then in one packet, and nobody else would ever hear of it.
    let early: Error | undefined
    client.on('error', (error) => {
      early ??= error
    })
    try {
      await client.connect()
      if (early !== undefined) throw early
      return client
    } catch (error) {
      answered = streamOf(client).bytesRead > 0
      destroy(client)
      signal?.throwIfAborted()
      throw error
    } finally {
      signal?.removeEventListener('abort', onAbort)
    }
  }
  try {
    if (ssl === false || source.sslMode !== 'prefer') return await attempt(ssl)
    return await attempt(ssl).catch((error: unknown) => {
      // As libpq does it: what said no may say yes without SSL, but not to a wrong password, and not if nobody is there.
      if (!answered || serverFailure(error).details?.sqlState === '28P01') throw error
      return attempt(false)
    })
  } catch (error) {
    signal?.throwIfAborted()
    const failure = serverFailure(error)
    if (passwordAsked && !password && failure.details?.sqlState === '') {
      throw authenticationFailure('the server asks for a password, and there is none', error, '')
    }
    throw failure
  }
}

async function sslOptions({ host, sslMode, sslRootCert }: ConnectionSource): Promise<ConnectionOptions | false> {
  if (sslMode === 'disable' || host.startsWith('/')) return false
  if (sslMode === 'prefer' || sslMode === 'require') return { rejectUnauthorized: false }
  const ca = sslRootCert === null ? {} : { ca: await readRootCert(sslRootCert) }
  return sslMode === 'verify-full'
    ? { ...ca, rejectUnauthorized: true }
    : { ...ca, rejectUnauthorized: true, checkServerIdentity: () => undefined }
}

async function readRootCert(path: string): Promise<Buffer> {
  return readFile(path).catch((cause: Error) => {
    throw new LifeboatError('config-invalid', `cannot read the root certificate: ${cause.message}`, {
      hint: 'check postgres.sslRootCert',
      cause,
    })
  })
}

/** Ends the connection without the courtesy of a Terminate message, which a hung server would never read. */
function destroy(client: pg.Client): void {
  streamOf(client).destroy()
}

/** The driver does not show its socket. */
function streamOf(client: pg.Client): Socket {
  return (client as unknown as { connection: { stream: Socket } }).connection.stream
}
