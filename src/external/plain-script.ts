import { randomBytes } from 'node:crypto'
import { LifeboatError } from '../domain/errors.ts'
import { conninfo } from '../postgres/conninfo.ts'
import { type Installation, programPath } from '../postgres/installations.ts'
import type { ProgramOptions } from '../postgres/programs.ts'
import type { ExternalRestoreOptions } from './restore-external.ts'

/** The first minor version of each major whose psql knows `\restrict`. Source: the release notes, CVE-2025-8714 */
const restrictSince: Readonly<Record<number, number>> = { 13: 22, 14: 19, 15: 14, 16: 10, 17: 6 }

function knowsRestrict({ major, version }: Installation): boolean {
  if (major >= 18) return true
  const since = restrictSince[major]
  return since !== undefined && Number(/^\d+\.(\d+)/.exec(version)?.[1] ?? 0) >= since
}

/** As pg_dump and pg_dumpall write it before they connect to a database whose name needs quotes. */
const encoding = String.raw`^\\encoding SQL_ASCII(\r?)$`

/** As pg_dump and pg_dumpall write it: a name alone, never a host, a user or anything that psql would expand. */
const connect = String.raw`^\\connect ([A-Za-z0-9_.]+|"[A-Za-z0-9_.]+"|-reuse-previous=on "dbname='([^'\\"]|\\['\\]|"")*'")(\r?)$`

/**
 * A script for sed that makes a dump fit an empty server and psql's restricted mode. It works line by line; rows are never
 * such lines, since COPY doubles every backslash. In a literal of several lines it may change what looks like them, which
 * changes no verdict.
 *
 * @param key ends the restriction; null where psql knows none
 */
export function fittingScript(key: string | null): readonly string[] {
  // Tablespaces would lie in the source's directories.
  const tablespaces = [
    '/^CREATE /{',
    String.raw`/^CREATE TABLESPACE .* LOCATION '.*';\r?$/d`,
    String.raw`s/^(CREATE DATABASE .*) TABLESPACE = ("([^"]|"")*"|[a-z0-9_]+)/\1/`,
    '}',
  ]
  if (key === null) return tablespaces
  return [
    String.raw`1i\\\restrict ${key}`,
    ...tablespaces,
    String.raw`/^\\/{`,
    // The dump's own restriction would be a nested one, which psql refuses.
    String.raw`/^\\(un)?restrict [A-Za-z0-9]*\r?$/d`,
    String.raw`s/${encoding}/\\unrestrict ${key}\n&\n\\restrict ${key}/`,
    String.raw`s/${connect}/\\unrestrict ${key}\n&\n\\restrict ${key}/`,
    '}',
  ]
}

/**
 * psql takes a script, and a script can run programs (`\!`), read files and connect elsewhere. So it runs as the OS user
 * of the scratch server, apart from the rest of the machine, and reads the dump from a pipe; and, where it knows how, it is
 * told to refuse all of that, but to connect to another database of the same server.
 */
export function plainStages(
  options: ExternalRestoreOptions,
  before: readonly ProgramOptions[],
): readonly ProgramOptions[] {
  const { path, clients, server, database, env, osUser, isolation } = options
  const isRestricted = knowsRestrict(clients)
  if (isolation.through === null && !(isRestricted || osUser !== null)) {
    throw new LifeboatError('usage-invalid', 'this machine cannot keep psql apart, and a plain dump can run programs', {
      hint: 'run lifeboat as root or where it may make namespaces, or use a psql that knows \\restrict',
    })
  }
  const script = fittingScript(isRestricted ? randomBytes(24).toString('hex') : null)
  const first = before[0] ?? { program: 'cat', args: ['--', path] }
  const fit = { program: 'sed', args: ['-E', ...script.flatMap((line) => ['-e', line])], env: { LC_ALL: 'C' } }
  const psql = {
    program: programPath(clients, 'psql'),
    args: [
      '--no-psqlrc',
      '--quiet',
      '--no-password',
      '--echo-errors',
      '--output=/dev/null',
      '--set=VERBOSITY=verbose',
      '--file=-',
      `--dbname=${conninfo({ ...server.source, database })}`,
    ],
    env,
    bare: true,
    user: osUser,
    through: isolation.through,
    graceMs: 200, // as process 1 of its namespace it does not hear SIGTERM; it has nothing to tidy up
  }
  return [first, fit, psql]
}
