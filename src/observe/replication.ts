import type { ObjectDescription } from '../storage/storage.ts'
import type { BackupSummary, ReplicationSummary } from './catalog.ts'
import type { RememberedObjects } from './stored-artifacts.ts'

/** Of so many backups it is looked how far their copies are, the newest. */
const newestBackups = 10

/** Requests of one look. */
const mostAsked = 3

/**
 * Makes the look at what a bucket has replicated, by the manifests, which come last. It costs one request for each new
 * backup, and a few while some wait. Gives null where the bucket does not replicate.
 */
export function createReplicationLook(
  objects: Pick<RememberedObjects, 'describe'>,
): (backups: readonly BackupSummary[], signal: AbortSignal) => Promise<ReplicationSummary | null> {
  let known: ReadonlyMap<string, ObjectDescription['replication']> = new Map()
  return async (backups, signal) => {
    const newest = backups.toSorted((a, b) => b.finishedAt.getTime() - a.finishedAt.getTime()).slice(0, newestBackups)
    const next = new Map<string, ObjectDescription['replication']>()
    let asked = 0
    for (const { id } of newest) {
      const former = known.get(id)
      // What failed may be tried again by the server, which makes it pending or done.
      const isFinal = former !== undefined && former !== 'pending' && former !== 'failed'
      if (!isFinal && asked === mostAsked) {
        if (former !== undefined) next.set(id, former)
        continue
      }
      if (!isFinal) asked += 1
      const is = isFinal ? former : (await objects.describe(id, 'manifest.json', { signal }))?.replication
      next.set(id, is ?? null)
      // A bucket that leaves out its newest object copies none: the others need no look, now or later.
      if (next.size === 1 && (is === null || is === undefined || is === 'replica')) {
        for (const { id: other } of newest) next.set(other, null)
        break
      }
    }
    known = next
    const count = (state: ObjectDescription['replication']) => [...next.values()].filter((is) => is === state).length
    const summary = { pending: count('pending'), completed: count('completed'), failed: count('failed') }
    return Object.values(summary).some((number) => number > 0) ? Object.freeze(summary) : null
  }
}
