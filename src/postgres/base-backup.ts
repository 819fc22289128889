import { type ErrorCode, LifeboatError } from '../domain/errors.ts'
import type { ConnectionSource } from './connection.ts'
import { conninfo } from './conninfo.ts'
import { withCause } from './failures.ts'
import { type Installation, programPath } from './installations.ts'
import type { Compression } from './packed-tar.ts'
import type { ProgramOptions } from './programs.ts'

export interface BaseBackupOptions {
  readonly installation: Installation
  readonly source: ConnectionSource
  readonly env: Readonly<Record<string, string>>
  /** Stands in backup_label. */
  readonly label: string
  readonly checkpoint: 'fast' | 'spread'
  /** KiB a second; null: no limit. */
  readonly maxRateKib: number | null
  /** Path of the parent's backup_manifest; null: a full backup. */
  readonly parentManifest: string | null
  /** Null: to standard output, which cannot carry tablespaces besides the default ones. */
  readonly directory: string | null
  /** Done by pg_basebackup itself, into a directory and on 15 and newer; null: not at all. */
  readonly compression: Compression | null
  readonly signal: AbortSignal
  readonly onLine: (line: string) => void
}

/** The options that decide what is in the backup; kept in the manifest. */
export function baseBackupArguments({
  checkpoint,
  maxRateKib,
}: Pick<BaseBackupOptions, 'checkpoint' | 'maxRateKib'>): readonly string[] {
  return [
    '--format=tar',
    '--wal-method=none', // it is in the repository anyway, and a stream to standard output cannot carry more
    `--checkpoint=${checkpoint}`,
    '--manifest-checksums=CRC32C', // the artifact has a SHA-256 of its own, and a second one costs a sixth of the time
    ...(maxRateKib === null ? [] : [`--max-rate=${maxRateKib}`]),
  ]
}

/** Source: https://www.postgresql.org/docs/current/app-pgbasebackup.html */
export function baseBackupProgram(options: BaseBackupOptions): ProgramOptions {
  const { installation, source, compression, parentManifest, directory } = options
  return {
    program: programPath(installation, 'pg_basebackup'),
    args: [
      ...baseBackupArguments(options),
      `--label=${options.label}`,
      `--pgdata=${directory ?? '-'}`,
      '--no-sync', // staged: what counts is synced when it is stored
      '--no-password',
      '--progress',
      '--verbose',
      ...(compression === null
        ? []
        : [`--compress=client-zstd:level=${compression.level},workers=${compression.threads}`]),
      ...(parentManifest === null ? [] : [`--incremental=${parentManifest}`]),
      `--dbname=${conninfo({ ...source, database: 'postgres' })}`,
    ],
    env: options.env,
    signal: options.signal,
    onStderrLine: options.onLine,
  }
}

const maxWarnings = 100

/**
 * Makes something of what pg_basebackup says on stderr. Its own account of the progress has the same numbers as
 * `pg_stat_progress_basebackup`, and needs neither another session nor a right to look.
 */
export class BaseBackupLines {
  readonly warnings: string[] = []
  /** Of the cluster, bytes, as the server counted before it began; 0: not yet. */
  totalBytes = 0
  readonly #heard: BaseBackupNews

  constructor(heard: BaseBackupNews) {
    this.#heard = heard
  }

  push(line: string): void {
    const [, done, total] = /^\s*(\d+)\/(\d+) kB \(\d+%\)/.exec(line) ?? []
    if (done !== undefined && total !== undefined) {
      // The total grows with what the server sends beyond it; the count of the beginning is the size of the cluster.
      if (this.totalBytes === 0) this.totalBytes = Number(total) * 1024
      this.#heard.onProgress(Number(done) * 1024, Number(total) * 1024)
      return
    }
    if (/waiting for checkpoint/.test(line)) this.#heard.onWait('checkpoint')
    if (/waiting for required WAL segments to be archived/.test(line)) this.#heard.onWait('archive')
    const [, warning] = /^(?:pg_basebackup: warning|WARNING): +(.*)$/.exec(line) ?? []
    // Good news is a NOTICE, and to wait is no fault.
    if (warning === undefined || warning.startsWith('still waiting for all required WAL')) return
    if (this.warnings.length < maxWarnings) this.warnings.push(warning)
  }
}

export interface BaseBackupNews {
  onProgress(done: number, total: number): void
  onWait(forWhat: 'checkpoint' | 'archive'): void
}

/** The failure of a base backup under the code of its cause. */
export function baseBackupFailure(error: unknown): unknown {
  if (!(error instanceof LifeboatError) || error.code !== 'program-failed') return error
  const { stderr = '' } = error.details ?? {}
  const text = `${error.message}\n${String(stderr)}`
  const found = causes.find(([pattern]) => pattern.test(text))
  if (found === undefined) return withCause(error)
  const [, code, hint] = found
  return new LifeboatError(code, error.message, {
    hint,
    cause: error,
    ...(error.details ? { details: error.details } : {}),
  })
}

const causes: readonly (readonly [RegExp, ErrorCode, string])[] = [
  [
    /replication role|permission denied to start WAL sender|no pg_hba\.conf entry for replication|pg_hba\.conf rejects replication/,
    'server-authentication',
    'ALTER ROLE … REPLICATION, and a line for the database `replication` in pg_hba.conf',
  ],
  [
    /standby was promoted during online backup/,
    'server-error',
    'set postgres.host to the primary that it is now, or take the backup again',
  ],
  [
    /full_page_writes=off"? was replayed/,
    'server-error',
    'ALTER SYSTEM SET full_page_writes = on, and SELECT pg_reload_conf(), at the primary; then take the backup again',
  ],
  [
    /exceeds "?max_wal_senders/,
    'server-unreachable',
    'each backup, standby and receiver of WAL needs one: raise max_wal_senders, which needs a restart of the server',
  ],
  [/WAL level not sufficient/, 'server-error', 'set wal_level to replica, and restart the server'],
  [
    /COPY stream ended before|could not read COPY data|could not receive data from/,
    'server-unreachable',
    'check that the server runs; a run that was cut off can be started again',
  ],
  [
    /checksum error occurred/,
    'server-error',
    'pages of the cluster are damaged: its warnings in the log name the files; look at the disk, and keep the backups that there are',
  ],
]

/** The server will not make an incremental backup on this parent: nothing was read, and a full one is the way on. */
export function isIncrementalRefused(error: unknown): boolean {
  if (!(error instanceof LifeboatError) || error.code !== 'program-failed') return false
  const { stderr = '' } = error.details ?? {}
  return /summar|could not upload manifest|in backup manifest|manifest requires WAL|backup manifest/i.test(
    String(stderr),
  )
}

/** `can only write single tablespace to stdout`: one was made since we looked. */
export function isTablespaceRefused(error: unknown): boolean {
  return error instanceof LifeboatError && String(error.details?.stderr).includes('can only write single tablespace')
}

/** `this build does not support compression with zstd`, from 15 on; nothing was read. */
export function isCompressionRefused(error: unknown): boolean {
  return error instanceof LifeboatError && String(error.details?.stderr).includes('does not support compression')
}

/** What it writes to failed, not what it reads. Source: src/bin/pg_basebackup/astreamer_file.c, bbstreamer_file.c */
export function isDiskTrouble(error: unknown): boolean {
  if (!(error instanceof LifeboatError) || error.code !== 'program-failed') return false
  return /could not (?:write to|create|open|close|fsync) (?:compressed )?(?:file|directory)/.test(
    String(error.details?.stderr),
  )
}
