import { readFile, readlink, realpath, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { LifeboatError } from '../domain/errors.ts'
import { bootId } from '../fetch/spool.ts'
import { killOrphans } from '../postgres/orphans.ts'
import type { OsUser } from '../postgres/programs.ts'
import { removeTree } from '../postgres/scratch-directory.ts'
import { writeOwned } from './owned-files.ts'
import { emptyDirectory, incompleteMarker, isTablespaceOf, markerText, removeMarks } from './places.ts'
import { recoveryFolder } from './recovering-server.ts'
import { restoreFolder } from './recovery-files.ts'

/*
 * A restore that is under way, or was cut off, has a mark in its data directory. It ends with the directories that go with
 * it, the last of which, where backups are unpacked, is named after the run: only the run itself may go on with it.
 */

/** What a mark tells. */
export interface RestoreMark {
  /** `files`: they are not whole yet; `recovery`: they are, and the server has not come to its target. */
  readonly phase: 'files' | 'recovery'
  readonly runId: string
  /** The one that was restored; null while the files are not whole. */
  readonly backupId: string | null
  /** The boot of the machine since which the files are whole; null while they are not. They may not be on the disk yet. */
  readonly boot: string | null
  /** The directories of tablespaces. */
  readonly tablespaces: readonly string[]
}

const folderPrefix = '.lifeboat-restore-'

const backupLine = 'It is of the backup '
const bootLine = 'It was made in the boot '
const recoveryText = `The recovery of this data directory is not over: it is under way, was cut off, or ended too early. Do not use it.
When none is under way: stop the server if one runs here (pg_ctl --mode=immediate stop), and remove it together with these
directories, as far as they exist. Or give the same command again, which goes on with it:
`

/** Where the backups of a restore are unpacked: beside the data directory, on its file system. */
export function unpackFolder(dataDirectory: string, runId: string): string {
  return join(dirname(dataDirectory), `${folderPrefix}${runId}`)
}

/** Null where there is no mark, or one that is not of a run. */
export async function readMark(dataDirectory: string): Promise<RestoreMark | null> {
  const text = await readFile(join(dataDirectory, incompleteMarker), 'utf8').catch(() => null)
  if (text === null) return null
  const paths = text.split('\n').filter((line) => line.startsWith('/'))
  const folder = basename(paths.pop() ?? '')
  if (!folder.startsWith(folderPrefix)) return null
  const after = (words: string) =>
    text
      .split('\n')
      .find((line) => line.startsWith(words))
      ?.slice(words.length) ?? null
  return {
    phase: text.startsWith(recoveryText) ? 'recovery' : 'files',
    runId: folder.slice(folderPrefix.length),
    backupId: after(backupLine),
    boot: after(bootLine),
    tablespaces: paths,
  }
}

/** The files are whole; from now on it is the recovery that is not. So does another run of the same command that goes on. */
export async function markRecovery(
  dataDirectory: string,
  { runId, backupId, tablespaces, owner }: Omit<RestoreMark, 'phase' | 'boot'> & { readonly owner: OsUser | null },
): Promise<void> {
  const paths = [...tablespaces, unpackFolder(dataDirectory, runId)]
  const text = `${recoveryText}${paths.join('\n')}\n${backupLine}${backupId}\n${bootLine}${await bootId()}\n`
  await writeOwned(join(dataDirectory, incompleteMarker), text, owner)
}

/** The files turn out not to be whole after all. */
export async function markFiles(
  dataDirectory: string,
  { runId, tablespaces, owner }: Pick<RestoreMark, 'runId' | 'tablespaces'> & { readonly owner: OsUser | null },
): Promise<void> {
  const paths = [...tablespaces, unpackFolder(dataDirectory, runId)]
  await writeOwned(join(dataDirectory, incompleteMarker), `${markerText}${paths.join('\n')}\n`, owner)
}

/**
 * Ends what a restore that was cut off has left running: programs, known by their environment, and its server.
 *
 * @throws LifeboatError `conflict` when somebody else has started a server there
 */
export async function endLeftovers(dataDirectory: string, mark: RestoreMark): Promise<void> {
  await killOrphans(unpackFolder(dataDirectory, mark.runId))
  const pidFile = join(dataDirectory, 'postmaster.pid')
  const pid = Number.parseInt(await readFile(pidFile, 'utf8').catch(() => ''), 10)
  if (pid > 0 && (await isServerOf(pid, dataDirectory))) {
    const started = await readFile(join(dataDirectory, 'postmaster.opts'), 'utf8').catch(() => '')
    if (!started.includes(join(restoreFolder, recoveryFolder, 'postgresql.conf')))
      throw new LifeboatError('conflict', `a server (process ${pid}) runs on ${dataDirectory}, which is not whole`, {
        hint: 'stop it: pg_ctl --mode=immediate stop',
      })
    for (let turn = 0; await isServerOf(pid, dataDirectory); turn += 1) {
      process.kill(pid, turn < patienceTurns ? 'SIGQUIT' : 'SIGKILL')
      await delay(turnMs)
    }
  }
  await rm(pidFile, { force: true })
}

const [turnMs, patienceTurns] = [50, 100]

/** A postmaster works in its data directory. */
async function isServerOf(pid: number, dataDirectory: string): Promise<boolean> {
  const [cwd, real] = await Promise.all(
    [readlink(`/proc/${pid}/cwd`), realpath(dataDirectory)].map((one) => one.catch(() => null)),
  )
  return cwd !== null && cwd === real
}

/**
 * Empties the directories of a restore that was cut off: the mark goes last.
 *
 * @throws LifeboatError `conflict` when one of them holds what is not of that restore; then nothing was removed
 */
export async function clearLeftovers(dataDirectory: string, mark: RestoreMark): Promise<void> {
  const own: string[] = []
  for (const path of mark.tablespaces) {
    const found = await isTablespaceOf(path, dataDirectory)
    if (found === 'other')
      throw new LifeboatError('conflict', `${path} holds something else by now than what a restore has left`, {
        hint: `nothing was removed: remove ${dataDirectory} yourself, and give an empty directory to the tablespace`,
      })
    if (found === 'its own') own.push(path)
  }
  await removeTree(unpackFolder(dataDirectory, mark.runId))
  for (const path of own) await emptyDirectory(path, incompleteMarker)
  await emptyDirectory(dataDirectory, incompleteMarker)
  await removeMarks(dataDirectory, own)
}
