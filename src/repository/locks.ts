import { LifeboatError } from '../domain/errors.ts'
import type { Lock, ObjectLocks } from '../storage/storage.ts'
import type { Place, Stoppable } from './backup-folder.ts'
import { backupPrefix, inProgressKey } from './layout.ts'

/** True while the bucket keeps the object, whoever asks for its removal. */
export function isLocked(lock: Lock | undefined, now: Date): lock is Lock {
  return lock !== undefined && (lock.until === null || lock.until > now)
}

/** In words: "until …", or that somebody must lift it. */
export function lockInWords({ until }: Lock): string {
  return until === null ? 'by a legal hold, until somebody lifts it' : `until ${until.toISOString()}`
}

/** The lock that keeps a backup the longest; null when none of its objects is locked (any more). */
export async function lockOfFolder(place: Place, id: string, now: Date, options: Stoppable = {}): Promise<Lock | null> {
  let longest: Lock | null = null
  for await (const key of keysOf(place, id, options)) {
    const lock = (await place.storage.head(key, options))?.lock
    if (!isLocked(lock, now)) continue
    if (lock.until === null) return lock
    if (longest === null || longest.until === null || lock.until > longest.until) longest = lock
  }
  return longest
}

/** Does something to the lock of each object of these backups. Nothing where no locks are wanted. */
export async function changeLocks(
  place: Place,
  ids: readonly string[],
  change: (locks: ObjectLocks, key: string) => Promise<void>,
  options: Stoppable = {},
): Promise<void> {
  const { locks } = place.storage
  if (locks === undefined) return
  for (const id of ids) {
    for await (const key of keysOf(place, id, options)) {
      try {
        await change(locks, key)
      } catch (error) {
        // Removed meanwhile, as a file that is no artifact may be.
        if (!(error instanceof LifeboatError && error.code === 'object-missing')) throw error
      }
    }
  }
}

async function* keysOf({ storage, cluster }: Place, id: string, options: Stoppable): AsyncGenerator<string> {
  const claim = inProgressKey(cluster, id)
  for await (const item of storage.list(backupPrefix(cluster, id), options)) {
    if ('key' in item && item.key !== claim) yield item.key
  }
}
