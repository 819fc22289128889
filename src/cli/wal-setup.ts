import { stat } from 'node:fs/promises'
import { dirname, isAbsolute, join, normalize, resolve } from 'node:path'
import { fileVariable } from '../config/env.ts'
import type { ValidatedConfig } from '../config/validated.ts'
import { LifeboatError } from '../domain/errors.ts'
import {
  archiveCommand,
  archiveProgram,
  archivingFacts,
  archivingStatements,
  incomingDirectory,
  makeDirectoryHint,
  planArchiving,
  programsDirectory,
  restoreCommand,
  restoreProgram,
  type SettingPlan,
} from '../postgres/archiving.ts'
import { type Session, withSession } from '../postgres/connection.ts'
import { type CliContext, configOf } from './command.ts'
import { oneLine, table } from './format.ts'
import { setUpStreaming } from './wal-setup-stream.ts'

interface Wishes {
  readonly config?: string | undefined
  readonly json?: boolean | undefined
  readonly apply?: boolean | undefined
  readonly replace?: boolean | undefined
  readonly programs?: string | undefined
}

/** A reload is taken up by each process of the server when it gets to it. */
const reloadMs = 10_000
const pollMs = 50

/**
 * `lifeboat wal setup`: tells how the server is to archive into wal.archive, or makes it so. Gives the exit code.
 *
 * @throws LifeboatError `usage-invalid` without wal.archive; with `apply` `conflict` where another tool archives,
 * `storage-failed` where the directory is not there yet, `server-error` without the privilege: nothing was changed then
 */
export async function setUpArchiving(wishes: Wishes, context: CliContext): Promise<number> {
  const config = await configOf(wishes, context)
  const { archive } = config.wal
  if (archive === null)
    throw new LifeboatError('usage-invalid', 'the configuration has no wal.archive', {
      hint: 'for example: wal: { archive: /var/lib/postgresql/wal_archive }',
    })
  if (config.wal.stream !== null) return setUpStreaming(config, config.wal.stream.slot, wishes, context)
  const programs = programsIn(wishes.programs)
  const command = archiveCommand(programs, archive)
  const { signal } = context
  return withSession(config.postgres, { database: config.postgres.maintenanceDatabase, signal }, async (session) => {
    const facts = await archivingFacts(session)
    const before = planArchiving(facts, command)
    const notes = [...(await programNotes(programs)), ...(await directoryNotes(archive))]
    const statements = archivingStatements(before)
    const applied = wishes.apply === true
    if (applied) {
      assertMayChange(before, facts.forbidden, wishes.replace === true)
      await assertReady(archive)
      for (const statement of statements) await session.query(statement)
    }
    const plan = applied ? await afterReload(session, command, context) : before
    const restore = restoreCommand(programs, archive, repositoriesFor(config, wishes, context))
    const restart = restartNeeded(plan)
    if (wishes.json) {
      const told = { settings: plan, statements, applied, restart, restoreCommand: restore, notes }
      context.out.write(`${JSON.stringify(told, null, 2)}\n`)
    } else {
      context.out.write(describe(plan, { statements, applied, restart, restore, notes }))
    }
    return 0
  })
}

/** How the restore_command gets at what is in no archive any more. */
function repositoriesFor({ repositories }: ValidatedConfig, { config }: Wishes, { env }: CliContext) {
  const file = config ?? env[fileVariable]
  return repositories.length === 0 ? null : { program: 'lifeboat', config: file ? resolve(file) : null }
}

function programsIn(given: string | undefined): string {
  if (given === undefined) return programsDirectory
  if (!isAbsolute(given) || /\p{Cc}/u.test(given))
    throw new LifeboatError('usage-invalid', '--programs must be an absolute path without control characters')
  return normalize(given).replace(/(?<=.)\/+$/, '')
}

/** Settings whose right value does not count before the server has been restarted. */
function restartNeeded(plan: readonly SettingPlan[]): readonly string[] {
  return plan
    .filter(({ state, needsRestart }) => state === 'waits for a restart' || (state === 'change' && needsRestart))
    .map(({ name }) => name)
}

