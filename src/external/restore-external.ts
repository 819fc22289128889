import { randomBytes } from 'node:crypto'
import { LifeboatError } from '../domain/errors.ts'
import type { Inspection } from '../domain/external.ts'
import { conninfo } from '../postgres/conninfo.ts'
import { type Installation, programPath } from '../postgres/installations.ts'
import type { Isolation } from '../postgres/isolation.ts'
import type { OsUser, ProgramOptions } from '../postgres/programs.ts'
import type { ScratchServer } from '../postgres/scratch-server.ts'
import { decompressor } from './inspect.ts'
import { RestoreErrors } from './restore-errors.ts'
import { runChain, wasCutByReader } from './stages.ts'

export interface ExternalRestoreOptions {
  readonly path: string
  readonly inspection: Inspection
  readonly server: ScratchServer
  readonly clients: Installation
  /** Made before, from template0; a dump of a whole cluster makes its own. */
  readonly database: string
  readonly env: Readonly<Record<string, string>>
  readonly jobs: number
  /** As whom psql runs, and behind what: a plain dump is a program for it. */
  readonly osUser: OsUser | null
  readonly isolation: Isolation
  readonly signal: AbortSignal
}

/**
 * Restores a dump that another tool wrote into a scratch server, to its end; the errors on the way are judged by whoever
 * called. Owners and privileges are left out where that can be asked for: the dump does not carry the roles.
 *
 * @throws LifeboatError `program-failed` when a program was ended or could not go on; `usage-invalid` for a plain dump on
 * a machine that cannot keep psql apart
 */
export async function restoreExternal(options: ExternalRestoreOptions): Promise<RestoreErrors> {
  const { path, inspection, signal } = options
  const { compression } = inspection
  const before = compression === 'gzip' || compression === 'zstd' ? [decompressor(compression, path)] : []
  const errors = new RestoreErrors()
  const onStderrLine = (line: string) => errors.addLine(line)
  const last = inspection.format === 'plain' ? plainStages(options, before) : archiveStages(options, before.length > 0)
  const stages = [...(inspection.format === 'plain' ? [] : before), ...last]
  const { exits } = await runChain(
    stages.map((stage, index) => (index === stages.length - 1 ? { ...stage, onStderrLine } : stage)),
    signal,
  )
  for (const [index, exit] of exits.entries()) {
    // pg_restore: 1 for errors that it went on after; psql: 3 for a failed statement, which it is told to go on after.
    const isLast = index === exits.length - 1
    const isFine = exit.code === 0 || (isLast ? exit.code === 1 && inspection.format !== 'plain' : wasCutByReader(exit))
    if (isFine) continue
    const how = exit.signal === null ? `exited with status ${exit.code}` : `was ended by ${exit.signal}`
    const said = exit.stderr.split('\n').findLast((line) => line.trim() !== '')
    throw new LifeboatError('program-failed', `${stages[index]?.program} ${how}${said ? `: ${said}` : ''}`, {
      details: { exitCode: exit.code, signal: exit.signal },
    })
  }
  return errors
}

function archiveStages(
  { path, inspection, clients, server, database, env, jobs }: ExternalRestoreOptions,
  isStream: boolean,
): readonly ProgramOptions[] {
  // pg_restore can only share out what it can seek in.
  const isParallel = !isStream && (inspection.format === 'custom' || inspection.format === 'directory')
  return [
    {
      program: programPath(clients, 'pg_restore'),
      args: [
        '--no-owner',
        '--no-privileges',
        '--no-password',
        ...(isParallel ? [`--jobs=${jobs}`] : []),
        `--dbname=${conninfo({ ...server.source, database })}`,
        ...(isStream ? [] : [path]),
      ],
      env,
    },
  ]
}

/** The first minor version of each major whose psql knows `\restrict`. Source: the release notes, CVE-2025-8714 */
const restrictSince: Readonly<Record<number, number>> = { 13: 22, 14: 19, 15: 14, 16: 10, 17: 6 }

function knowsRestrict({ major, version }: Installation): boolean {
  if (major >= 18) return true
  const since = restrictSince[major]
  return since !== undefined && Number(/^\d+\.(\d+)/.exec(version)?.[1] ?? 0) >= since
}

/**
 * psql takes a script, and a script can run programs (`\!`), read files and connect elsewhere. So it runs as the OS user
 * of the scratch server, apart from the rest of the machine, and reads the dump from a pipe; and, where it knows how and
 * the dump is of one database, it is told to refuse all of that. (A dump of a whole cluster has to `\connect`.)
 */
function plainStages(options: ExternalRestoreOptions, before: readonly ProgramOptions[]): readonly ProgramOptions[] {
  const { path, inspection, clients, server, database, env, osUser, isolation } = options
  const isRestricted = knowsRestrict(clients) && !inspection.isWholeCluster
  if (isolation.through === null && !(isRestricted || osUser !== null)) {
    throw new LifeboatError('usage-invalid', 'this machine cannot keep psql apart, and a plain dump can run programs', {
      hint: 'run lifeboat as root or where it may make namespaces, or use a psql that knows \\restrict',
    })
  }
  const key = randomBytes(24).toString('hex')
  const first = before[0] ?? { program: 'cat', args: ['--', path] }
  // The dump's own restriction would be a nested one, which psql refuses; rows are never such lines, COPY doubles the \.
  const restrict = {
    program: 'sed',
    args: [
      '--unbuffered',
      '-e',
      `1i\\\\\\restrict ${key}`,
      '-e',
      '/^\\\\\\(un\\)\\{0,1\\}restrict [A-Za-z0-9]*\\r\\{0,1\\}$/d',
    ],
    env: { LC_ALL: 'C' },
  }
  const psql = {
    program: programPath(clients, 'psql'),
    args: [
      '--no-psqlrc',
      '--quiet',
      '--no-password',
      '--output=/dev/null',
      '--set=VERBOSITY=verbose',
      '--file=-',
      `--dbname=${conninfo({ ...server.source, database })}`,
    ],
    env,
    bare: true,
    user: osUser,
    through: isolation.through,
  }
  return [first, ...(isRestricted ? [restrict] : []), psql]
}
