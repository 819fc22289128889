import { fileURLToPath } from 'node:url'
import { commandWord } from '../domain/shell-word.ts'
import { programsUrl } from '../scripts.ts'
import type { Session } from './connection.ts'
import { quoteLiteral } from './conninfo.ts'

/** The two programs that PostgreSQL itself starts, plain shell, beside the compiled code. */
export const archiveProgram = 'lifeboat-archive'
export const restoreProgram = 'lifeboat-restore-wal'
export const programsDirectory = fileURLToPath(programsUrl)

/** In the archive: where files are until they are whole. Also the sign that its disk is mounted. */
export const incomingDirectory = '.incoming'

/** How the directory is made, by root; the group is one that lifeboat is in, so that it can read what the server writes. */
export const makeDirectoryHint = (archive: string): string =>
  `as root: install -d -o postgres -g GROUP-OF-LIFEBOAT -m 2770 ${[archive, `${archive}/${incomingDirectory}`].map((path) => JSON.stringify(path)).join(' ')}`

const names = ['wal_level', 'archive_mode', 'archive_timeout', 'archive_library', 'archive_command'] as const
export type ArchivingSetting = (typeof names)[number]

interface SettingRow {
  readonly name: ArchivingSetting
  readonly setting: string
  readonly context: string
  readonly source: string
  /** What the configuration files say, if the role may know: other than `setting` when a restart or reload is to come. */
  readonly configured: string | null
}

export interface ArchivingFacts {
  readonly settings: readonly SettingRow[]
  /** Settings that the role may not change. */
  readonly forbidden: readonly ArchivingSetting[]
  readonly inRecovery: boolean
  readonly segmentBytes: number
}

/** How the server archives its WAL. Roles that are no superusers do not see what waits for a restart. */
export async function archivingFacts(session: Session): Promise<ArchivingFacts> {
  const [row] = await session.query<{ recovery: boolean; bytes: string; superuser: boolean; version: string }>(
    `select pg_is_in_recovery() as recovery, (select setting from pg_settings where name = 'wal_segment_size') as bytes,
       (select rolsuper from pg_roles where rolname = current_user) as superuser, current_setting('server_version_num') as version`,
  )
  const superuser = row?.superuser === true
  const configured = superuser
    ? `(select f.setting from pg_file_settings f where f.name = s.name order by f.seqno desc limit 1)`
    : 'null'
  // Privileges on single settings came with 15.
  const permitted =
    Number(row?.version) >= 150_000 ? `has_parameter_privilege(s.name, 'alter system')` : String(superuser)
  const rows = await session.query<SettingRow & { readonly permitted: boolean }>(
    `select s.name, s.setting, s.context, s.source, ${configured} as configured, ${permitted} as permitted
     from pg_settings s where s.name = any($1) order by array_position($1, s.name)`,
    [names],
  )
  return {
    settings: rows,
    forbidden: rows.filter((one) => !one.permitted).map(({ name }) => name),
    inRecovery: row?.recovery === true,
    segmentBytes: Number(row?.bytes),
  }
}

/** One setting as it is and as it should be. */
export interface SettingPlan {
  readonly name: ArchivingSetting
  /** In force; null: switched off, so that the server does not tell. */
  readonly now: string | null
  readonly wanted: string
  /** `elsewhere`: given on the server's command line or environment, which ALTER SYSTEM cannot change. */
  readonly state: 'right' | 'change' | 'waits for a restart' | 'waits for a reload' | 'elsewhere'
  /** A change takes effect with the next restart only. */
  readonly needsRestart: boolean
  /** Somebody else's way of archiving, which would be replaced. */
  readonly foreign: boolean
}

/** @param command what archive_command should be */
export function planArchiving({ settings }: ArchivingFacts, command: string): readonly SettingPlan[] {
  return settings.map(({ name, setting, context, source, configured }) => {
    // The server does not show a command that it would not run.
    const now = name === 'archive_command' && setting === '(disabled)' ? null : setting
    const wanted = wantedValue(name, command)
    const right = (value: string | null) => value !== null && isRight(name, value, wanted)
    const restart = context === 'postmaster'
    const fixed = source === 'command line' || source === 'environment variable'
    const current = configured ?? now ?? ''
    const state =
      right(now) && (configured === null || fixed || right(configured))
        ? 'right'
        : fixed
          ? 'elsewhere'
          : right(configured)
            ? restart || now === null
              ? 'waits for a restart'
              : 'waits for a reload'
            : 'change'
    const another = name === 'archive_library' || (name === 'archive_command' && !isOurs(current))
    return { name, now, wanted, state, needsRestart: restart, foreign: another && current !== '' && current !== wanted }
  })
}

