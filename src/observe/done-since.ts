import { isBackupJob, type JobName } from '../runner/job.ts'
import type { Catalog } from './catalog.ts'
import { countingBackups, requiredDatabases } from './questions.ts'

/** Another sidecar, which this one stood by for, has a clock of its own. */
const clocksApartMs = 60_000

/**
 * Whether the repositories show that a scheduled run of this moment was made, by whomever: every database was dumped since,
 * a physical backup was taken, or something was verified. Of expiry nothing stays to be seen; it costs little to do it again.
 */
export function wasDoneSince(catalog: Catalog, job: JobName, slot: Date): boolean {
  const since = slot.getTime() - clocksApartMs
  if (job === 'verify') {
    const proofs = catalog.repositories.flatMap((one) => [...one.proofs.values()].flat())
    return proofs.some(({ finishedAt }) => finishedAt.getTime() >= since && finishedAt <= catalog.at)
  }
  if (!isBackupJob(job)) return false
  const taken = catalog.repositories
    .flatMap((one) => countingBackups(catalog, one))
    .filter(({ startedAt }) => startedAt.getTime() >= since)
  // A full one is more than the incremental one that was wanted.
  if (job !== 'dump') return taken.some(({ type }) => type === job || type === 'full')
  const dumped = taken.filter(({ type }) => type === 'dump').map(({ database }) => database)
  const required = requiredDatabases(catalog)
  return required !== null && required.length > 0 && required.every((database) => dumped.includes(database))
}
