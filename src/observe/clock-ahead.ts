import type { Logger } from 'pino'
import type { Catalog } from './catalog.ts'
import { isClockAhead } from './questions.ts'

/** Tells once of every backup that is dated into the future, and again only when it was gone in between. */
export function createClockAheadReport(log: Logger): (catalog: Catalog) => void {
  let told: ReadonlySet<string> = new Set()
  return (catalog) => {
    const found = new Set<string>()
    for (const { name, backups } of catalog.repositories) {
      for (const backup of backups) {
        if (!isClockAhead(catalog, backup)) continue
        const key = `${name} ${backup.id}`
        found.add(key)
        if (told.has(key)) continue
        const about = { repository: name, backup: backup.id, startedAt: backup.startedAt, note: 'clock-ahead' }
        log.warn(about, 'a backup is dated into the future: it counts for nothing until then')
      }
    }
    told = found
  }
}
