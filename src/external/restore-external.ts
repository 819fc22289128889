import { LifeboatError } from '../domain/errors.ts'
import type { Inspection } from '../domain/external.ts'
import { conninfo } from '../postgres/conninfo.ts'
import { type Installation, programPath } from '../postgres/installations.ts'
import type { Isolation } from '../postgres/isolation.ts'
import type { OsUser, ProgramOptions } from '../postgres/programs.ts'
import type { ScratchServer } from '../postgres/scratch-server.ts'
import { decompressor } from './decompress.ts'
import { plainStages } from './plain-script.ts'
import { RestoreErrors } from './restore-errors.ts'
import { runChain, wasCutByReader } from './stages.ts'

export interface ExternalRestoreOptions {
  readonly path: string
  readonly inspection: Inspection
  readonly server: ScratchServer
  readonly clients: Installation
  /** To connect to. Made before, from template0, unless the dump makes its own. */
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
  errors.end()
  // Without the database that could not be made psql gives up, and pg_restore without disk: what was said before counts.
  const worst = errors.worst()
  if (worst !== null && worst.meaning !== 'fault') return errors
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
        '--no-tablespaces',
        '--no-password',
        ...(isParallel ? [`--jobs=${jobs}`] : []),
        `--dbname=${conninfo({ ...server.source, database })}`,
        ...(isStream ? [] : [path]),
      ],
      env,
    },
  ]
}
