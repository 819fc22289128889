import { chmod, lstat, mkdir, readdir, readFile, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { LifeboatError } from '../domain/errors.ts'
import { killOrphans } from '../postgres/orphans.ts'
import { removeTree, socketNote } from '../postgres/scratch-server.ts'

/** Makes the folder in which one run stages its files. The scratch server's OS user must be able to enter it. */
export async function makeWorkFolder(workDir: string, runId: string): Promise<string> {
  const folder = join(workDir, runId)
  try {
    const made = await mkdir(workDir, { recursive: true })
    if (made !== undefined) await chmod(workDir, 0o711)
    await makePassable(folder)
  } catch (cause) {
    throw diskFailure(cause, `cannot make the work folder ${folder}`)
  }
  return folder
}

/** Makes a folder that others may pass through, whatever the umask says. */
export async function makePassable(folder: string): Promise<void> {
  await mkdir(folder, { mode: 0o711 })
  await chmod(folder, 0o711)
}

/** Ends what still runs in a work folder (children of a killed sidecar, scratch servers) and removes it. */
export async function removeWorkFolder(folder: string): Promise<void> {
  await killOrphans(folder)
  for (const path of await socketDirectories(folder)) await removeTree(path)
  await removeTree(folder)
}

/**
 * Removes what a kill left behind: the folders that `isLeftover` knows by their name and the time of their last change.
 * Everything else stays, since workDir may be a place that others use too. Returns the names of the removed.
 */
export async function cleanWorkDir(
  workDir: string,
  isLeftover: (name: string, modified: Date) => boolean,
): Promise<readonly string[]> {
  const removed: string[] = []
  for (const name of await readdir(workDir).catch(() => [])) {
    const folder = join(workDir, name)
    const found = await lstat(folder).catch(() => null) // gone meanwhile
    if (found === null || !found.isDirectory() || !isLeftover(name, found.mtime)) continue
    await removeWorkFolder(folder)
    removed.push(name)
  }
  return removed
}

/** Free bytes where the folder is. */
export async function freeBytes(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder)
  return bavail * bsize
}

/** An errno as one of our codes. */
export function diskFailure(cause: unknown, what: string): LifeboatError {
  if (cause instanceof LifeboatError) return cause
  const { code, message } = cause as NodeJS.ErrnoException
  const full = code === 'ENOSPC' || code === 'EDQUOT'
  return new LifeboatError(full ? 'disk-full' : 'storage-failed', `${what}: ${message}`, {
    cause,
    hint: full
      ? 'free some space, or set workDir to a larger disk'
      : 'see that it exists and that the OS user of lifeboat may write there',
  })
}

/** A scratch server's folder lies below that of its backup, which lies below that of the run. */
async function socketDirectories(folder: string): Promise<readonly string[]> {
  const backups = await readdir(folder).catch(() => [])
  const notes = await Promise.all(
    backups.map((name) => readFile(join(folder, name, 'scratch', socketNote), 'utf8').catch(() => '')),
  )
  return notes.filter((path) => /\/lifeboat-[A-Za-z0-9]{6}$/.test(path))
}
