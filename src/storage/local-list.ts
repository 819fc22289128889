import { opendir } from 'node:fs/promises'
import { isMissing, throwIfStopped } from './failures.ts'
import { compareKeys, isSegment } from './keys.ts'
import type { Reader } from './reader.ts'
import type { Root } from './root.ts'
import type { CommonPrefix, ObjectInfo } from './storage.ts'
import { temporaryFolder } from './temporary.ts'

/** Entries looked at together. */
const batchEntries = 64

/** A directory tree, and what looks at files in it. */
export interface Tree {
  readonly root: Root
  readonly reader: Reader
}

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
export async function* listFolder(tree: Tree, wanted: Wanted): AsyncGenerator<ObjectInfo | CommonPrefix> {
  const root = await tree.root.path()
  const path = await tree.root.folder(wanted.folder.slice(0, -1))
  if (root === null || path === null) return
  const entries = await readEntries(path, wanted)
  for (let from = 0; from < entries.length; from += batchEntries) {
    throwIfStopped(wanted.signal)
    const batch = entries.slice(from, from + batchEntries)
    const found = await Promise.all(batch.map((entry) => look(tree, root, entry, wanted)))
    for (const [index, { key, isFolder }] of batch.entries()) {
      throwIfStopped(wanted.signal)
      const item = found[index]
      if (isFolder && !wanted.fold) yield* listFolder(tree, { ...wanted, folder: key })
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

/** What is to be yielded for an entry; null if nothing is, since it has gone meanwhile or is not folded. */
async function look(tree: Tree, root: string, entry: Entry, wanted: Wanted): Promise<ObjectInfo | CommonPrefix | null> {
  if (!entry.isFolder)
    return (await tree.reader.ask({ what: 'entry', key: entry.key }, root, wanted.signal))?.info ?? null
  if (!wanted.fold) return null
  // Only where a part of what is in it is wanted must it be known whether there is any.
  if (!wanted.startAfter.startsWith(entry.key)) return { prefix: entry.key }
  for await (const _ of listFolder(tree, { ...wanted, folder: entry.key, fold: false })) return { prefix: entry.key }
  return null
}
