import { LifeboatError } from '../domain/errors.ts'
import type { JobParams } from '../runner/job.ts'

/** How far a verification replays beyond the end of a physical backup: to a moment, or all the WAL that there is. */
export type ReplayTarget =
  | 'latest'
  | {
      /** To the millisecond, rounded down. */
      readonly at: Date
      /** To the microsecond, RFC 3339 in UTC. */
      readonly text: string
    }

/** RFC 3339, or as PostgreSQL is told (`targetTime`); in UTC. */
const pattern = /^(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2}:\d{2}(?:\.\d{1,6})?)(?:Z|\+00)$/

/**
 * What the params of a run say; null: to the backup's own end.
 *
 * @throws LifeboatError `usage-invalid`
 */
export function replayTarget({ at, database }: JobParams): ReplayTarget | null {
  if (at === undefined || at === null) return null
  if (typeof database === 'string')
    throw new LifeboatError('usage-invalid', 'a moment and a database exclude each other', {
      hint: 'a moment is replayed from a physical backup, which holds all databases',
    })
  if (at === 'latest') return at
  const [, day = '', time = ''] = pattern.exec(String(at)) ?? []
  const text = `${day}T${time}Z`
  const moment = new Date(text)
  if (Number.isNaN(moment.getTime()))
    throw new LifeboatError('usage-invalid', `${JSON.stringify(at)} is not a moment`, {
      hint: 'give it in UTC, e.g. 2027-01-01T12:00:00Z, or latest',
    })
  return { at: moment, text }
}

/** For words. */
export function targetText(target: ReplayTarget): string {
  return target === 'latest' ? target : target.text
}
