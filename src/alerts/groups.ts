import type { Alert, AlertGroup } from './alert.ts'
import { backups } from './backups.ts'
import { drills } from './drills.ts'
import { external } from './external.ts'
import { itself, watchdog } from './itself.ts'
import { jobs } from './jobs.ts'
import { objectives } from './objectives.ts'
import { repositories } from './repositories.ts'
import { verification } from './verification.ts'
import { wal } from './wal.ts'

/** All rules, in the order in which people read them. */
export const groups: readonly AlertGroup[] = [
  backups,
  external,
  verification,
  objectives,
  wal,
  repositories,
  jobs,
  itself,
  drills,
  watchdog,
].filter(({ alerts }) => alerts.length > 0)

export const alerts: readonly Alert[] = groups.flatMap((group) => group.alerts)
