import { randomBytes, randomUUID } from 'node:crypto'
import type { Clock } from '../clock.ts'
import { LifeboatError } from '../domain/errors.ts'
import type { ObjectInfo } from '../storage/storage.ts'
import { type Place, readInProgress, type Stoppable } from './backup-folder.ts'
import { Heartbeat } from './heartbeat.ts'
import { beingRemoved } from './holds.ts'
import { claim, type Purpose, serializeInProgress } from './in-progress.ts'
import { usedBackupId, useKey, usesPrefix } from './layout.ts'

export interface UseEntry {
  readonly key: string
  readonly backupId: string
  readonly info: ObjectInfo
}

export interface UseOptions extends Stoppable {
  readonly runId: string
  readonly purpose: Exclude<Purpose, 'expire'>
}

/** A backup that must stay while it is read. */
export interface BackupUse {
  /** Takes the mark away. Never fails: a mark that stays lapses. */
  release(): Promise<void>
}

/** See `Repository.useBackup`. */
export async function markUse(place: Place, clock: Clock, id: string, options: UseOptions): Promise<BackupUse> {
  const { storage, cluster } = place
  const { runId, purpose, signal } = options
  const stoppable = signal ? { signal } : {}
  const key = useKey(cluster, id, randomBytes(6).toString('hex'))
  const mine = claim(runId, randomUUID(), clock.now(), purpose)
  await storage.put(key, serializeInProgress(mine), stoppable)
  const ended = new AbortController()
  const heartbeat = new Heartbeat({ storage, clock, key, claim: mine, ended: ended.signal, fenced: false })
  const release = async () => {
    ended.abort(new LifeboatError('cancelled', `backup ${id} is not in use any more`))
    await heartbeat.settled()
    await storage.remove(key).catch(() => {})
  }
  try {
    // Expiry claims the backup and then looks for marks; we put the mark and then look for the claim. One sees the other.
    if ((await readInProgress(place, id, stoppable))?.purpose === 'expire') throw beingRemoved(id)
    return { release }
  } catch (error) {
    await release()
    throw error
  }
}

/** See `Repository.listUses`. */
export async function* listUses(
  { storage, cluster }: Place,
  { of, ...options }: Stoppable & { readonly of?: string } = {},
): AsyncGenerator<UseEntry> {
  const prefix = of === undefined ? usesPrefix(cluster) : `${usesPrefix(cluster)}${of}-`
  for await (const item of storage.list(prefix, { ...options, delimiter: '/' })) {
    if (!('key' in item)) continue
    const backupId = usedBackupId(cluster, item.key)
    if (backupId !== null) yield { key: item.key, backupId, info: item }
  }
}
