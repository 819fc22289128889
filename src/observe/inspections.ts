import { join } from 'node:path'
import type { Logger } from 'pino'
import { toFailure } from '../domain/errors.ts'
import { type Inspection, notInspected } from '../domain/external.ts'
import { type FileFacts, identityOf } from '../domain/external-file.ts'
import type { KnownFile } from './external-catalog.ts'

/** Keeps what was found about files, so that a restart reads nothing twice. The history has it. */
export interface InspectionStore {
  /** By the name of the file: the identity of its bytes, and what was found, as text. */
  inspections(watch: string): ReadonlyMap<string, { readonly identity: string; readonly found: string }>
  keepInspection(watch: string, name: string, identity: string, found: string): void
}

export interface InspectionsOptions {
  readonly place: { readonly name: string; readonly directory: string }
  readonly inspect: (path: string, signal: AbortSignal) => Promise<Inspection>
  readonly store: InspectionStore
  readonly log: Logger
  readonly onHint: () => void
}

export interface Inspections {
  /** What is known of these very bytes; null: they have not been read. */
  known(name: string, facts: FileFacts): Inspection | null
  /** Has these files read, in this order, in the place of those that still waited. */
  request(files: readonly KnownFile[]): void
  close(): Promise<void>
}

/** Reads files in the background, one after the other: reading several would only make the disk slow for the server. */
export function createInspections(options: InspectionsOptions): Inspections {
  const { place, inspect, store, log, onHint } = options
  const closing = new AbortController()
  const found = new Map<string, { readonly identity: string; readonly inspection: Inspection }>()
  let waiting: readonly KnownFile[] = []
  let work: Promise<void> | null = null
  let loaded = false

  function load(): void {
    loaded = true
    for (const [name, kept] of store.inspections(place.name)) {
      try {
        found.set(name, { identity: kept.identity, inspection: JSON.parse(kept.found) as Inspection })
      } catch (error) {
        log.warn(
          { watch: place.name, file: name, ...toFailure(error) },
          'what was known of a file cannot be read: it is read anew',
        )
      }
    }
  }

  async function readOne({ name, facts }: KnownFile): Promise<void> {
    const inspection = await lookInto(name)
    const identity = identityOf(facts)
    found.set(name, { identity, inspection })
    const about = { watch: place.name, file: name, ...inspection }
    if (inspection.state === 'sound') log.info(about, 'file is a whole dump')
    else log.error(about, inspection.state === 'unchecked' ? 'file could not be checked' : 'file is no whole dump')
    if (inspection.state !== 'unchecked') store.keepInspection(place.name, name, identity, JSON.stringify(inspection))
  }

  /** What cannot even be tried is not tried for ever. */
  async function lookInto(name: string): Promise<Inspection> {
    try {
      return await inspect(join(place.directory, name), closing.signal)
    } catch (error) {
      if (closing.signal.aborted) throw error
      return notInspected(toFailure(error).message)
    }
  }

  async function readAll(): Promise<void> {
    for (let next = waiting[0]; next !== undefined && !closing.signal.aborted; next = waiting[0]) {
      waiting = waiting.slice(1)
      if (known(next.name, next.facts) !== null) continue
      try {
        await readOne(next)
      } catch (error) {
        if (!closing.signal.aborted)
          log.error({ watch: place.name, file: next.name, ...toFailure(error) }, 'inspection failed')
      }
      if (!closing.signal.aborted) onHint()
    }
  }

  function known(name: string, facts: FileFacts): Inspection | null {
    if (!loaded) load()
    const kept = found.get(name)
    return kept?.identity === identityOf(facts) ? kept.inspection : null
  }

  return {
    known,
    request(files) {
      waiting = files
      work ??= readAll().finally(() => {
        work = null
      })
    },
    async close() {
      closing.abort(new Error('the watch is closed'))
      await work
    },
  }
}
