import { access, constants, lstat, readdir, readFile, realpath, stat, statfs } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import { geteuid } from 'node:process'
import { LifeboatError } from '../domain/errors.ts'
import { hasCode } from '../storage/failures.ts'

/** A directory near which nothing may be restored, and what it is, in words. */
export interface PreciousPlace {
  readonly path: string
  readonly what: string
}

/**
 * Sees that a directory can be restored into: it does not exist or is empty, no server has to do with it, and it lies neither
 * in nor above anything that matters.
 *
 * @throws LifeboatError `usage-invalid`, `conflict`
 */
export async function assertFree(path: string, precious: readonly PreciousPlace[]): Promise<void> {
  if (!path.startsWith('/') || /\p{Cc}/u.test(path))
    throw new LifeboatError(
      'usage-invalid',
      `${JSON.stringify(path)} is not an absolute path without control characters`,
    )
  const real = await realPath(path)
  for (const one of precious) {
    const other = await realPath(one.path)
    if (real !== other && !isBelow(real, other) && (await isSameDirectory(real, other)))
      throw new LifeboatError(
        'usage-invalid',
        `${path} is mounted from, or lies in a mount of, ${one.what} (${one.path})`,
        {
          hint: 'restore into a directory of its own, and move it when the old one is gone for good',
        },
      )
    const how = real === other ? 'is' : isBelow(real, other) ? 'lies in' : isBelow(other, real) ? 'lies above' : null
    if (how === null) continue
    throw new LifeboatError('usage-invalid', `${path} ${how} ${one.what}${how === 'is' ? '' : ` (${one.path})`}`, {
      hint: 'restore into a directory of its own, and move it when the old one is gone for good',
    })
  }
  await assertNoServer(real, path)
  for (let above = dirname(real); above !== dirname(above); above = dirname(above)) {
    const what = (await isDataDirectory(above)) ? 'a data directory' : isVersionFolder(above) ? 'a tablespace' : null
    if (what !== null)
      throw new LifeboatError('usage-invalid', `${path} lies in ${what}, ${above}`, {
        hint: 'what lies there is backed up, and removed, with it: choose another place',
      })
  }
  const names = await readdir(real).catch((error: unknown) => {
    if (hasCode(error, 'ENOENT')) return []
    if (hasCode(error, 'ENOTDIR')) throw new LifeboatError('conflict', `${path} is not a directory`)
    throw new LifeboatError('storage-failed', `${path} cannot be read: ${(error as Error).message}`, { cause: error })
  })
  if (names.length > 0)
    throw new LifeboatError('conflict', `${path} is not empty`, {
      hint: 'name a directory that does not exist or is empty: nothing is ever replaced',
    })
}

/** @throws LifeboatError `conflict` when it is the directory of a server that runs, or may */
async function assertNoServer(real: string, path: string): Promise<void> {
  const text = await readFile(join(real, 'postmaster.pid'), 'utf8').catch(() => null)
  if (text === null) return
  const pid = Number.parseInt(text, 10)
  const lives = pid > 0 && (await lstat(`/proc/${pid}`).catch(() => null)) !== null
  throw new LifeboatError(
    'conflict',
    lives ? `a server (process ${pid}) runs on ${path}` : `${path} has a postmaster.pid: a server used it`,
    { hint: 'nothing is ever restored over a data directory: name one that does not exist or is empty' },
  )
}

async function isDataDirectory(path: string): Promise<boolean> {
  const found = await Promise.all(
    ['PG_VERSION', 'global/pg_control'].map((name) => lstat(join(path, name)).catch(() => null)),
  )
  return found.every((one) => one !== null)
}

/** Of a major version, in a tablespace: PG_15_202209061. */
function isVersionFolder(path: string): boolean {
  return /^PG_\d+_\d{9}$/.test(basename(path))
}

/** With every symbolic link resolved; of what does not exist as far as it does. */
export async function realPath(path: string): Promise<string> {
  const missing: string[] = []
  for (let current = resolve(path); ; current = dirname(current)) {
    const real = await realpath(current).catch(() => null)
    if (real !== null) return join(real, ...missing)
    if (current === dirname(current)) return resolve(path)
    missing.unshift(basename(current))
  }
}

/** Whether it, or a directory above it, is the other one under another path: a bind mount. */
async function isSameDirectory(real: string, other: string): Promise<boolean> {
  const wanted = await stat(other).catch(() => null)
  if (wanted === null) return false
  for (let current = real; current !== dirname(current); current = dirname(current)) {
    const found = await stat(current).catch(() => null)
    if (found?.dev === wanted.dev && found.ino === wanted.ino) return true
  }
  return false
}

function isBelow(path: string, above: string): boolean {
  return path.startsWith(above.endsWith('/') ? above : `${above}/`)
}

/**
 * Sees that whoever restores may make a directory, or write into the one that is there. Nothing above it is made: it may be a
 * disk that is not mounted.
 *
 * @throws LifeboatError `usage-invalid`
 */
export async function assertMayMake(path: string): Promise<void> {
  const existing = await nearestExisting(path)
  const real = await realPath(path)
  if (existing !== real && existing !== dirname(real))
    throw new LifeboatError('usage-invalid', `${dirname(path)} does not exist`, { hint: 'make it, or mount its disk' })
  if (
    await access(existing, constants.W_OK | constants.X_OK).then(
      () => true,
      () => false,
    )
  )
    return
  const name = userName()
  throw new LifeboatError(
    'usage-invalid',
    `the OS user ${name} may not write to ${existing}, and so not restore into ${path}`,
    {
      hint: `restore as root, whose files --os-user gives to who runs PostgreSQL; or make it before, as root: install -d -m 0700 -o ${name} ${path}`,
    },
  )
}

/** A container may have no entry for it. */
function userName(): string {
  try {
    return userInfo().username
  } catch {
    return String(geteuid?.() ?? '')
  }
}

/** What is to be written, and where. */
export interface RoomNeeded {
  readonly path: string
  readonly bytes: number
}

/** What stays free. */
export const spareBytes = 128 * 2 ** 20

/** How much each disk needs and has. */
export interface DiskRoom {
  readonly path: string
  readonly needed: number
  readonly free: number
}

/** By disk, in the order of the places. */
export async function roomOn(places: readonly RoomNeeded[]): Promise<readonly DiskRoom[]> {
  const disks = new Map<number, { path: string; needed: number; free: number }>()
  for (const { path, bytes } of places) {
    const existing = await nearestExisting(path)
    const { dev } = await stat(existing)
    const { bavail, bsize } = await statfs(existing)
    const disk = disks.get(dev) ?? { path, needed: 0, free: bavail * bsize }
    disk.needed += bytes
    disks.set(dev, disk)
  }
  return [...disks.values()]
}

/** @throws LifeboatError `disk-full` with the numbers */
export function assertRoom(disks: readonly DiskRoom[], format: (bytes: number) => string): void {
  const short = disks.find(({ needed, free }) => needed + spareBytes > free)
  if (short === undefined) return
  throw new LifeboatError(
    'disk-full',
    `the restore needs about ${format(short.needed)} where ${short.path} is, and ${format(spareBytes)} stay free; there are ${format(short.free)}`,
    {
      hint: 'free some space, or name a directory on a larger disk',
      details: { needed: short.needed, free: short.free },
    },
  )
}

async function nearestExisting(path: string): Promise<string> {
  for (let current = await realPath(path); ; current = dirname(current)) {
    if ((await lstat(current).catch(() => null)) !== null || current === dirname(current)) return current
  }
}
