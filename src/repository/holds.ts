import { LifeboatError } from '../domain/errors.ts'
import type { ObjectInfo } from '../storage/storage.ts'
import { type Place, readInProgress, readWhole, type Stoppable } from './backup-folder.ts'
import { type Hold, type HoldBody, parseHold, serializeHold } from './hold.ts'
import { heldBackupId, holdKey, holdsPrefix, manifestKey } from './layout.ts'

export interface HoldEntry {
  readonly key: string
  readonly backupId: string
  readonly info: ObjectInfo
}

/** A hold that was read; of one that cannot be understood, what is wrong: it holds all the same. */
export type ReadHold = { readonly hold: Hold } | { readonly problem: LifeboatError }

const maxHoldBytes = 64 * 1024

/** See `Repository.hold`. */
export async function putHold(place: Place, body: HoldBody, options: Stoppable = {}): Promise<void> {
  const { storage, cluster } = place
  const { backupId } = body
  const key = holdKey(cluster, backupId)
  const former = await readHold(place, backupId, options)
  await storage.put(key, Buffer.from(serializeHold(body)), options)
  // Expiry claims the backup and then looks for a hold; we put the hold and then look for the claim. One sees the other.
  const claim = await readInProgress(place, backupId, options)
  const isThere = (await storage.head(manifestKey(cluster, backupId), options)) !== null
  if (isThere && claim?.purpose !== 'expire') return
  if (former === null || !isThere) await storage.remove(key)
  if (!isThere) {
    throw new LifeboatError('not-found', `there is no backup ${backupId}`, { hint: '`lifeboat list` shows them' })
  }
  throw beingRemoved(backupId)
}

/** See `Repository.releaseHold`. */
export async function removeHold({ storage, cluster }: Place, id: string, options: Stoppable = {}): Promise<boolean> {
  const key = holdKey(cluster, id)
  const was = (await storage.head(key, options)) !== null
  await storage.remove(key, options)
  return was
}

/** See `Repository.listHolds`. */
export async function* listHolds({ storage, cluster }: Place, options: Stoppable = {}): AsyncGenerator<HoldEntry> {
  for await (const item of storage.list(holdsPrefix(cluster), { ...options, delimiter: '/' })) {
    if (!('key' in item)) continue
    const backupId = heldBackupId(cluster, item.key)
    if (backupId !== null) yield { key: item.key, backupId, info: item }
  }
}

/** See `Repository.readHold`. */
export async function readHold(place: Place, id: string, options: Stoppable = {}): Promise<ReadHold | null> {
  const key = holdKey(place.cluster, id)
  try {
    const { bytes } = await readWhole(place.storage, key, maxHoldBytes, options)
    return { hold: parseHold(bytes ?? Buffer.alloc(0), { backupId: id, key }) }
  } catch (error) {
    if (!(error instanceof LifeboatError)) throw error
    if (error.code === 'object-missing') return null
    if (error.code === 'cancelled') throw error
    return { problem: error }
  }
}

/** True while a hold keeps its backup; one that cannot be understood does. */
export function holds(read: ReadHold | null, now: Date): boolean {
  if (read === null) return false
  return 'problem' in read || read.hold.until === null || Date.parse(read.hold.until) > now.getTime()
}

export function beingRemoved(id: string): LifeboatError {
  return new LifeboatError('conflict', `backup ${id} is being removed by expiry`, {
    hint: 'choose another backup, or try again in a quarter of an hour: an expiry that died has lapsed by then',
  })
}
