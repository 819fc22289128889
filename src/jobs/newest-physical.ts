import { isDatedAhead, type Manifest, parseBackupId } from '../domain/backup.ts'
import { compareLsn } from '../domain/lsn.ts'
import type { Repository } from '../repository/repository.ts'
import { type NewestOptions, readableManifest } from './newest-dumps.ts'

export interface NewestPhysicalOptions extends NewestOptions {
  /** Only those that were consistent by then; null: whenever. */
  readonly until: Date | null
  /** The newest full and the newest incremental one; else the newest of either. */
  readonly ofEachType: boolean
}

/**
 * The newest complete physical backups of each cluster in a repository, by the place in the WAL where they are consistent.
 * What `newestDumps` passes over is passed over here.
 */
export async function newestPhysical(
  repository: Repository,
  { signal, now, log, without, until, ofEachType }: NewestPhysicalOptions,
): Promise<readonly Manifest[]> {
  const newest = new Map<string, Manifest>()
  const ahead: string[] = []
  for await (const id of repository.listBackups({ signal })) {
    if (parseBackupId(id)?.type === 'dump' || without?.has(id)) continue
    const manifest = await readableManifest(repository, id, signal)
    if (manifest?.physical === undefined) continue
    if (isDatedAhead([new Date(manifest.start.time), new Date(manifest.stop.time)], now)) {
      ahead.push(id)
      continue
    }
    if (until !== null && Date.parse(manifest.stop.time) > until.getTime()) continue
    const key = `${manifest.systemIdentifier} ${ofEachType ? manifest.type : ''}`
    const known = newest.get(key)
    if (known === undefined || comparePhysical(known, manifest) < 0) newest.set(key, manifest)
  }
  if (ahead.length > 0) {
    const about = { repository: repository.name, backups: ahead, note: 'clock-ahead' }
    log.warn(about, 'backups that are dated into the future are left out: name one by its id to use it all the same')
  }
  return [...newest.values()]
}

/** Order of physical backups of one cluster, oldest first. */
function comparePhysical(a: Manifest, b: Manifest): number {
  return (
    a.timeline - b.timeline || compareLsn(a.stop.lsn, b.stop.lsn) || Date.parse(a.stop.time) - Date.parse(b.stop.time)
  )
}