function wantedValue(name: ArchivingSetting, command: string): string {
  const fixed = { wal_level: 'replica', archive_mode: 'on', archive_timeout: '300', archive_library: '' }
  return name === 'archive_command' ? command : fixed[name]
}

function isRight(name: ArchivingSetting, value: string, wanted: string): boolean {
  if (name === 'wal_level') return value === 'replica' || value === 'logical'
  if (name === 'archive_mode') return value === 'on' || value === 'always'
  if (name === 'archive_timeout') return secondsOf(value) > 0 && secondsOf(value) <= Number(wanted)
  return value === wanted
}

/** A file may give the unit. */
function secondsOf(value: string): number {
  const [, number = '', unit = ''] = /^\s*(\d+)\s*(ms|s|min|h|d)?\s*$/.exec(value) ?? []
  const units: Readonly<Record<string, number>> = { ms: 0.001, min: 60, h: 3600, d: 86_400 }
  return Number(number) * (units[unit] ?? 1)
}

export function isOurs(command: string): boolean {
  return command.includes(archiveProgram)
}

/** The SQL that makes it so. `archive_mode` comes last: whatever fails before has switched nothing on. */
export function archivingStatements(plan: readonly SettingPlan[]): readonly string[] {
  const changes = plan
    .filter(({ state }) => state === 'change')
    .toSorted((a, b) => Number(a.name === 'archive_mode') - Number(b.name === 'archive_mode'))
  if (changes.length === 0 && !plan.some(({ state }) => state === 'waits for a reload')) return []
  return [
    ...changes.map(({ name, wanted }) => `ALTER SYSTEM SET ${name} = ${quoteLiteral(wanted)}`),
    'SELECT pg_reload_conf()',
  ]
}

/** archive_command for programs in a directory. */
export function archiveCommand(programs: string, archive: string): string {
  return `${commandWord(`${programs}/${archiveProgram}`)} "%p" "%f" ${commandWord(archive)}`
}

/** The directory that an archive_command of ours fills; null: it is another's, or somebody has changed it. */
export function archiveOf(command: string): string | null {
  const [, programs, last] = /^(.+)\/lifeboat-archive'? "%p" "%f" (.+)$/s.exec(command) ?? []
  if (programs === undefined || last === undefined) return null
  const word = last.replaceAll('%%', '%')
  const path = /^'.*'$/s.test(word) ? word.slice(1, -1).replaceAll(`'\\''`, `'`) : word
  return path.startsWith('/') && commandWord(path) === last ? path : null
}

/** Where segments are kept ready in a recovery: on the file system of pg_wal, and no base backup copies it. */
const spoolDirectory = 'pg_wal/lifeboat-spool'

/**
 * restore_command for programs in a directory.
 *
 * @param archive null: all comes from the repositories
 * @param repositories how they are reached; null: there are none
 */
export function restoreCommand(
  programs: string,
  archive: string | null,
  repositories: { readonly program: string; readonly config: string | null } | null = null,
): string {
  const words = [commandWord(`${programs}/${restoreProgram}`)]
  if (repositories !== null) {
    words.push('--else', commandWord(repositories.program))
    if (repositories.config !== null) words.push('--config', commandWord(repositories.config))
    words.push('--spool', spoolDirectory)
  }
  return [...words, '"%f"', '"%p"', ...(archive === null ? [] : [commandWord(archive)])].join(' ')
}

/**
 * Makes the server finish its current segment, also when it is idle, and gives that segment's name.
 *
 * @throws LifeboatError `server-error` without EXECUTE on both functions, or on a standby
 */
export async function switchSegment(session: Session): Promise<string> {
  await session.query(`select pg_create_restore_point('lifeboat check')`)
  const [row] = await session.query<{ name: string }>('select pg_walfile_name(pg_switch_wal()) as name')
  return row?.name ?? ''
}

/** Whether the role may call what `switchSegment` calls. */
export async function canSwitchSegment(session: Session): Promise<boolean> {
  const [row] = await session.query<{ allowed: boolean }>(
    `select has_function_privilege('pg_create_restore_point(text)', 'execute') and has_function_privilege('pg_switch_wal()', 'execute') as allowed`,
  )
  return row?.allowed === true
}
