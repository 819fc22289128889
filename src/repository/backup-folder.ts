import { LifeboatError } from '../domain/errors.ts'
import type { ObjectInfo, Storage } from '../storage/storage.ts'
import { type InProgress, parseInProgress } from './in-progress.ts'
import { backupPrefix, inProgressKey, manifestKey } from './layout.ts'

/** One cluster's part of a storage. */
export interface Place {
  readonly storage: Storage
  readonly cluster: string
  /** Called before something is published or removed; fails when that is another one's to do. */
  readonly fence?: (options: Stoppable) => Promise<void>
}

export interface Stoppable {
  readonly signal?: AbortSignal
}

/** What a folder below `backups` is: `complete` once it has a manifest, whatever else is in it. */
export interface BackupFolder {
  readonly id: string
  readonly state: 'complete' | 'in-progress' | 'incomplete'
  readonly manifest: ObjectInfo | null
  readonly inProgress: InProgress | null
}

/** An `.inprogress` is a few hundred bytes; what is much larger is not ours. */
const maxInProgressBytes = 64 * 1024

/** Looks at a backup's folder; null if it holds nothing. An `.inprogress` that cannot be understood counts as none. */
export async function inspectFolder(place: Place, id: string, options: Stoppable = {}): Promise<BackupFolder | null> {
  // In this order. A writer publishes the manifest and then removes `.inprogress`: the other way round, one that does
  // both between our two looks would seem to have left an incomplete backup.
  const inProgress = await readInProgress(place, id, options)
  const manifest = await place.storage.head(manifestKey(place.cluster, id), options)
  if (manifest !== null) return { id, state: 'complete', manifest, inProgress }
  if (inProgress !== null) return { id, state: 'in-progress', manifest, inProgress }
  for await (const _ of place.storage.list(backupPrefix(place.cluster, id), options)) {
    return { id, state: 'incomplete', manifest, inProgress }
  }
  return null
}

/** Who is writing (or removing) the backup; null if nobody is. */
export async function readInProgress(place: Place, id: string, options: Stoppable = {}): Promise<InProgress | null> {
  return readClaim(place.storage, inProgressKey(place.cluster, id), options)
}

/** The claim that is stored under a key; null if there is none, or it cannot be understood. */
export async function readClaim(storage: Storage, key: string, options: Stoppable = {}): Promise<InProgress | null> {
  try {
    const { bytes } = await readWhole(storage, key, maxInProgressBytes, options)
    return bytes === null ? null : parseInProgress(bytes)
  } catch (error) {
    if (error instanceof LifeboatError && error.code === 'object-missing') return null
    throw error
  }
}

/**
 * Removes the folder of a backup: the manifest first, so that what is left after an interruption is no backup any more;
 * `.inprogress` last, so that until then it tells whose it was.
 */
export async function removeFolder(place: Place, id: string, options: Stoppable = {}): Promise<void> {
  const { storage, cluster } = place
  await storage.remove(manifestKey(cluster, id), options)
  const last = inProgressKey(cluster, id)
  const keys: string[] = []
  for await (const item of storage.list(backupPrefix(cluster, id), options)) {
    if ('key' in item && item.key !== last) keys.push(item.key)
  }
  for (const key of keys) await storage.remove(key, options)
  await storage.remove(last, options)
}

/** Reads a small object. The bytes are null, and not read, where there are more than `limit`. Fails with `object-missing`. */
export async function readWhole(
  storage: Storage,
  key: string,
  limit: number,
  options: Stoppable,
): Promise<{ readonly info: ObjectInfo; readonly bytes: Buffer | null }> {
  const { info, body } = await storage.get(key, options)
  if (info.bytes > limit) {
    body.destroy()
    return { info, bytes: null }
  }
  const chunks: Buffer[] = []
  // Events, not `for await`: three times as fast for one chunk, and most have one.
  const bytes = await new Promise<Buffer>((resolve, reject) => {
    body.on('data', (chunk: Buffer) => chunks.push(chunk))
    body.on('error', reject)
    body.on('end', () => resolve(chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks)))
  })
  return { info, bytes }
}
