import { constants } from 'node:fs'
import { type FileHandle, lchown, lstat, mkdir, open, rename, rm } from 'node:fs/promises'
import { LifeboatError } from '../domain/errors.ts'
import type { OsUser } from '../postgres/programs.ts'
import { hasCode, storageFailure } from '../storage/failures.ts'

/*
 * Files in a directory of another OS user, who may have put anything there: what we write as root goes through no link of
 * theirs, and what we give away is never what a link points to.
 */

/**
 * Writes a file whole, in place of what has its name.
 *
 * @throws LifeboatError `disk-full`, `storage-failed`
 */
export async function writeOwned(path: string, text: string, owner: OsUser | null, mode = 0o600): Promise<void> {
  await replaceFile(path, text, owner, mode).catch((error: unknown) => {
    throw storageFailure(`cannot write ${path}`, error)
  })
}

async function replaceFile(path: string, text: string, owner: OsUser | null, mode: number): Promise<void> {
  const temporary = `${path}.new`
  await rm(temporary, { force: true })
  const handle = await open(temporary, 'wx', mode)
  try {
    await handle.writeFile(text)
    await handle.chmod(mode)
    await giveHandle(handle, owner)
  } finally {
    await handle.close()
  }
  await rename(temporary, path)
}

/** Opens a file to write behind what is in it. */
export async function appendOwned(path: string, owner: OsUser | null): Promise<FileHandle> {
  const { O_WRONLY, O_APPEND, O_CREAT, O_NOFOLLOW, O_NONBLOCK } = constants
  const handle = await open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0o600)
  try {
    if (!(await handle.stat()).isFile()) throw new LifeboatError('conflict', `${path} is not a file`)
    await giveHandle(handle, owner)
    return handle
  } catch (error) {
    await handle.close()
    throw error
  }
}

/** Makes a directory for its owner alone; one that is there stays. */
export async function makeOwnedDirectory(path: string, owner: OsUser | null): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 }).catch((error: unknown) => {
    if (!hasCode(error, 'EEXIST')) throw storageFailure(`cannot make ${path}`, error) // told below
  })
  if (!(await lstat(path)).isDirectory()) throw new LifeboatError('conflict', `${path} is not a directory`)
  if (owner !== null) await lchown(path, owner.uid, owner.gid)
}

async function giveHandle(handle: FileHandle, owner: OsUser | null): Promise<void> {
  if (owner !== null) await handle.chown(owner.uid, owner.gid)
}
