import { toFailure } from '../domain/errors.ts'
import { archiveOf } from '../postgres/archiving.ts'
import { listDatabases } from '../postgres/cluster.ts'
import { type ConnectionSource, type Session, withSession } from '../postgres/connection.ts'
import { chooseClient, chooseServer, findInstallations } from '../postgres/installations.ts'
import type { Candidate } from './candidates.ts'
import { passwordFor } from './passwords.ts'

/** A server that let us in. */
export interface FoundServer {
  readonly candidate: Candidate
  readonly user: string
  readonly version: string
  readonly major: number
  /** `cluster_name`; empty when it has none. */
  readonly clusterName: string
  readonly databases: readonly { readonly name: string; readonly bytes: number }[]
  /** It has a role of this name, made for us. */
  readonly hasOwnRole: boolean
  readonly isSuperuser: boolean
  /** `archive_mode` is not off. */
  readonly archives: boolean
  /** The directory that `lifeboat-archive` fills; null: another command, or it is not for this role to see. */
  readonly archive: string | null
  /** `summarize_wal` is on; null: the server has no such setting, being older than 17. */
  readonly summarizesWal: boolean | null
  /** Where the password was that it asked for; null: it asked for none. */
  readonly passwordFrom: string | null
}

export interface ServerFindings {
  readonly server: FoundServer | null
  /** Other servers that are there, or why one was of no use. */
  readonly troubles: readonly string[]
}

export const ownRole = 'lifeboat'
const connectTimeoutMs = 3_000

/** Asks each candidate, and takes the first that answers. */
export async function findServer(
  candidates: readonly Candidate[],
  { env, osUser, signal }: { env: Readonly<Record<string, string | undefined>>; osUser: string; signal: AbortSignal },
): Promise<ServerFindings> {
  const troubles: string[] = []
  let server: FoundServer | null = null
  for (const candidate of candidates) {
    const where = placeOf(candidate)
    if (server !== null) {
      if (candidate.isKnown) troubles.push(`there is another server at ${where}: give it a configuration of its own`)
      continue
    }
    // Over a socket the OS user is asked for first; postgres is the role that nearly every server has.
    const users = candidate.user === null ? [...new Set([osUser, 'postgres', ownRole])] : [candidate.user]
    const refusals: string[] = []
    for (const user of users) {
      const asked = await ask(candidate, user, env, signal)
      if ('server' in asked) {
        server = asked.server
        break
      }
      if (asked.isAway) {
        if (candidate.isKnown) refusals.push(asked.message)
        break
      }
      refusals.push(asked.message)
    }
    if (server === null && refusals.length > 0) troubles.push(`the server at ${where} was not asked: ${refusals[0]}`)
  }
  return { server, troubles }
}

export function placeOf({ host, port }: Candidate): string {
  return host.startsWith('/') ? `${host}, port ${port}` : `${host}:${port}`
}

type Asked = { readonly server: FoundServer } | { readonly message: string; readonly isAway: boolean }

async function ask(
  candidate: Candidate,
  user: string,
  env: Readonly<Record<string, string | undefined>>,
  signal: AbortSignal,
): Promise<Asked> {
  const { host, port, sslMode, database } = candidate
  const source: ConnectionSource = { host, port, user, password: null, connectTimeoutMs, sslMode, sslRootCert: null }
  const look = async (password: string | null) =>
    withSession(
      { ...source, password: password === null ? null : async () => password },
      { database, signal },
      describe,
    )
  try {
    return { server: { candidate, user, passwordFrom: null, ...(await look(null)) } }
  } catch (error) {
    signal.throwIfAborted()
    const { code, message } = toFailure(error)
    if (code !== 'server-authentication') return { message, isAway: code === 'server-unreachable' }
    const known = await passwordFor({ candidate, user, env })
    if (known === null) return { message, isAway: false }
    try {
      return { server: { candidate, user, passwordFrom: known.from, ...(await look(known.password)) } }
    } catch (second) {
      signal.throwIfAborted()
      return { message: toFailure(second).message, isAway: false }
    }
  }
}

async function describe(session: Session) {
  const [row] = await session.query<{
    version: string
    num: string
    name: string
    own: boolean
    super: boolean
    mode: string
    command: string
    summarizes: string | null
  }>(
    `select current_setting('server_version') as version, current_setting('server_version_num') as num,
       current_setting('cluster_name') as name, exists (select from pg_roles where rolname = $1) as own,
       (select rolsuper from pg_roles where rolname = current_user) as super,
       current_setting('archive_mode') as mode, current_setting('archive_command') as command,
       current_setting('summarize_wal', true) as summarizes`,
    [ownRole],
  )
  const databases = await listDatabases(session)
  return {
    version: row?.version ?? '',
    major: Math.floor(Number(row?.num) / 10_000),
    clusterName: row?.name ?? '',
    databases: databases.map(({ name, bytes }) => ({ name, bytes })),
    hasOwnRole: row?.own === true,
    isSuperuser: row?.super === true,
    archives: row !== undefined && row.mode !== 'off',
    archive: archiveOf(row?.command ?? ''),
    summarizesWal: row?.summarizes == null ? null : row.summarizes === 'on',
  }
}

/** Whether PostgreSQL's programs that are installed fit the server; each line in words. */
export async function findPrograms(
  major: number | null,
): Promise<{ readonly facts: readonly string[]; readonly troubles: readonly string[] }> {
  const installations = await findInstallations(null)
  if (major === null) {
    return installations.length === 0
      ? { facts: [], troubles: ['no programs of PostgreSQL are installed: install postgresql-client'] }
      : { facts: installations.map(({ version, directory }) => `PostgreSQL ${version} in ${directory}`), troubles: [] }
  }
  const facts: string[] = []
  const troubles: string[] = []
  const looks = [
    ['dumps are taken', chooseClient],
    ['test restores are run', chooseServer],
  ] as const
  for (const [what, choose] of looks) {
    try {
      const { version, directory } = choose(installations, major)
      facts.push(`${what} with PostgreSQL ${version} in ${directory}`)
    } catch (error) {
      const { message, hint } = toFailure(error)
      troubles.push(hint === undefined ? message : `${message}: ${hint}`)
    }
  }
  return { facts, troubles }
}
