import { chmod, chown, copyFile, mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { WalPosition } from '../domain/coverage.ts'
import type { RecoveryStop } from '../domain/recovery-plan.ts'
import { shellWord } from '../domain/shell-word.ts'
import { segmentBefore, segmentName } from '../domain/wal.ts'
import { programsDirectory, restoreProgram } from '../postgres/archiving.ts'
import { readControlData } from '../postgres/control-data.ts'
import type { Installation } from '../postgres/installations.ts'
import type { OsUser } from '../postgres/programs.ts'
import { recoverySettings, settingLine, targetSettings } from './recovery-settings.ts'

/** Folder in a restored data directory with all that its recovery needs; not needed any more after it. */
export const restoreFolder = 'lifeboat-restore'
/** Relative to the data directory, in which restore_command runs. */
export const spoolFolder = 'pg_wal/lifeboat-spool'

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
  /** Those that are asked for WAL. */
  readonly repositories: readonly { readonly name: string; readonly url: string }[]
  readonly stop: RecoveryStop
  readonly timeline: number
  readonly action: 'promote' | 'pause'
  /** The end of the WAL that must be there. */
  readonly to: WalPosition
  readonly segmentSize: number
  /** What is missing is the end. */
  readonly missingIsEnd: boolean
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
}

/**
 * Writes all that a server needs to recover from the repositories, into the data directory itself: it goes on to work when
 * configuration, installation or the user who restores are out of its reach. Archiving stays off until somebody says otherwise.
 */
export async function writeRecoveryFiles(options: RecoveryFilesOptions): Promise<RecoveryFiles> {
  const { dataDirectory, owner, cluster, repositories, program, installation, stop, timeline, action } = options
  const folder = join(dataDirectory, restoreFolder)
  const give = async (path: string) => {
    if (owner !== null) await chown(path, owner.uid, owner.gid)
  }
  const write = async (path: string, text: string, mode = 0o600) => {
    await writeFile(path, text, { mode })
    await chmod(path, mode)
    await give(path)
    return path
  }
  for (const path of [folder, options.socketDirectory]) {
    await mkdir(path, { recursive: true, mode: 0o700 })
    await give(path)
  }
  const script = join(folder, restoreProgram)
  await copyFile(join(programsDirectory, restoreProgram), script)
  await chmod(script, 0o700)
  await give(script)
  const words = program.map(shellWord).join(' ')
  const lifeboat = await write(join(folder, 'lifeboat'), `#!/bin/sh\nexec ${words} "$@"\n`, 0o700)
  await rm(join(folder, reachedFile), { force: true })
  await write(join(folder, afterTarget), afterTargetScript, 0o700)
  const config = await write(join(folder, 'lifeboat.yaml'), `${JSON.stringify({ cluster, repositories }, null, 2)}\n`)
  const restoreCommand = commandOf(options, { folder, script, lifeboat, config })
  const target = targetSettings({ restoreCommand, timeline, stop, action })
  const set = Object.entries({ ...target, archive_mode: 'off' }).filter(([, value]) => value !== '')
  await write(
    join(dataDirectory, 'postgresql.auto.conf'),
    `# For the recovery that lifeboat has prepared. What ALTER SYSTEM had set before is in postgresql.auto.conf.before-restore.
# archive_mode: this is a copy. Switch it on when the server that it was taken from is gone for good.
${set.map(([name, value]) => settingLine(name, value)).join('')}`,
  )
  await write(join(dataDirectory, 'recovery.signal'), '')
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
  return { folder, restoreCommand, lifeboat, config, configFile }
}

function commandOf(
  { to, timeline, segmentSize, missingIsEnd }: RecoveryFilesOptions,
  {
    folder,
    script,
    lifeboat,
    config,
  }: { readonly folder: string; readonly script: string; readonly lifeboat: string; readonly config: string },
): string {
  const end = segmentName(timeline, segmentBefore(to.lsn, segmentSize) + 1, segmentSize)
  const options = [
    ...[script, '--else', lifeboat, '--config', config, '--spool', spoolFolder],
    ...(missingIsEnd ? ['--missing-is-end'] : ['--end', end]),
  ]
  // PostgreSQL replaces what follows a percent sign.
  const words = (all: readonly string[]) => all.map((word) => shellWord(word).replaceAll('%', '%%')).join(' ')
  const after = `test ! -e ${words([join(folder, reachedFile)])} || exec ${words([join(folder, afterTarget)])} "%f" "%p"`
  return `${after}; exec ${words(options)} "%f" "%p"`
}
