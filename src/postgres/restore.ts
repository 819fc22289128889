import { type ConnectionSource, neutralSettingsFor } from './connection.ts'
import { conninfo } from './conninfo.ts'
import { WarningLines } from './dump.ts'
import { withCause } from './failures.ts'
import { type Installation, programPath } from './installations.ts'
import { collectOutput, runProgram } from './programs.ts'

export interface RestoreOptions {
  readonly installation: Installation
  readonly source: ConnectionSource
  readonly env: Readonly<Record<string, string>>
  /** An unpacked directory dump. */
  readonly directory: string
  /** To connect to: with `create` any other database, without it the one to fill. */
  readonly database: string
  /** Makes the database under its own name, with all that belongs to it. */
  readonly create: boolean
  readonly jobs: number
  readonly extraArgs?: readonly string[]
  readonly signal: AbortSignal
  /** A table's data is begun: `schema.name`, as pg_restore prints it. */
  readonly onTable?: (table: string) => void
}

/** Settings of a session that restores; `event_triggers=off` (17 and newer) keeps the restored ones from acting on it. */
export function restoreSettings(serverMajor: number): Readonly<Record<string, string>> {
  return serverMajor >= 17
    ? { ...neutralSettingsFor(serverMajor), event_triggers: 'off' }
    : neutralSettingsFor(serverMajor)
}

/**
 * Restores a directory dump; the first error ends it. Returns pg_restore's warnings.
 * Source: https://www.postgresql.org/docs/current/app-pgrestore.html
 *
 * @throws LifeboatError `program-failed`, `disk-full`, `server-unreachable`, `server-authentication`
 */
export async function restoreDump(options: RestoreOptions): Promise<readonly string[]> {
  const warnings = new WarningLines('pg_restore')
  try {
    await runProgram({
      program: programPath(options.installation, 'pg_restore'),
      args: [
        ...(options.create ? ['--create'] : []),
        '--exit-on-error',
        `--jobs=${options.jobs}`,
        '--no-password',
        '--verbose',
        ...(options.extraArgs ?? []),
        `--dbname=${conninfo({ ...options.source, database: options.database })}`,
        options.directory,
      ],
      env: options.env,
      signal: options.signal,
      onStderrLine: (line) => {
        const table = /^pg_restore: processing data for table "(.*)"$/.exec(line)?.[1]
        if (table !== undefined) options.onTable?.(table)
        else warnings.push(line)
      },
    })
  } catch (error) {
    throw withCause(error)
  }
  return warnings.found
}

/** Reads every member of a dump to its end without a server: a table of contents alone proves nothing. */
export async function readWholeDump(
  options: Pick<RestoreOptions, 'installation' | 'directory' | 'signal' | 'env'>,
): Promise<void> {
  await runProgram({
    program: programPath(options.installation, 'pg_restore'),
    args: ['--file=/dev/null', options.directory],
    env: options.env,
    signal: options.signal,
  }).catch((error: unknown) => {
    throw withCause(error)
  })
}

/**
 * The statements that a part of a dump stands for, as text.
 *
 * @param extraArgs e.g. `--create --schema-only`, `--use-list=…`
 * @param decode default UTF-8. `decodeScript` for names inside the database. (Names that all databases share are in the
 * encoding of the database where they were given, in every script.)
 */
export async function dumpAsScript(
  options: Pick<RestoreOptions, 'installation' | 'directory' | 'signal' | 'env'> & {
    readonly extraArgs: readonly string[]
    readonly decode?: (script: Buffer) => string
  },
): Promise<string> {
  const { stdout } = await collectOutput({
    program: programPath(options.installation, 'pg_restore'),
    args: [...options.extraArgs, '--file=-', options.directory],
    env: options.env,
    signal: options.signal,
  })
  return options.decode === undefined ? stdout.toString('utf8') : options.decode(stdout)
}

/** One entry of a dump's table of contents. `line` is what `--use-list` wants back. */
export interface ContentsEntry {
  readonly line: string
  /** E.g. `TABLE DATA`, `SEQUENCE SET`, `EXTENSION`, `DATABASE PROPERTIES`; with what follows, since it is not delimited. */
  readonly description: string
}

/** The table of contents of a dump. Names are cut to a line by pg_restore itself. */
export async function listContents(
  options: Pick<RestoreOptions, 'installation' | 'directory' | 'signal' | 'env'>,
): Promise<readonly ContentsEntry[]> {
  const entries: ContentsEntry[] = []
  await runProgram({
    program: programPath(options.installation, 'pg_restore'),
    args: ['--list', '--create', options.directory], // without --create it leaves out what belongs to the database itself
    env: options.env,
    signal: options.signal,
    onStdoutLine: (line) => {
      const description = /^\d+; \d+ \d+ (.*)$/.exec(line)?.[1]
      if (description !== undefined) entries.push({ line, description })
    },
  })
  return entries
}
