import { chmod, chown, mkdir, mkdtemp, realpath, rm, rmdir, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { LifeboatError } from '../domain/errors.ts'
import type { OsUser } from './programs.ts'

/** Makes the directory of a scratch server, for its OS user alone. */
export async function makeOwned(directory: string, osUser: OsUser | null): Promise<void> {
  try {
    await mkdir(dirname(directory), { recursive: true })
    await mkdir(directory, { mode: 0o700 })
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException
    throw new LifeboatError(
      code === 'ENOSPC' ? 'disk-full' : 'usage-invalid',
      `cannot make a directory for the scratch server: ${message}`,
      { cause, hint: 'set workDir to a directory that can be written' },
    )
  }
  if (osUser !== null) await chown(directory, osUser.uid, osUser.gid)
}

/** Gives the directory for the socket. When the server could not be reached in it, or reach its own, nothing is left. */
export async function makeReachable(directory: string, osUser: OsUser | null): Promise<string> {
  try {
    await assertReachable(directory, osUser)
    return await makeSocketDirectory(directory, osUser)
  } catch (error) {
    await rmdir(directory).catch(() => {})
    throw error
  }
}

/**
 * A socket's path has at most 107 bytes, so the directory is a short one when ours is deep; or when it holds a comma,
 * which separates hosts and directories for libpq and the server. Its name is noted for the clean-up.
 */
async function makeSocketDirectory(directory: string, osUser: OsUser | null): Promise<string> {
  const inside = join(directory, 's')
  const path =
    Buffer.byteLength(inside) <= 80 && !/[,"]/.test(inside) ? inside : await mkdtemp(join(tmpdir(), 'lifeboat-'))
  await mkdir(path, { recursive: true, mode: 0o700 })
  await chmod(path, 0o700)
  if (osUser !== null) await chown(path, osUser.uid, osUser.gid)
  if (path !== inside) {
    await writeFile(join(directory, socketNote), path, { mode: 0o600 })
  }
  return path
}

/** File in a scratch directory that holds the path of a socket directory elsewhere. */
export const socketNote = 'socket-directory'

/**
 * Removes a directory and all below it, again where a process that is just ending has put something new there. (Node's own
 * `maxRetries` tries again at each level below the others: what cannot be removed at a depth of four takes minutes.)
 */
export async function removeTree(path: string): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await rm(path, { recursive: true, force: true })
    } catch (error) {
      if (tries === 4) throw error
      await openDirectoryOf(error, path)
      await delay(100 * tries)
    }
  }
}

/** A directory that its own user may not write to: that of the links to tablespaces, when a recovery was killed. */
async function openDirectoryOf(error: unknown, tree: string): Promise<void> {
  const { code, path } = error as NodeJS.ErrnoException
  if (code === 'EACCES' && path?.startsWith(`${tree}/`)) await chmod(dirname(path), 0o700).catch(() => {})
}

/** Root hands the server to another user, who must be able to enter every folder above it. */
async function assertReachable(directory: string, osUser: OsUser | null): Promise<void> {
  const closed = await firstClosed(directory, osUser)
  if (closed === null || osUser === null) return
  throw new LifeboatError(
    'usage-invalid',
    `the OS user ${osUser.name}, which runs the scratch server, cannot enter ${closed}`,
    {
      hint: `set workDir to a directory that it can enter, or run: chmod o+x ${closed}`,
    },
  )
}

/** The first folder above a directory that an OS user cannot enter; null where it can enter them all. */
export async function firstClosed(directory: string, osUser: OsUser | null): Promise<string | null> {
  if (osUser === null) return null
  let current = dirname(await realpath(directory))
  for (;;) {
    const { mode, uid, gid } = await stat(current)
    const needed = uid === osUser.uid ? 0o100 : gid === osUser.gid ? 0o010 : 0o001
    if ((mode & needed) === 0) return current
    const parent = dirname(current)
    if (parent === current) return null
    current = parent
  }
}
