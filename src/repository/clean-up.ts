import { randomUUID } from 'node:crypto'
import { throwIfStopped } from '../storage/failures.ts'
import { inspectFolder, type Place, removeFolder, type Stoppable } from './backup-folder.ts'
import { type InProgress, serializeInProgress } from './in-progress.ts'
import { artifactKey, inProgressKey, manifestKey } from './layout.ts'

export interface CleanUpOptions extends Stoppable {
  /** Whether the writer of a backup is to be taken for dead; null when there is no (readable) claim. */
  readonly isLapsed: (inProgress: InProgress | null, id: string) => boolean | Promise<boolean>
}

/** Cleans up one folder; true if it was removed. See `Repository.cleanUp`. */
export async function cleanUpFolder(place: Place, id: string, options: CleanUpOptions): Promise<boolean> {
  const { storage, cluster } = place
  const { isLapsed, signal } = options
  const stoppable = signal ? { signal } : {}
  throwIfStopped(signal)
  const folder = await inspectFolder(place, id, stoppable)
  if (folder === null) {
    // Killed between the last object and its folder. Nobody writes this key, and to remove it takes an empty folder along; a
    // writer that has just made the folder makes it again.
    await storage.remove(artifactKey(cluster, id, 'nothing'), stoppable)
    return false
  }
  if (folder.state === 'complete' && folder.inProgress === null) return false
  if (!(await isLapsed(folder.inProgress, id))) return false
  await place.fence?.(stoppable)
  if (folder.state === 'complete') {
    await storage.remove(inProgressKey(cluster, id), stoppable)
    return false
  }
  if (folder.inProgress !== null) {
    // The writer may only have been suspended. It looks for its token before and after it publishes: take it away. The
    // heartbeat stays old, so that the folder remains lapsed if this clean-up is interrupted.
    const taken = { ...folder.inProgress, token: randomUUID() }
    await storage.put(inProgressKey(cluster, id), serializeInProgress(taken), stoppable)
  }
  if ((await storage.head(manifestKey(cluster, id), stoppable)) !== null) {
    // Published at the last moment: it is whole, and only loses the claim.
    await storage.remove(inProgressKey(cluster, id), stoppable)
    return false
  }
  await removeFolder(place, id, stoppable)
  // One that was published meanwhile has no artifacts any more. Its writer sees that too, unless it has died.
  await storage.remove(manifestKey(cluster, id), stoppable)
  return true
}
