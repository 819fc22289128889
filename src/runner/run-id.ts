import { randomBytes } from 'node:crypto'
import { compactUtc } from '../domain/backup.ts'
import type { JobName } from './job.ts'

/**
 * A new run id, `<UTC yyyymmddThhmmssZ>-<job>-<6 hex>`: sorts by time, fits a URL as it is. `isTaken` is asked about each
 * candidate: six hex digits are few when a thousand runs begin in one second.
 */
export function newRunId(
  at: Date,
  job: JobName,
  isTaken: (id: string) => boolean,
  random: () => string = () => randomBytes(3).toString('hex'),
): string {
  for (;;) {
    const id = `${compactUtc(at)}-${job}-${random()}`
    if (!isTaken(id)) return id
  }
}

/** True for a well-formed run id. */
export function isRunId(text: string): boolean {
  return /^\d{8}T\d{6}Z-[a-z][a-z-]*-[0-9a-f]{6}$/.test(text)
}
