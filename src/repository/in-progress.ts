import { hostname } from 'node:os'
import { pid } from 'node:process'
import { integer, nonEmptyText, objectOf, oneOf, parseOrNull, timestamp } from './shape.ts'

/** What is being done with a backup that exists. Whoever writes a new one says nothing. */
const purposes = ['verify', 'restore', 'expire'] as const
export type Purpose = (typeof purposes)[number]

/** A claim without a sign of life for so long is dead, milliseconds, unless something better is known of its holder. */
export const lapsedMs = 10 * 60_000

/**
 * The contents of `.inprogress` and of the marks of use: who is at work on a backup, and when it last gave a sign of life.
 * The token is the fence: whoever finds another one there has lost the folder and stops.
 */
export interface InProgress {
  readonly runId: string
  readonly token: string
  readonly host: string
  readonly pid: number
  readonly startedAt: string
  readonly heartbeatAt: string
  readonly purpose?: Purpose
}

const shape = objectOf<InProgress>(
  {
    runId: nonEmptyText,
    token: nonEmptyText,
    host: nonEmptyText,
    pid: integer(1),
    startedAt: timestamp,
    heartbeatAt: timestamp,
    purpose: oneOf(purposes),
  },
  ['purpose'],
)

/** A claim of this process from now on. */
export function claim(runId: string, token: string, now: Date, purpose?: Purpose): InProgress {
  const at = now.toISOString()
  const mine = { runId, token, host: hostname(), pid, startedAt: at, heartbeatAt: at }
  return purpose === undefined ? mine : { ...mine, purpose }
}

/** True when a claim was silent for `lapsedMs`, as far as its clock and ours agree. */
export function isSilent(heartbeatAt: Date, now: Date): boolean {
  return now.getTime() - heartbeatAt.getTime() > lapsedMs
}

export function serializeInProgress(inProgress: InProgress): Buffer {
  return Buffer.from(`${JSON.stringify(inProgress, null, 2)}\n`)
}

/** Null if it is not what we write: then nobody is known to be at work. */
export function parseInProgress(bytes: Buffer): InProgress | null {
  return parseOrNull(shape, bytes)
}
