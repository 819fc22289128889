import { LifeboatError } from '../domain/errors.ts'
import { parseLsn } from '../domain/lsn.ts'
import { type Installation, programPath } from './installations.ts'
import { type OsUser, runProgram } from './programs.ts'

/** What a data directory says of itself, as far as a recovery asks. */
export interface ControlData {
  readonly systemIdentifier: string
  /** In words, e.g. `in archive recovery`. */
  readonly state: string
  /** Of the WAL, bytes. */
  readonly segmentSize: number
  /** Where the newest checkpoint begins to redo. */
  readonly redo: bigint
  /** Settings of the server that a recovery must not have less of. */
  readonly limits: Readonly<Record<string, number>>
}

/** The words of pg_controldata for the settings that a standby must have at least as high. */
const limitNames: Readonly<Record<string, string>> = {
  max_connections: 'max_connections setting',
  max_worker_processes: 'max_worker_processes setting',
  max_wal_senders: 'max_wal_senders setting',
  max_prepared_transactions: 'max_prepared_xacts setting',
  max_locks_per_transaction: 'max_locks_per_xact setting',
}

/** @throws LifeboatError `program-missing`, `program-failed` for what is no data directory of this major version */
export async function readControlData(
  installation: Installation,
  dataDirectory: string,
  user: OsUser | null,
): Promise<ControlData> {
  const program = programPath(installation, 'pg_controldata')
  const { stdout } = await runProgram({ program, args: ['-D', dataDirectory], user })
  const lines = new Map(
    stdout.split('\n').map((line) => {
      const colon = line.indexOf(':')
      return [line.slice(0, colon), line.slice(colon + 1).trim()] as const
    }),
  )
  const text = (name: string): string => {
    const found = lines.get(name)
    if (found === undefined || found === '')
      throw new LifeboatError('program-failed', `pg_controldata of PostgreSQL ${installation.version} told no ${name}`)
    return found
  }
  return {
    systemIdentifier: text('Database system identifier'),
    state: text('Database cluster state'),
    segmentSize: Number(text('Bytes per WAL segment')),
    redo: parseLsn(text("Latest checkpoint's REDO location")) ?? 0n,
    limits: Object.fromEntries(Object.entries(limitNames).map(([setting, name]) => [setting, Number(text(name))])),
  }
}
