import { lstat, opendir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { isMissing, throwIfStopped } from './failures.ts'
import { compareKeys, isSegment } from './keys.ts'
import { objectInfo } from './object-info.ts'
import type { Root } from './root.ts'
import type { CommonPrefix, ObjectInfo } from './storage.ts'
import { temporaryFolder } from './temporary.ts'

/** Entries looked at in parallel: enough to keep the threads of libuv busy. */
const batchEntries = 64

/** What to list: keys in `folder` (`a/b/`, the root is ``) and below that begin with `prefix` and come after `startAfter`. */
export interface Wanted {
  readonly folder: string
  readonly prefix: string
  readonly startAfter: string
  /** Fold what is in folders below this one. */
  readonly fold: boolean
  readonly signal: AbortSignal | undefined
}

/** The key of a file, or of everything in a folder (ends in `/`). A folder thus sorts as its objects do: after `a-b`, before `a0`. */
interface Entry {
  readonly key: string
  readonly isFolder: boolean
}

/** Yields the objects in byte order of their keys. Links, devices, sockets and names that no key can have are left out. */
export async function* listFolder(root: Root, wanted: Wanted): AsyncGenerator<ObjectInfo | CommonPrefix> {
  const path = await root.folder(wanted.folder.slice(0, -1))
  if (path === null) return
  const entries = await readEntries(path, wanted)
  for (let from = 0; from < entries.length; from += batchEntries) {
    throwIfStopped(wanted.signal)
    const batch = entries.slice(from, from + batchEntries)
    const found = await Promise.all(batch.map((entry) => look(root, path, entry, wanted)))
    for (const [index, { key, isFolder }] of batch.entries()) {
      throwIfStopped(wanted.signal)
      const item = found[index]
      if (isFolder && !wanted.fold) yield* listFolder(root, { ...wanted, folder: key })
      else if (item) yield item
    }
  }
}

/** The names in one folder that are wanted, sorted. */
async function readEntries(path: string, wanted: Wanted): Promise<Entry[]> {
  const entries = new Map<string, Entry>()
  try {
    for await (const found of await opendir(path, { bufferSize: 1024 })) {
      const isFolder = found.isDirectory()
      if (!(isFolder || found.isFile()) || !isSegment(found.name)) continue
      if (wanted.folder === '' && found.name === temporaryFolder) continue
      const key = `${wanted.folder}${found.name}${isFolder ? '/' : ''}`
      if (!key.startsWith(wanted.prefix)) continue
      const isAfter = compareKeys(key, wanted.startAfter) > 0 || (isFolder && wanted.startAfter.startsWith(key))
      // Names that are not UTF-8 can look the same; looked up by what they look like, they are not found.
      if (isAfter) entries.set(key, { key, isFolder })
    }
  } catch (error) {
    if (!isMissing(error)) throw error
  }
  return [...entries.values()].sort((a, b) => compareKeys(a.key, b.key))
}

/** What is to be yielded for an entry; null if nothing is, since it has gone meanwhile, is empty, or is not folded. */
async function look(root: Root, path: string, entry: Entry, wanted: Wanted): Promise<ObjectInfo | CommonPrefix | null> {
  if (entry.isFolder) {
    if (!wanted.fold) return null
    return (await holdsObject(root, path, entry.key, wanted)) ? { prefix: entry.key } : null
  }
  try {
    const stats = await lstat(join(path, entry.key.slice(wanted.folder.length)))
    return stats.isFile() ? objectInfo(entry.key, stats) : null
  } catch (error) {
    if (isMissing(error)) return null
    throw error
  }
}

/** True if anything wanted is below the folder: an empty folder is not a common prefix of anything. */
async function holdsObject(root: Root, parent: string, folder: string, wanted: Wanted): Promise<boolean> {
  if (!wanted.startAfter.startsWith(folder)) {
    try {
      const path = join(parent, folder.slice(wanted.folder.length))
      const entries = await readdir(path, { withFileTypes: true })
      if (entries.some((found) => found.isFile() && isSegment(found.name))) return true
    } catch (error) {
      if (isMissing(error)) return false
      throw error
    }
  }
  for await (const _ of listFolder(root, { ...wanted, folder, fold: false })) return true
  return false
}
