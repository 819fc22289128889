import { type ConnectionSource, type Session, withSession } from '../postgres/connection.ts'
import { listSlots } from '../postgres/slots.ts'
import type { SlotState } from './wal-state.ts'

export interface SlotsLookOptions {
  readonly source: ConnectionSource
  readonly maintenanceDatabase: string
  readonly limitBytes: number
}

/** Looks at the replication slots of the server: what they keep, the server's disk must hold. */
export function createSlotsLook({ source, maintenanceDatabase: database, limitBytes }: SlotsLookOptions) {
  return (signal: AbortSignal): Promise<readonly SlotState[]> =>
    withSession(source, { database, signal }, (session) => lookAtSlots(session, limitBytes))
}

/**
 * Those that stay, and of the temporary ones (their names are new each time, as pg_basebackup makes them) those that keep
 * too much.
 */
export async function lookAtSlots(session: Session, limitBytes: number): Promise<readonly SlotState[]> {
  const slots = await listSlots(session)
  return slots
    .map((slot) => ({ ...slot, overLimit: slot.retainedBytes !== null && slot.retainedBytes > limitBytes }))
    .filter(({ temporary, overLimit }) => !temporary || overLimit)
    .map(({ name, type, active, walStatus, retainedBytes, overLimit }) =>
      Object.freeze({ name, type, active, walStatus, retainedBytes, overLimit }),
    )
}
