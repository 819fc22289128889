import { hostname } from 'node:os'
import { pid } from 'node:process'
import { checked, integer, nonEmptyText, objectOf, ShapeError, timestamp } from './shape.ts'

/**
 * The contents of `.inprogress`: who is writing a backup, and when it last gave a sign of life. The token is the fence:
 * whoever finds another one there has lost the folder and stops.
 */
export interface InProgress {
  readonly runId: string
  readonly token: string
  readonly host: string
  readonly pid: number
  readonly startedAt: string
  readonly heartbeatAt: string
}

const shape = objectOf<InProgress>({
  runId: nonEmptyText,
  token: nonEmptyText,
  host: nonEmptyText,
  pid: integer(1),
  startedAt: timestamp,
  heartbeatAt: timestamp,
})

/** A claim of this process from now on. */
export function claim(runId: string, token: string, now: Date): InProgress {
  const at = now.toISOString()
  return { runId, token, host: hostname(), pid, startedAt: at, heartbeatAt: at }
}

export function serializeInProgress(inProgress: InProgress): Buffer {
  return Buffer.from(`${JSON.stringify(inProgress, null, 2)}\n`)
}

/** Null if it is not what we write: then nobody is known to be at work. */
export function parseInProgress(bytes: Buffer): InProgress | null {
  try {
    const value: unknown = JSON.parse(bytes.toString())
    return checked(shape, value)
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof ShapeError) return null
    throw error
  }
}
