import type { HoldSummary } from './catalog.ts'

/** Where holds of files of other tools are kept; the history has it: nothing is written beside those. */
export interface ExternalHoldStore {
  externalHolds(): ReadonlyMap<string, string>
}

/** The holds of files of other tools, by id. The same object comes out until one comes, changes or goes. */
export function createExternalHolds(store: ExternalHoldStore): () => ReadonlyMap<string, HoldSummary> {
  let known = ''
  let summaries: ReadonlyMap<string, HoldSummary> = new Map()
  return () => {
    const found = store.externalHolds()
    const signature = JSON.stringify([...found])
    if (signature !== known) {
      known = signature
      summaries = new Map([...found].map(([id, text]) => [id, summarize(id, text)]))
    }
    return summaries
  }
}

/** One that cannot be read holds all the same. */
function summarize(backupId: string, text: string): HoldSummary {
  try {
    const { reason, until } = JSON.parse(text) as { reason?: unknown; until?: unknown }
    const ends = until === null ? null : new Date(typeof until === 'string' ? until : Number.NaN)
    if (typeof reason === 'string' && !Number.isNaN(ends?.getTime())) return { backupId, reason, until: ends }
  } catch {
    // As below.
  }
  return { backupId, reason: 'the hold cannot be read', until: null }
}