function assertMayChange(plan: readonly SettingPlan[], forbidden: readonly string[], replace: boolean): void {
  const elsewhere = plan.find(({ state }) => state === 'elsewhere')
  if (elsewhere !== undefined)
    throw new LifeboatError('conflict', `${elsewhere.name} is given on the server's command line or environment`, {
      hint: `change it there to: ${elsewhere.wanted}`,
    })
  const foreign = plan.find((one) => one.foreign)
  if (foreign !== undefined && !replace)
    throw new LifeboatError('conflict', `another tool archives the WAL: ${foreign.name} is set`, {
      hint: 'when it is not needed any more: --apply --replace. What it has stored is not touched.',
    })
  const lacking = plan.find(({ name, state }) => state === 'change' && forbidden.includes(name))
  if (lacking !== undefined)
    throw new LifeboatError('server-error', `the role may not change ${lacking.name}`, {
      hint: 'run the statements that `lifeboat wal setup` shows as a superuser',
    })
}

/** A server that archives into a directory that is not there keeps all its WAL, until its disk is full. */
async function assertReady(archive: string): Promise<void> {
  const [note] = await directoryNotes(archive)
  if (note !== undefined) throw new LifeboatError('storage-failed', note, { hint: makeDirectoryHint(archive) })
}

async function directoryNotes(archive: string): Promise<readonly string[]> {
  for (const path of [archive, join(archive, incomingDirectory)]) {
    const found = await stat(path).catch((error: Error) => error)
    if (found instanceof Error)
      return [`the archive directory cannot be used: ${found.message}`, makeDirectoryHint(archive)]
    if (!found.isDirectory()) return [`${path} is no directory`]
  }
  return []
}

/** Whether the server's OS user, of whom we know nothing, can run the programs. */
async function programNotes(programs: string): Promise<readonly string[]> {
  const notes: string[] = []
  for (const path of [join(programs, archiveProgram), join(programs, restoreProgram)]) {
    const found = await stat(path).catch(() => null)
    if (found === null) notes.push(`${path} is not there, or not for us to see`)
    else if (!found.isFile() || (found.mode & 0o005) !== 0o005) notes.push(`not every OS user can run ${path}`)
  }
  for (let path = programs; path !== dirname(path); path = dirname(path)) {
    const found = await stat(path).catch(() => null)
    if (found !== null && (found.mode & 0o001) === 0) {
      notes.push(`not every OS user can enter ${path}: copy the programs elsewhere, and say where with --programs`)
    }
  }
  return notes
}

async function afterReload(
  session: Session,
  command: string,
  { clock, signal }: CliContext,
): Promise<readonly SettingPlan[]> {
  const until = clock.monotonic() + reloadMs
  for (;;) {
    const plan = planArchiving(await archivingFacts(session), command)
    const settled = plan.every(({ state }) => state === 'right' || state === 'waits for a restart')
    if (settled || clock.monotonic() >= until) return plan
    await clock.sleep(pollMs, signal)
  }
}

interface Told {
  readonly statements: readonly string[]
  readonly applied: boolean
  readonly restart: readonly string[]
  readonly restore: string
  readonly notes: readonly string[]
}

function describe(plan: readonly SettingPlan[], { statements, applied, restart, restore, notes }: Told): string {
  const rows = plan.map(({ name, now, wanted, state, foreign }) => [
    name,
    now === null ? '?' : oneLine(now === '' ? "''" : now),
    state === 'right'
      ? 'right'
      : `${state}: ${wanted === '' ? "''" : oneLine(wanted)}${foreign ? ' (replaces it)' : ''}`,
  ])
  const parts = [table([['setting', 'now', ''], ...rows])]
  const elsewhere = plan.filter(({ state }) => state === 'elsewhere').map(({ name }) => name)
  if (elsewhere.length > 0)
    parts.push(`${elsewhere.join(', ')}: given on the server's command line or environment, and to be changed there.\n`)
  if (statements.length > 0 && !applied)
    parts.push(`As SQL, which --apply executes:\n${statements.map((one) => `  ${oneLine(one)};\n`).join('')}`)
  if (applied) parts.push(statements.length > 0 ? 'This was set.\n' : 'There was nothing to set.\n')
  if (restart.length > 0)
    parts.push(
      `Then restart the server, which lifeboat never does: ${restart.join(', ')} ${restart.length === 1 ? 'needs' : 'need'} it.\n`,
    )
  if (notes.length > 0) parts.push(notes.map((note) => `note: ${oneLine(note)}\n`).join(''))
  parts.push(
    `For a recovery, in the restored copy, with archive_mode = off:\n  restore_command = '${restore.replaceAll("'", "''")}'\n`,
  )
  return parts.join('\n')
}
