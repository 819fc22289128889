import type { Logger } from 'pino'
import { toFailure } from '../domain/errors.ts'
import type { DrillState } from './state.ts'

/** What the metrics tell of drills. A state file that cannot be read costs these two, and no others. */
export function shownDrills(state: DrillState, log: Logger) {
  const known = <T>(look: () => T): T | null => {
    try {
      return look()
    } catch (error) {
      log.warn(toFailure(error), 'the state of drills cannot be read')
      return null
    }
  }
  return { current: () => known(() => state.show()), lastProvenAt: () => known(() => state.lastProvenAt()) }
}
