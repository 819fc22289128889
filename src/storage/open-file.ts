import { closeSync, constants, fstatSync, openSync, readlinkSync, readSync, realpathSync, type Stats } from 'node:fs'
import { dirname, join } from 'node:path'
import { hasCode, isMissing } from './failures.ts'
import { linkRefused } from './root.ts'

// Not blocking: a named pipe without a writer would never open.
const readFlags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK

/** A regular file that is open for reading. To be closed with `closeSync`: nothing was written, so nothing waits. */
export interface OpenFile {
  readonly descriptor: number
  readonly stats: Stats
}

/**
 * Opens a file below `root` (a real path) without following a symbolic link on the way; null if there is no such file.
 * Fails with `storage-failed` on a link, and otherwise with the system's error. It waits for the disk: to be called in
 * a thread that may stand still.
 */
export function openFile(root: string, key: string): OpenFile | null {
  const path = join(root, key)
  let descriptor: number
  try {
    descriptor = openSync(path, readFlags)
  } catch (error) {
    if (hasCode(error, 'ELOOP')) throw linkRefused(key)
    // ENXIO: it is a socket.
    if (isMissing(error) || hasCode(error, 'ENXIO')) return null
    throw error
  }
  try {
    const stats = fstatSync(descriptor)
    if (stats.isFile()) {
      refuseLinks(key, path, descriptor)
      return { descriptor, stats }
    }
  } catch (error) {
    closeSync(descriptor)
    throw error
  }
  closeSync(descriptor)
  return null
}

/** Reads as many bytes as the file had when it was opened; null if it has become shorter. */
export function readFile({ descriptor, stats }: OpenFile): Uint8Array<ArrayBuffer> | null {
  const bytes = new Uint8Array(stats.size)
  for (let filled = 0; filled < bytes.length; ) {
    const count = readSync(descriptor, bytes, filled, bytes.length - filled, filled)
    if (count === 0) return null
    filled += count
  }
  return bytes
}

/**
 * Asks the kernel where the open file really is (proc(5), /proc/pid/fd). Unlike a look at the path beforehand, this
 * leaves no moment in which a folder could be exchanged for a link.
 */
function refuseLinks(key: string, path: string, descriptor: number): void {
  let real: string
  try {
    real = readlinkSync(`/proc/self/fd/${descriptor}`)
  } catch (error) {
    if (!isMissing(error)) throw error
    // No /proc here: a look at the folder's path has to do.
    const folder = dirname(path)
    if (realpathSync(folder) !== folder) throw linkRefused(key)
    return
  }
  // An object that was replaced or removed since it was opened is whole all the same.
  if (real !== path && real !== `${path} (deleted)`) throw linkRefused(key)
}
