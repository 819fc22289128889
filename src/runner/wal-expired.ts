import type { History } from './history.ts'

type Facts = Pick<History, 'fact' | 'keepFact'>

/** WAL of one timeline, in one repository. */
export interface ExpiredWal {
  readonly repository: string
  readonly systemIdentifier: string
  readonly timeline: number
}

const factName = 'wal-expired'

/**
 * Remembers, beyond restarts, up to which segment WAL has expired: what the archive still has of it is not to be shipped
 * again. Where the note is lost, it is shipped once more, and expires once more.
 */
export function noteExpiredWal(facts: Facts, wal: ExpiredWal, lastSegment: string): void {
  const kept = read(facts)
  const key = keyOf(wal)
  if (lastSegment <= (kept[key] ?? '')) return
  kept[key] = lastSegment
  facts.keepFact(factName, JSON.stringify(kept))
}

/** The name of the last segment that went; null: none did. */
export function lastExpiredWal(facts: Facts, wal: ExpiredWal): string | null {
  return read(facts)[keyOf(wal)] ?? null
}

function read(facts: Facts): Record<string, string> {
  const kept: Record<string, string> = Object.create(null)
  return Object.assign(kept, JSON.parse(facts.fact(factName) ?? '{}'))
}

function keyOf({ repository, systemIdentifier, timeline }: ExpiredWal): string {
  return `${systemIdentifier}/${timeline}/${repository}`
}
