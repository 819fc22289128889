import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import { toFailure } from '../domain/errors.ts'
import { type Inspection, notInspected } from '../domain/external.ts'
import { type FileFacts, identityOf } from '../domain/external-file.ts'
import { brokenHint, type KnownFile } from './external-catalog.ts'

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
  readonly clock: Clock
  readonly log: Logger
  readonly onHint: () => void
}

export interface Inspections {
  /** What is known of these very bytes; null: they have not been read, or it is time to try again. */
  known(name: string, facts: FileFacts): Inspection | null
  /** Has these files read, in this order, in the place of those that still waited. */
  request(files: readonly KnownFile[]): void
  close(): Promise<void>
}

/** What cannot be opened is tried again so much later, or when its owner or mode was changed, milliseconds. */
const retryMs = 600_000

interface Found {
  readonly identity: string
  readonly inspection: Inspection
  readonly changed: number
  /** Monotonic. */
  readonly at: number
}

/** Reads files in the background, one after the other: reading several would only make the disk slow for the server. */
export function createInspections(options: InspectionsOptions): Inspections {
  const { place, inspect, store, clock, log, onHint } = options
  const closing = new AbortController()
  const found = new Map<string, Found>()
  let waiting: readonly KnownFile[] = []
  let work: Promise<void> | null = null
  let loaded = false

  function load(): void {
    loaded = true
    for (const [name, kept] of store.inspections(place.name)) {
      try {
        found.set(name, {
          identity: kept.identity,
          inspection: JSON.parse(kept.found) as Inspection,
          changed: 0,
          at: 0,
        })
      } catch (error) {
        log.warn(
          { watch: place.name, file: name, ...toFailure(error) },
          'what was known of a file cannot be read: it is read anew',
        )
      }
    }
  }

  async function readOne({ name, facts, database }: KnownFile): Promise<void> {
    const inspection = await lookInto(name, facts)
    const identity = identityOf(facts)
    found.set(name, { identity, inspection, changed: facts.changed, at: clock.monotonic() })
    const about = { watch: place.name, directory: place.directory, file: name, database, ...inspection }
    const isTold = inspection.state !== 'unchecked' && inspection.state !== 'unreadable'
    if (inspection.state === 'sound') log.info(about, 'file is a whole dump')
    else if (isTold) log.error({ ...about, hint: brokenHint }, 'file is no whole dump')
    else log.error(about, 'file could not be checked')
    if (isTold) store.keepInspection(place.name, name, identity, JSON.stringify(inspection))
  }

  /** What cannot even be tried is not tried for ever. */
  async function lookInto(name: string, { isDirectory }: FileFacts): Promise<Inspection> {
    const path = join(place.directory, name)
    const refusal = (await whyUnreadable(path)) ?? (isDirectory ? await whyUnreadable(join(path, 'toc.dat')) : null)
    if (refusal !== null) return notInspected(refusal, 'unreadable')
    try {
      return await inspect(path, closing.signal)
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
    if (kept === undefined || kept.identity !== identityOf(facts)) return null
    const isOver = kept.changed !== facts.changed || clock.monotonic() - kept.at > retryMs
    return kept.inspection.state === 'unreadable' && isOver ? null : kept.inspection
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

/** Errors that speak of the file, and not of this machine or of one that has gone. */
const faults: ReadonlySet<string> = new Set(['EACCES', 'EPERM', 'EIO'])

/** The words of the system when a file cannot be opened; null when nothing speaks against it. */
async function whyUnreadable(path: string): Promise<string | null> {
  try {
    const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    await handle.close()
    return null
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    return faults.has(code ?? '') ? message : null
  }
}
