import { randomUUID } from 'node:crypto'
import type { Clock } from '../clock.ts'
import { LifeboatError } from '../domain/errors.ts'
import { type Place, readInProgress, removeFolder, type Stoppable } from './backup-folder.ts'
import { beingRemoved, holds, readHold } from './holds.ts'
import { claim, isSilent, serializeInProgress } from './in-progress.ts'
import { inProgressKey, manifestKey } from './layout.ts'
import { lockInWords, lockOfFolder } from './locks.ts'
import { listUses, type UseEntry } from './uses.ts'

export interface ExpireOptions extends Stoppable {
  readonly runId: string
  /** Backups that must be there and stay: else this one is needed after all. */
  readonly needs: readonly string[]
  /** Whether the holder of a mark of use is known to be dead. */
  readonly isDead: (use: UseEntry) => boolean
}

/**
 * Removes a backup that a plan lets go, unless it is held, in use or needed by now. It is claimed first: whoever puts a
 * hold or a mark of use looks for that claim afterwards, and we look for theirs, so that one of the two gives way. The
 * claim also tells the next clean-up whose half-removed folder it is.
 *
 * @throws LifeboatError `conflict` when it may not go any more; nothing was removed then
 */
export async function expireFolder(place: Place, clock: Clock, id: string, options: ExpireOptions): Promise<void> {
  const { storage, cluster } = place
  const { runId, needs, isDead, signal } = options
  const stoppable = signal ? { signal } : {}
  const key = inProgressKey(cluster, id)
  const other = await readInProgress(place, id, stoppable)
  if (other?.purpose === 'expire' && !isSilent(new Date(other.heartbeatAt), clock.now())) throw beingRemoved(id)
  // First: in a bucket that locks, a claim is one more version.
  const lock = await lockOfFolder(place, id, clock.now(), stoppable)
  if (lock !== null) throw stays(id, `it is locked ${lockInWords(lock)}`)
  const mine = claim(runId, randomUUID(), clock.now(), 'expire')
  // A full disk must not keep expiry from making room. Nobody can put a hold or a mark there either.
  const isClaimed = await storage.put(key, serializeInProgress(mine), stoppable).then(
    () => true,
    (error: unknown) => {
      if (error instanceof LifeboatError && error.code === 'disk-full') return false
      throw error
    },
  )
  const isOurs = async () => isClaimed && (await readInProgress(place, id))?.token === mine.token
  try {
    if (holds(await readHold(place, id, stoppable), clock.now())) throw stays(id, 'it is held')
    for await (const use of listUses(place, { ...stoppable, of: id })) {
      if (!isDead(use)) throw stays(id, 'it is in use')
    }
    for (const needed of needs) {
      const isThere = (await storage.head(manifestKey(cluster, needed), stoppable)) !== null
      if (!isThere) throw stays(id, `${needed}, which was to stay in its place, is gone`)
      const claimed = await readInProgress(place, needed, stoppable)
      if (claimed?.purpose === 'expire') throw stays(id, `${needed}, which was to stay in its place, is being removed`)
    }
    if (isClaimed && !(await isOurs())) throw beingRemoved(id)
    await place.fence?.(stoppable)
  } catch (error) {
    if (await isOurs()) await storage.remove(key)
    throw error
  }
  try {
    await removeFolder(place, id, stoppable)
  } catch (error) {
    if (isRefused(error)) await giveBack()
    throw error
  }
  /** Who may not remove the manifest has removed nothing: a claim that stayed would keep others from verifying or restoring it. */
  async function giveBack(): Promise<void> {
    const isWhole = (await storage.head(manifestKey(cluster, id)).catch(() => null)) !== null
    // The same rights may be missing here; the next expiry tries again.
    if (isWhole && (await isOurs())) await storage.remove(key).catch(() => {})
  }
}

/** Keys that may not do it, unlike a connection that broke, leave no doubt that it was not done. */
function isRefused(error: unknown): boolean {
  return error instanceof LifeboatError && error.code === 'storage-credentials'
}

function stays(id: string, why: string): LifeboatError {
  return new LifeboatError('conflict', `backup ${id} stays after all: ${why}`, {
    hint: 'the next expiry decides anew',
  })
}
