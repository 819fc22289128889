import { constants } from 'node:fs'
import { chown, type FileHandle, lstat, mkdir, open, realpath, rmdir, stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { geteuid } from 'node:process'
import { LifeboatError } from '../domain/errors.ts'
import { hasCode, isMissing, storageFailure } from './failures.ts'

/**
 * The directory that a local storage lives in, and the folders below it. It hands out absolute paths of folders only
 * after it has seen that no symbolic link lies between the root and them: a link could lead a write, or a removal, out
 * of the repository. The root itself may be reached through links.
 */
export class Root {
  readonly configured: string
  #real: string | undefined
  #owner: Promise<Owner | null> | undefined

  constructor(path: string) {
    this.configured = resolve(path)
  }

  /** The real path of the root, or null while there is none. It is looked up once: the root may not move while in use. */
  async path(): Promise<string | null> {
    try {
      this.#real ??= await realpath(this.configured)
      return this.#real
    } catch (error) {
      if (isMissing(error)) return null
      throw error
    }
  }

  /**
   * Whose the files and folders are to be that root makes here: those of who owns the root, since a restore as root must not
   * lock out the sidecar. Null: of who makes them.
   */
  owner(): Promise<Owner | null> {
    this.#owner ??= ownerOf(this.configured)
    return this.#owner
  }

  /** The absolute path of a folder (`a/b`, the root is ``), or null if there is none. Fails with `storage-failed` on a link. */
  async folder(name: string): Promise<string | null> {
    const root = await this.path()
    if (root === null) return null
    try {
      const path = join(root, name)
      // One call into the system, however deep the folder is.
      if ((await realpath(path)) !== path) throw linkRefused(name)
      return path
    } catch (error) {
      if (isMissing(error)) return null
      if (hasCode(error, 'ELOOP')) throw linkRefused(name)
      throw error
    }
  }

  /** Like `folder`, and makes what is missing of it (0700), durably. */
  async makeFolder(name: string): Promise<string> {
    const there = await this.folder(name)
    if (there !== null) return there
    this.#real = await this.#makeRoot()
    let path = this.#real
    for (const segment of name === '' ? [] : name.split('/')) {
      const parent = path
      path = join(parent, segment)
      if (await makeDirectory(path, await this.owner())) await syncDirectory(parent)
    }
    return path
  }

  /** Removes the folder and those above it, as long as they are empty; never the root. Syncs the deepest that stays. */
  async removeEmpty(name: string): Promise<void> {
    let left = name
    while (left !== '') {
      const path = await this.folder(left)
      try {
        if (path !== null) await rmdir(path)
      } catch (error) {
        if (!hasCode(error, 'ENOTEMPTY', 'EEXIST', 'EBUSY') && !isMissing(error)) throw error
        // It stays, unless somebody else removes it just now: then go on above.
        if (path !== null && (await syncDirectory(path))) return
      }
      left = left.includes('/') ? dirname(left) : ''
    }
    const root = await this.path()
    if (root !== null) await syncDirectory(root)
  }

  async #makeRoot(): Promise<string> {
    try {
      // Not its parents: on an unmounted disk's path a repository would be made, and filled, on the disk below.
      await mkdir(this.configured, 0o700)
      await syncDirectory(dirname(this.configured))
    } catch (error) {
      if (!hasCode(error, 'EEXIST')) throw rootRefused(this.configured, error)
    }
    return realpath(this.configured)
  }
}

export interface Owner {
  readonly uid: number
  readonly gid: number
}

async function ownerOf(path: string): Promise<Owner | null> {
  if (geteuid?.() !== 0) return null
  const { uid, gid } = await stat(path)
  return uid === 0 ? null : { uid, gid }
}

function rootRefused(root: string, error: unknown): LifeboatError {
  const parent = dirname(root)
  if (!isMissing(error)) return storageFailure(`cannot make the directory ${root}`, error)
  return new LifeboatError('storage-failed', `cannot make the directory ${root}: there is no directory ${parent}`, {
    hint: `mount what belongs at ${parent}, or make it: mkdir -p ${parent}`,
    cause: error,
  })
}

/** Refuses to touch what a symbolic link points to. */
export function linkRefused(name: string): LifeboatError {
  return new LifeboatError('storage-failed', `${JSON.stringify(name)} is or lies behind a symbolic link`, {
    hint: 'links below the root of a repository are not followed: put the real file or folder in its place',
  })
}

/** Makes a directory with mode 0700 in a verified parent; false if it was there. */
async function makeDirectory(path: string, owner: Owner | null): Promise<boolean> {
  try {
    await mkdir(path, 0o700)
    if (owner !== null) await chown(path, owner.uid, owner.gid)
    return true
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error
    const found = await lstat(path)
    if (found.isSymbolicLink()) throw linkRefused(path)
    return false
  }
}

/**
 * Makes the names in a directory durable: without it a crash can undo a rename, a link or an unlink in it (fsync(2)).
 * False if the directory is not there: somebody removed it, empty, and with it the need.
 */
export async function syncDirectory(path: string): Promise<boolean> {
  let handle: FileHandle
  try {
    handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY)
  } catch (error) {
    if (isMissing(error)) return false
    throw error
  }
  try {
    await handle.sync()
  } catch (error) {
    // Some file systems cannot sync a directory. As PostgreSQL does, take that for "not needed".
    if (!hasCode(error, 'EINVAL')) throw error
  } finally {
    await handle.close()
  }
  return true
}
