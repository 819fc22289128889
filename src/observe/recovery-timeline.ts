import type { WalCoverage } from '../domain/coverage.ts'
import type { PlanBackup } from '../domain/recovery-plan.ts'
import type { WalClockState } from './wal-state.ts'

interface Question {
  readonly backups: readonly PlanBackup[]
  readonly coverage: WalCoverage
  /** As it was last seen. */
  readonly server: Pick<WalClockState, 'systemIdentifier' | 'timeline'> | null
  readonly systemIdentifier: string
}

/**
 * The timeline to which a recovery goes when nobody says: the server's. Where it is not known, or its history is not stored
 * yet, it is the newest one of which there is WAL, or a backup, and to which a backup leads: a history file alone, which
 * somebody's trial of a restore may have left, counts for nothing.
 */
export function newestTimeline({ backups, coverage, server, systemIdentifier }: Question): number {
  const { timelines } = coverage
  if (server?.systemIdentifier === systemIdentifier && timelines.isKnown(server.timeline)) return server.timeline
  const present = new Set([...coverage.present(), ...backups.map(({ stop }) => stop.timeline)])
  const reached = [...present].filter((one) => backups.some(({ start }) => timelines.leadsTo(start, one)))
  return Math.max(1, ...(reached.length > 0 ? reached : present))
}
