import { closeSync, constants, fstatSync, open, read, readlinkSync, type Stats } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { hasCode, isMissing } from './failures.ts'
import { linkRefused, type Root } from './root.ts'

const openDescriptor = promisify(open)

// Not blocking: a named pipe without a writer would never open.
const readFlags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK

/** A regular file that is open for reading. To be closed with `closeSync`: nothing was written, so nothing waits. */
export interface OpenFile {
  readonly descriptor: number
  readonly stats: Stats
}

/**
 * Opens a file below the root without following a symbolic link on the way; null if there is no such file. Fails with
 * `storage-failed` on a link, and otherwise with the system's error.
 *
 * At every start ten thousand small files are looked at, and a trip to another thread costs several times the call that
 * it is for. So only what may wait for a disk makes the trip: opening and reading. What asks about the open descriptor
 * is answered by the kernel from memory.
 */
export async function openFile(root: Root, key: string): Promise<OpenFile | null> {
  const base = await root.path()
  if (base === null) return null
  const path = join(base, key)
  let descriptor: number
  try {
    descriptor = await openDescriptor(path, readFlags)
  } catch (error) {
    if (hasCode(error, 'ELOOP')) throw linkRefused(key)
    // ENXIO: it is a socket.
    if (isMissing(error) || hasCode(error, 'ENXIO')) return null
    throw error
  }
  try {
    const stats = fstatSync(descriptor)
    if (stats.isFile()) {
      await refuseLinks(root, key, path, descriptor)
      return { descriptor, stats }
    }
  } catch (error) {
    closeSync(descriptor)
    throw error
  }
  closeSync(descriptor)
  return null
}

/** Reads into the buffer from `from` on what stands at `position`, as much as one call gives. Zero is the end. */
export function readInto(file: OpenFile, buffer: Buffer, from: number, position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    read(file.descriptor, buffer, from, buffer.length - from, position, (error, bytes) => {
      if (error) reject(error)
      else resolve(bytes)
    })
  })
}

/**
 * Asks the kernel where the open file really is (proc(5), /proc/pid/fd). Unlike a look at the path beforehand, this
 * leaves no moment in which a folder could be exchanged for a link.
 */
async function refuseLinks(root: Root, key: string, path: string, descriptor: number): Promise<void> {
  let real: string
  try {
    real = readlinkSync(`/proc/self/fd/${descriptor}`)
  } catch (error) {
    if (!isMissing(error)) throw error
    // No /proc here: a look at the folder's path has to do.
    await root.folder(key.slice(0, Math.max(0, key.lastIndexOf('/'))))
    return
  }
  // An object that was replaced or removed since it was opened is whole all the same.
  if (real !== path && real !== `${path} (deleted)`) throw linkRefused(key)
}
