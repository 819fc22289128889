import type { AlertGroup } from './alert.ts'

/** Recoveries that are rehearsed: the place for their alerts (overdue, failed, too slow). Empty groups are not written. */
export const drills: AlertGroup = { name: 'lifeboat.drills', about: 'Recoveries that are rehearsed', alerts: [] }
