import { closeSync, existsSync, mkdirSync, openSync, renameSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import { compactUtc } from '../domain/backup.ts'
import { LifeboatError } from '../domain/errors.ts'
import { migrate } from './history-schema.ts'

export interface HistoryFileOptions {
  /** Path of the SQLite file, `<stateDir>/lifeboat.db`; it and its directory are made when they are missing. */
  readonly file: string
  readonly clock: Clock
  readonly log: Logger
  /** How long a statement waits for another process's lock. The event loop waits with it. Default 2000. */
  readonly busyTimeoutMs?: number
}

/** Primary result codes, https://sqlite.org/rescode.html */
const sqlite = { perm: 3, busy: 5, locked: 6, readonly: 8, corrupt: 11, full: 13, cantopen: 14, auth: 23, notadb: 26 }

/** What the file system says of the same, errno(3). */
const errno: Readonly<Record<string, number>> = {
  EACCES: sqlite.perm,
  EPERM: sqlite.perm,
  EROFS: sqlite.readonly,
  ENOTDIR: sqlite.cantopen,
  EEXIST: sqlite.cantopen,
  EISDIR: sqlite.cantopen,
  ENOSPC: sqlite.full,
  EDQUOT: sqlite.full,
}

/**
 * Opens the state file, durable (WAL, `synchronous = FULL`: NORMAL can lose the last verdicts in a power cut) and at the
 * current schema. A corrupt file is renamed to `<file>.corrupt-<UTC>` and a new one begun.
 * @throws LifeboatError `storage-failed` or `disk-full` when the file is locked, not permitted or from a newer version: it
 * is left as it is.
 */
export function openHistoryFile({ file, clock, log, busyTimeoutMs = 2000 }: HistoryFileOptions): DatabaseSync {
  try {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
    create(file)
    const { ino } = statSync(file)
    try {
      return open(file, busyTimeoutMs)
    } catch (error) {
      if (!isCorruption(error)) throw error
      log.error({ err: error, file }, 'state file is corrupt')
    }
    // Another process may have found the same and been faster: its new file must stay.
    if (statSync(file).ino === ino) setAside(file, clock, log)
    create(file)
    return open(file, busyTimeoutMs)
  } catch (error) {
    throw historyError(error, file)
  }
}

/** Makes the file for its mode: SQLite would let everybody read it. The -wal and -shm get the mode of this file. */
function create(file: string): void {
  if (!existsSync(file)) closeSync(openSync(file, 'a', 0o600))
}

function open(file: string, timeout: number): DatabaseSync {
  const db = new DatabaseSync(file, { timeout, enableForeignKeyConstraints: true })
  try {
    db.exec('pragma journal_mode = wal; pragma synchronous = full')
    const check = db.prepare('pragma quick_check(1)').get()?.quick_check
    if (check !== 'ok') throw new CorruptFile(String(check))
    migrate(db)
    return db
  } catch (error) {
    db.close()
    throw error
  }
}

/** What `quick_check` complains about: SQLite gives a row, not an error. */
class CorruptFile extends Error {}

/** Renames the file with its companions: a new database must not find the write-ahead log of the old one. */
function setAside(file: string, clock: Clock, log: Logger): void {
  const base = `${file}.corrupt-${compactUtc(clock.now())}`
  let aside = base
  for (let copy = 2; existsSync(aside); copy += 1) aside = `${base}.${copy}`
  for (const suffix of ['-wal', '-shm', '']) {
    if (existsSync(file + suffix)) renameSync(file + suffix, aside + suffix)
  }
  log.error({ file, aside }, 'corrupt state file set aside: a new run history begins')
}

function isCorruption(error: unknown): boolean {
  return error instanceof CorruptFile || [sqlite.corrupt, sqlite.notadb].includes(resultCode(error))
}

/** The primary result code of an error of node:sqlite, its like for one of node:fs, or -1 for any other error. */
function resultCode(error: unknown): number {
  if (!(error instanceof Error)) return -1
  if ('errcode' in error && typeof error.errcode === 'number') return error.errcode & 0xff
  return 'code' in error && typeof error.code === 'string' ? (errno[error.code] ?? -1) : -1
}

/** What SQLite or the file system said, as a LifeboatError with a hint; a LifeboatError stays as it is. */
export function historyError(error: unknown, file: string): LifeboatError {
  if (error instanceof LifeboatError) return error
  const cause = error
  const said = error instanceof Error ? error.message : String(error)
  switch (resultCode(error)) {
    case sqlite.busy:
    case sqlite.locked:
      return new LifeboatError('storage-failed', `state file ${file} is locked by another program`, {
        hint: `Find the program with \`fuser ${file}\` and end it, or try again.`,
        cause,
      })
    case sqlite.perm:
    case sqlite.readonly:
    case sqlite.cantopen:
    case sqlite.auth:
      return new LifeboatError('storage-failed', `cannot write the state file ${file}: ${said}`, {
        hint: permissionHint(file),
        cause,
      })
    case sqlite.full:
      return new LifeboatError('disk-full', `no space left for the state file ${file}`, {
        hint: 'Free some space on its file system.',
        cause,
      })
    case sqlite.corrupt:
    case sqlite.notadb:
      return new LifeboatError('storage-failed', `state file ${file} is corrupt`, {
        hint: 'Restart Lifeboat: it sets the file aside and begins a new one. Backups are not affected.',
        cause,
      })
    default:
      return new LifeboatError('storage-failed', `state file ${file}: ${said}`, { cause })
  }
}

function permissionHint(file: string): string {
  const directory = dirname(file)
  return `Let the user that runs Lifeboat own and write ${directory}, on a file system that is not read-only. Commands are for that user, too: \`stat --format=%U ${directory}\` names it.`
}
