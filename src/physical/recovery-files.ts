import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { WalPosition } from '../domain/coverage.ts'
import type { RecoveryStop } from '../domain/recovery-plan.ts'
import { commandWord, shellWord } from '../domain/shell-word.ts'
import { segmentBefore, segmentName } from '../domain/wal.ts'
import { bootId, spoolName } from '../fetch/spool.ts'
import { programsDirectory, restoreProgram } from '../postgres/archiving.ts'
import { type ControlData, readControlData } from '../postgres/control-data.ts'
import type { Installation } from '../postgres/installations.ts'
import type { OsUser } from '../postgres/programs.ts'
import { closeTablespaces } from './closed-tablespaces.ts'
import { makeOwnedDirectory, writeOwned } from './owned-files.ts'
import { recoverySettings, settingLine, targetSettings } from './recovery-settings.ts'

/** Folder in a restored data directory with all that its recovery needs; not needed any more after it. */
export const restoreFolder = 'lifeboat-restore'
/**
 * Relative to the data directory, in which restore_command runs. Each run has its own: of one that was killed a command or a
 * prefetcher may still live, and would answer in its place.
 */
export function spoolFolder(runId: string): string {
  return `pg_wal/${spoolPrefix}-${runId}`
}

const spoolPrefix = 'lifeboat-spool'

/** In that folder: it has come to its target, and needs no more WAL; by histories a promoted server finds a free timeline. */
export const reachedFile = 'reached'
export const historiesFolder = 'histories'
const afterTarget = 'after-target'
const afterTargetScript = `#!/bin/sh
# Asked in place of lifeboat-restore-wal once the target was reached. Status 1: there is no such file.
[ -f "\${0%/*}/${historiesFolder}/$1" ] || exit 1
exec cp "\${0%/*}/${historiesFolder}/$1" "$2"
`

export interface RecoveryFilesOptions {
  readonly dataDirectory: string
  readonly owner: OsUser | null
  readonly installation: Installation
  readonly cluster: string
  /** Those that are asked for WAL, as sections of a configuration: it is kept in the data directory, and holds no secret. */
  readonly repositories: readonly Readonly<Record<string, unknown>>[]
  /** The private keys for encrypted WAL, which the server's OS user must be able to read; null: none. */
  readonly identityFile: string | null
  readonly stop: RecoveryStop
  readonly timeline: number
  readonly action: 'promote' | 'pause'
  /** The end of the WAL that must be there. */
  readonly to: WalPosition
  readonly segmentSize: number
  /** What is missing is the end. */
  readonly missingIsEnd: boolean
  readonly runId: string
  /** Node.js and our main file. */
  readonly program: readonly string[]
  readonly socketDirectory: string
}

export interface RecoveryFiles {
  readonly folder: string
  readonly restoreCommand: string
  /** `lifeboat` as the restore_command calls it, and its configuration. */
  readonly lifeboat: string
  readonly config: string
  /** Settings with which a server recovers by itself, as one starts it by hand. */
  readonly configFile: string
  readonly control: ControlData
}

/**
 * Writes all that a server needs to recover from the repositories, into the data directory itself: it goes on to work when
 * configuration, installation or the user who restores are out of its reach. Archiving stays off until somebody says otherwise.
 */
