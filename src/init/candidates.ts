import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { kinds } from '../config/kinds.ts'
import { LifeboatError } from '../domain/errors.ts'
import type { ConnectionSource } from '../postgres/connection.ts'
import { readDsn } from './dsn.ts'

/** Where a server may be. */
export interface Candidate {
  readonly host: string
  readonly port: number
  /** Null: not told, so the likely ones are tried. */
  readonly user: string | null
  readonly password: string | null
  readonly database: string
  readonly sslMode: ConnectionSource['sslMode']
  /** Somebody named it, or its socket is there: when it does not answer, that is worth telling. */
  readonly isKnown: boolean
}

export interface CandidateOptions {
  readonly dsn: string | null
  readonly env: Readonly<Record<string, string | undefined>>
  readonly root: string
  /** Port of localhost that is tried last. */
  readonly localPort: number
}

const sslModes = ['disable', 'prefer', 'require', 'verify-ca', 'verify-full'] as const
const defaults = { user: null, password: null, database: 'postgres', sslMode: 'prefer' } as const

/**
 * Servers to try: the one that is named by `--dsn` or by libpq's variables; else those whose sockets are in the usual
 * places, and localhost.
 *
 * @throws LifeboatError `usage-invalid`; its message repeats nothing of a connection string, which may hold a password
 */
export async function serverCandidates({ dsn, env, root, localPort }: CandidateOptions): Promise<readonly Candidate[]> {
  const said = dsn === null ? null : readDsn(dsn)
  if (dsn !== null && said === null) {
    throw new LifeboatError('usage-invalid', '--dsn is no connection string', {
      hint: 'for example: --dsn postgresql://lifeboat@localhost:5432/postgres, or --dsn "host=/tmp user=lifeboat"',
    })
  }
  const sockets = ['/var/run/postgresql', '/tmp'] as const
  const user = said?.user ?? (env.PGUSER || null)
  const sslMode = sslModeOf(said?.sslMode ?? env.PGSSLMODE)
  const database = said?.database ?? (env.PGDATABASE || defaults.database)
  const shared = { ...defaults, user, password: said?.password ?? null, database, sslMode }
  if (said !== null || env.PGHOST || env.PGPORT) {
    const host = said?.host ?? (env.PGHOST || join(root, sockets[0]))
    const port = said?.port ?? Number(env.PGPORT || 5432)
    if (!Number.isInteger(port) || port < 1 || port > 65_535)
      throw new LifeboatError('usage-invalid', `the port of the server ${said === null ? 'in PGPORT ' : ''}is not one`)
    kinds.host.check(host)
    return [{ ...shared, host, port, isKnown: true }]
  }
  const found: Candidate[] = []
  for (const directory of sockets) {
    const ports = await socketsIn(root, directory)
    found.push(...ports.map((port) => ({ ...shared, host: join(root, directory), port, isKnown: true })))
  }
  return [...found, { ...shared, host: 'localhost', port: localPort, isKnown: false }]
}

function sslModeOf(word: string | undefined): Candidate['sslMode'] {
  // libpq's `allow` has no equal here; `prefer` reaches the same servers.
  return sslModes.find((mode) => mode === word) ?? defaults.sslMode
}

/** Ports of the servers whose sockets are in a directory. */
async function socketsIn(root: string, directory: string): Promise<readonly number[]> {
  const names = await readdir(join(root, directory)).catch(() => [])
  const ports = names.flatMap((name) => /^\.s\.PGSQL\.(\d{1,5})$/.exec(name)?.[1] ?? [])
  return ports.map(Number).sort((a, b) => a - b)
}
