import type { Manifest } from '../domain/backup.ts'
import { LifeboatError } from '../domain/errors.ts'
import { compareFingerprints, type Fingerprint } from '../domain/fingerprint.ts'
import type { Check } from '../domain/proof.ts'
import { type ConnectionSource, connect, type Session, withSession } from '../postgres/connection.ts'
import { quoteIdentifier } from '../postgres/conninfo.ts'
import { databaseStatements } from '../postgres/database-statements.ts'
import { fingerprintSettings, retakeFingerprint } from '../postgres/fingerprint.ts'
import type { Installation } from '../postgres/installations.ts'
import { restoreDump } from '../postgres/restore.ts'

export interface RestoreDatabaseOptions {
  readonly manifest: Manifest
  /** The unpacked dump. */
  readonly directory: string
  readonly folder: string
  readonly installation: Installation
  readonly target: ConnectionSource
  readonly maintenanceDatabase: string
  readonly env: Readonly<Record<string, string>>
  /** The new database; must not exist. */
  readonly name: string
  readonly jobs: number
  /** Without owners and privileges, for a server that has not got the roles. */
  readonly noOwner: boolean
  readonly signal: AbortSignal
  readonly onTable: (table: string) => void
}

/**
 * Makes a new database and restores a dump into it. Whatever fails, the half-filled database is dropped and nothing
 * else was touched.
 *
 * @throws LifeboatError `conflict` when a database of that name exists; what pg_restore fails with
 */
export async function restoreDatabase(options: RestoreDatabaseOptions): Promise<void> {
  const { installation, directory, env, signal, name, target } = options
  const extraArgs = options.noOwner ? ['--no-owner', '--no-privileges'] : []
  const maintenance = { database: options.maintenanceDatabase, signal }
  const statements = await databaseStatements({
    ...options,
    from: options.manifest.database?.name ?? '',
    to: name,
    extraArgs,
  })
  const wanted = statements.filter((statement) => !(options.noOwner && isOfRole(statement)))
  await withSession(target, maintenance, (session) => createDatabase(session, name, wanted)).catch((error: unknown) => {
    throw withRoleHint(error)
  })
  try {
    await restoreDump({
      installation,
      directory,
      env,
      signal,
      source: target,
      database: name,
      create: false,
      jobs: options.jobs,
      extraArgs,
      onTable: options.onTable,
    })
    await withSession(target, { database: name, signal }, (session) => session.query('analyze'))
  } catch (error) {
    await dropDatabase(options)
    throw withRoleHint(error)
  }
}

/** PostgreSQL has no SQLSTATE of its own for a role, and pg_restore none at all: the words tell. */
function withRoleHint(error: unknown): unknown {
  if (!(error instanceof LifeboatError) || !/\brole "[^\n]*" does not exist/.test(error.message)) return error
  return new LifeboatError(error.code, error.message, {
    hint: 'make the roles first (they are in globals.sql), or use --no-owner to restore without owners and privileges',
    cause: error,
    ...(error.details ? { details: error.details } : {}),
  })
}

/** Settings of a role in this database: with the owners left out, so are they. */
function isOfRole(statement: string): boolean {
  return /^\s*alter\s+role\b/i.test(statement)
}

/** Drops the database that a failed restore made, also when the run is being cancelled. */
export async function dropDatabase({
  target,
  maintenanceDatabase,
  name,
}: Pick<RestoreDatabaseOptions, 'target' | 'maintenanceDatabase' | 'name'>): Promise<void> {
  await withSession(target, { database: maintenanceDatabase }, (session) =>
    session.query(`drop database if exists ${quoteIdentifier(name)} with (force)`),
  ).catch((cause: unknown) => {
    throw new LifeboatError('server-error', `the half-restored database ${JSON.stringify(name)} could not be dropped`, {
      hint: `drop it yourself: DROP DATABASE ${quoteIdentifier(name)}`,
      cause,
    })
  })
}

/** Compares what was restored with what the source held at the moment of the dump. */
export async function compareRestored(
  {
    target,
    name,
    jobs,
    signal,
    noOwner,
  }: Pick<RestoreDatabaseOptions, 'target' | 'name' | 'jobs' | 'signal' | 'noOwner'>,
  fingerprint: Fingerprint,
): Promise<readonly Check[]> {
  const sessions: Session[] = []
  try {
    for (let index = 0; index < Math.max(1, jobs); index += 1) {
      const session = await connect(target, { database: name, settings: fingerprintSettings, signal })
      sessions.push(session)
      await session.query('begin transaction isolation level repeatable read read only')
    }
    const found = await retakeFingerprint(sessions as [Session, ...Session[]], fingerprint)
    return noOwner
      ? compareFingerprints(withoutRoles(fingerprint), withoutRoles(found))
      : compareFingerprints(fingerprint, found)
  } finally {
    await Promise.all(sessions.map((session) => session.close()))
  }
}

/** What was left out on purpose cannot be missing: settings of roles, default privileges. */
function withoutRoles(fingerprint: Fingerprint): Fingerprint {
  const { 'default privilege': _, ...objects } = fingerprint.objects
  return { ...fingerprint, objects, settings: fingerprint.settings.filter((line) => !line.includes(': ')) }
}

async function createDatabase(session: Session, name: string, [create, ...others]: readonly string[]): Promise<void> {
  if (create === undefined)
    throw new LifeboatError('artifact-invalid', 'the dump does not say how to make its database')
  await session.query(create).catch((error: LifeboatError) => {
    if (error.details?.sqlState !== '42P04') throw error
    throw new LifeboatError('conflict', `a database ${JSON.stringify(name)} exists already`, {
      hint: 'choose another name, or --replace to put the restored one in its place and keep the old one',
      cause: error,
    })
  })
  try {
    for (const statement of others) await session.query(statement)
  } catch (error) {
    await session.query(`drop database ${quoteIdentifier(name)}`)
    throw error
  }
}