export async function writeRecoveryFiles(options: RecoveryFilesOptions): Promise<RecoveryFiles> {
  const { dataDirectory, owner, cluster, repositories, program, installation, stop, timeline, action } = options
  const folder = join(dataDirectory, restoreFolder)
  const write = async (path: string, text: string, mode = 0o600) => {
    await writeOwned(path, text, owner, mode)
    return path
  }
  for (const path of [folder, options.socketDirectory]) await makeOwnedDirectory(path, owner)
  const source = await readFile(join(programsDirectory, restoreProgram), 'utf8')
  const script = await write(join(folder, restoreProgram), source, 0o700)
  const words = program.map(shellWord).join(' ')
  // What was meant for who restores (a profiler, a module to load) is not for the server's user, who may not even read it.
  const lifeboat = await write(join(folder, 'lifeboat'), `#!/bin/sh\nunset NODE_OPTIONS\nexec ${words} "$@"\n`, 0o700)
  await rm(join(folder, reachedFile), { force: true })
  await write(join(folder, afterTarget), afterTargetScript, 0o700)
  const encryption = options.identityFile === null ? {} : { encryption: { identityFile: options.identityFile } }
  const settingsOfFetch = JSON.stringify({ cluster, repositories, ...encryption }, null, 2)
  const config = await write(join(folder, 'lifeboat.yaml'), `${settingsOfFetch}\n`)
  const ready = join(spoolFolder(options.runId), await spoolName(dataDirectory))
  const restoreCommand = commandOf(options, { folder, script, lifeboat, config, ready, boot: await bootId() })
  const target = targetSettings({ restoreCommand, timeline, stop, action })
  const set = Object.entries({ ...target, archive_mode: 'off' }).filter(([, value]) => value !== '')
  await write(join(dataDirectory, settingsFile), settingsText(set))
  await write(join(dataDirectory, 'recovery.signal'), '')
  await closeTablespaces(dataDirectory)
  const control = await readControlData(installation, dataDirectory, owner)
  const hba = await write(join(folder, 'pg_hba.conf'), 'local all all trust\n')
  const ident = await write(join(folder, 'pg_ident.conf'), '')
  const settings = {
    ...recoverySettings({ control, serverMajor: installation.major, restoreCommand, timeline, stop, action }),
    ...{ hba_file: hba, ident_file: ident, unix_socket_permissions: '0700' },
    unix_socket_directories: `"${options.socketDirectory.replaceAll('"', '""')}"`,
  }
  const lines = Object.entries(settings).filter(([name]) => !(name in target))
  const configFile = await write(
    join(folder, 'postgresql.conf'),
    `# A server that recovers, and can be reached through its socket alone.\n${lines.map(([name, value]) => settingLine(name, value)).join('')}`,
  )
  return { folder, restoreCommand, lifeboat, config, configFile, control }
}

const settingsFile = 'postgresql.auto.conf'

function settingsText(settings: readonly (readonly [string, string])[]): string {
  return `${settingsHead}${settings.map(([name, value]) => settingLine(name, value)).join('')}`
}

const settingsHead = `# For the recovery that lifeboat has prepared. What ALTER SYSTEM had set before is in postgresql.auto.conf.before-restore.
# archive_mode: this is a copy. Switch it on when the server that it was taken from is gone for good.
`

/**
 * Takes the target out of the settings of a server that was promoted: a standby that somebody makes of it one day would have
 * that target as well, and be promoted at once. What ALTER SYSTEM has written meanwhile stays.
 */
export async function forgetTarget(dataDirectory: string, owner: OsUser | null): Promise<void> {
  const path = join(dataDirectory, settingsFile)
  const text = await readFile(path, 'utf8')
  if (text.startsWith(settingsHead)) await writeOwned(path, settingsText([['archive_mode', 'off']]), owner)
}

/** What was ready for former runs. */
export async function removeSpools(dataDirectory: string): Promise<void> {
  const folder = join(dataDirectory, 'pg_wal')
  for (const name of await readdir(folder).catch(() => []))
    if (name.startsWith(spoolPrefix)) await rm(join(folder, name), { recursive: true, force: true, maxRetries: 20 })
}

function commandOf(
  { to, timeline, segmentSize, missingIsEnd, runId }: RecoveryFilesOptions,
  {
    folder,
    script,
    lifeboat,
    config,
    ready,
    boot,
  }: Readonly<Record<'folder' | 'script' | 'lifeboat' | 'config' | 'ready' | 'boot', string>>,
): string {
  const end = segmentName(timeline, segmentBefore(to.lsn, segmentSize) + 1, segmentSize)
  const options = [
    ...[script, '--else', lifeboat, '--config', config, '--spool', spoolFolder(runId)],
    ...(missingIsEnd ? ['--missing-is-end'] : ['--end', end]),
  ]
  const words = (all: readonly string[]) => all.map(commandWord).join(' ')
  const after = `test ! -e ${words([join(folder, reachedFile)])} || exec ${words([join(folder, afterTarget)])} "%f" "%p"`
  // What is ready is taken without any program but mv(1): the replay waits. What another boot has left may be torn.
  const spool = words([ready])
  const isReady = `read -r boot </proc/sys/kernel/random/boot_id && [ "$boot" = ${words([boot])} ] && [ -f ${spool}/"%f" ]`
  const take = `{ ${isReady} && mv -f ${spool}/"%f" "%p" && { echo "%f" >${spool}/wanted; exit 0; }; } 2>/dev/null`
  return `${after}; ${take}; exec ${words(options)} "%f" "%p"`
}
