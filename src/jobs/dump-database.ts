import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import type { ValidatedConfig } from '../config/validated.ts'
import type { Fingerprint } from '../domain/fingerprint.ts'
import {
  type ClusterFacts,
  canReadPasswords,
  type DatabaseFacts,
  databasesOfOtherEncodings,
  globalsVersion,
  invisibleToRole,
} from '../postgres/cluster.ts'
import { connect, type Session } from '../postgres/connection.ts'
import {
  type DumpedGlobals,
  dumpDatabase,
  dumpGlobals,
  type ExportedSnapshot,
  exportSnapshot,
} from '../postgres/dump.ts'
import { fingerprintSettings, takeFingerprint } from '../postgres/fingerprint.ts'
import { listTables } from '../postgres/fingerprint-catalog.ts'
import { lockTables } from '../postgres/fingerprint-locks.ts'
import type { Installation } from '../postgres/installations.ts'
import { diskFailure } from './work-folder.ts'

export interface DumpDatabaseOptions {
  readonly config: ValidatedConfig
  readonly clock: Clock
  readonly log: Logger
  readonly signal: AbortSignal
  readonly cluster: ClusterFacts
  readonly database: DatabaseFacts
  readonly installation: Installation
  readonly compression: string
  readonly env: Readonly<Record<string, string>>
  /** Folder for the staged dump; made here. */
  readonly folder: string
  /** Part of this database that is done, 0 to 1, and the table at hand. */
  readonly onProgress: (ratio: number, table: string) => void
}

/** One database, dumped and staged, with all that was learned in the same snapshot. */
export interface StagedDump {
  readonly directory: string
  readonly snapshot: ExportedSnapshot
  readonly stop: { readonly lsn: string; readonly at: Date }
  readonly fingerprint: Fingerprint | null
  /** The script of pg_dumpall, byte by byte. */
  readonly globals: Buffer
  readonly warnings: readonly string[]
}

/**
 * Dumps one database in one consistent pass: the snapshot that one session holds open is used by pg_dump's workers and
 * by the fingerprint, so that a restored copy must be equal and not merely similar. The loss of that session fails the
 * dump, since a worker may not have imported the snapshot yet.
 */
export async function stageDump(options: DumpDatabaseOptions): Promise<StagedDump> {
  const { config, folder, env, installation, database } = options
  const directory = join(folder, 'dump')
  await mkdir(folder, { mode: 0o700 }).catch((error: unknown) => {
    throw diskFailure(error, 'cannot stage the dump')
  })
  // Any failure ends every other part at once; the parts are awaited before the session is closed.
  const failing = new AbortController()
  const signal = AbortSignal.any([options.signal, failing.signal])
  const session = await connect(config.postgres, { database: database.name, settings: fingerprintSettings, signal })
  const parts = async () => {
    const snapshot = await exportSnapshot(session)
    const tables = await listTables(session)
    const invisible = await invisibleToRole(session)
    // As pg_dump does: a table that is altered meanwhile would be hashed in its new shape and dumped in its old one.
    if (config.dump.fingerprint.enabled) await lockTables(session, tables)
    const [fingerprint, warnings, globals] = await allOrAbort(failing, [
      config.dump.fingerprint.enabled ? fingerprintOf(options, session) : Promise.resolve(null),
      dumpDatabase({
        installation,
        source: config.postgres,
        env,
        database: database.name,
        snapshot: snapshot.id,
        directory,
        jobs: config.dump.jobs,
        compression: options.compression,
        signal,
        onTable: tableProgress(tables, config.dump.jobs, options.onProgress),
      }),
      globalsOf({ ...options, signal }),
    ])
    const stop = await currentMoment(session)
    return {
      directory,
      snapshot,
      stop,
      fingerprint,
      globals: globals.script,
      warnings: [...warnings, ...invisible, ...globals.warnings, ...(fingerprint?.warnings ?? [])],
    }
  }
  session.lost.catch((error: unknown) => failing.abort(error))
  try {
    return await parts()
  } finally {
    await session.close()
  }
}

async function fingerprintOf({ config, clock }: DumpDatabaseOptions, session: Session): Promise<Fingerprint> {
  return takeFingerprint(session, { budget: config.dump.fingerprint, monotonic: () => clock.monotonic() })
}

/**
 * Roles and settings are not in the snapshot: what changed while they were read is taken once more, so that they fit
 * the dump at least at one moment.
 */
async function globalsOf({ config, env, installation, signal, log }: DumpDatabaseOptions): Promise<DumpedGlobals> {
  const maintenanceDatabase = config.postgres.maintenanceDatabase
  const session = await connect(config.postgres, { database: maintenanceDatabase, signal })
  try {
    const withPasswords = await canReadPasswords(session)
    const otherDatabases = await databasesOfOtherEncodings(session)
    const asked = { installation, env, maintenanceDatabase, otherDatabases, withPasswords, signal }
    const take = () => dumpGlobals({ ...asked, source: config.postgres })
    const before = await globalsVersion(session)
    const globals = await take()
    if ((await globalsVersion(session)) === before) return globals
    log.info('roles or settings changed while they were dumped: taking them again')
    return await take()
  } finally {
    await session.close()
  }
}

async function currentMoment(session: Session): Promise<{ lsn: string; at: Date }> {
  const [row] = await session.query<{ lsn: string; at: Date }>(
    `select clock_timestamp() as at,
       case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_insert_lsn() end::text as lsn`,
  )
  if (row === undefined) throw new Error('unreachable: a select without from gives one row')
  return row
}

/** pg_dump says when it begins a table; with several workers the last few begun are still under way. */
function tableProgress(
  tables: readonly { readonly schema: string; readonly name: string; readonly bytes: number }[],
  jobs: number,
  report: (ratio: number, table: string) => void,
): (table: string) => void {
  const sizes = new Map(tables.map(({ schema, name, bytes }) => [`${schema}.${name}`, bytes]))
  const total = Math.max(
    1,
    tables.reduce((sum, { bytes }) => sum + bytes, 0),
  )
  const underWay: number[] = []
  let done = 0
  return (table) => {
    underWay.push(sizes.get(table) ?? 0)
    if (underWay.length > jobs) done += underWay.shift() ?? 0
    report(Math.min(1, done / total), table)
  }
}

/** Like Promise.all, but the first failure aborts the others, and all have ended before it is thrown. */
async function allOrAbort<T extends readonly unknown[]>(
  failing: AbortController,
  work: { [K in keyof T]: Promise<T[K]> },
): Promise<T> {
  for (const part of work) part.catch((error: unknown) => failing.abort(error))
  await Promise.allSettled(work)
  return (await Promise.all(work)) as unknown as T
}
