import { lstat, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import type { Inspection } from '../domain/external.ts'
import { type FileFacts, type FileState, identityOf, inodeOf, isFinished } from '../domain/external-file.ts'
import type { FilePattern } from '../domain/file-pattern.ts'
import type { BackupSummary, ProofSummary } from './catalog.ts'
import { type DirectoryEvents, watchDirectory } from './directory-events.ts'
import { externalId, type KnownFile, newestOf, summaryOf, type WatchState, watchState } from './external-catalog.ts'
import { lockedFiles } from './file-locks.ts'
import { createInspections, type InspectionStore, type Inspections } from './inspections.ts'
import { factsAt, scanDirectory } from './scan.ts'
import { createIntern } from './summaries.ts'

/** A directory to watch; the configuration has it. */
export interface WatchedPlace {
  readonly name: string
  readonly directory: string
  readonly match: FilePattern
  readonly database: string | null
  readonly quietMs: number
  readonly maxAgeSeconds: number
  readonly minBytes: number
  readonly shrinkBelow: number
  readonly inspectNewest: number
}

export interface WatchedDirectoryOptions {
  readonly place: WatchedPlace
  readonly inspect: (path: string, signal: AbortSignal) => Promise<Inspection>
  readonly store: InspectionStore
  /** Proofs of its files by id, newest first. */
  readonly proofs: () => ReadonlyMap<string, readonly ProofSummary[]>
  readonly clock: Clock
  readonly log: Logger
  /** Something may be new: look again. Must not throw. */
  readonly onHint: () => void
}

/** A whole listing costs at most this share of the time between two of them. */
const scanShare = 0.01

/** Files that are no dumps, remembered for the renames to come. */
const mostOthers = 100_000

/**
 * The files of one directory that another tool fills. The first look lists everything; from then on only names of which
 * something was heard are looked at, and the whole listing again now and then, since events get lost.
 */
export class WatchedDirectory {
  readonly #options: WatchedDirectoryOptions
  readonly #events: DirectoryEvents
  readonly #inspections: Inspections
  readonly #files = new Map<string, KnownFile>()
  readonly #summaries = new WeakMap<KnownFile, BackupSummary>()
  readonly #intern = createIntern()
  /** What is there under names that do not fit, by device and inode. */
  #others = new Set<string>()
  /** Device and inode of the directory that was scanned. */
  #identity = ''
  #scannedAt = Number.NEGATIVE_INFINITY
  #scanMs = 0
  #state: WatchState | null = null
  #wake: AbortController | null = null

  constructor(options: WatchedDirectoryOptions) {
    const { place, inspect, store, log, onHint } = options
    this.#options = options
    this.#events = watchDirectory(place.directory, log, onHint)
    this.#inspections = createInspections({ place, inspect, store, log, onHint })
  }

  /** Fails with `storage-failed` when the directory cannot be read; what is known of it stays. */
  async look(signal: AbortSignal): Promise<WatchState> {
    const { clock } = this.#options
    const names = this.#events.take()
    const isDue = clock.monotonic() - this.#scannedAt > this.#scanMs / scanShare
    if (names === null || (isDue && names.size === 0) || this.#state === null) await this.#scan(signal)
    else await this.#lookAt(names, signal)
    signal.throwIfAborted()
    this.#settle()
    return this.#assemble()
  }

  async close(): Promise<void> {
    this.#wake?.abort()
    this.#events.close()
    await this.#inspections.close()
  }

  async #scan(signal: AbortSignal): Promise<void> {
    const { clock, place } = this.#options
    const begun = clock.monotonic()
    const scan = await scanDirectory(place.directory, signal)
    // Before the names are used: what happens from now on is heard.
    this.#identity = `${scan.device}:${scan.inode}`
    this.#events.renew(this.#identity)
    const locks = await lockedFiles()
    const gone = new Set(this.#files.keys())
    const others = new Set<string>()
    for (const [index, name] of scan.names.entries()) {
      const facts = factsAt(scan, index)
      if (this.#see(name, facts, locks)) gone.delete(name)
      else if (others.size < mostOthers) others.add(inodeOf(facts))
    }
    for (const name of gone) this.#files.delete(name)
    this.#others = others
    this.#scannedAt = clock.monotonic()
    this.#scanMs = this.#scannedAt - begun
  }

  async #lookAt(heard: ReadonlyMap<string, 'rename' | 'change'>, signal: AbortSignal): Promise<void> {
    const names = new Set(heard.keys())
    for (const file of this.#files.values()) if (file.state === 'growing') names.add(file.name)
    const locks = await lockedFiles()
    const found = await Promise.all([...names].map(async (name) => ({ name, facts: await this.#factsOf(name) })))
    await nextTurn() // a write that came before our look is heard of by now
    signal.throwIfAborted()
    // Names that are gone, since the directory is: what was in it must not seem to have been deleted.
    if (found.some(({ facts }) => facts === null) && !(await this.#isSameDirectory())) return this.#scan(signal)
    for (const { name, facts } of found) {
      if (facts === null) this.#files.delete(name)
      // What has bytes and was never heard to be written to has come by its name in one piece.
      else if (!this.#see(name, facts, locks, heard.get(name) === 'rename' && !this.#events.isWritten(name)))
        this.#others.add(inodeOf(facts))
    }
  }

  async #isSameDirectory(): Promise<boolean> {
    const stats = await stat(this.#options.place.directory).catch(() => null)
    return stats !== null && `${stats.dev}:${stats.ino}` === this.#identity
  }

  async #factsOf(name: string): Promise<FileFacts | null> {
    const stats = await lstat(join(this.#options.place.directory, name)).catch(() => null)
    if (stats === null || !(stats.isFile() || stats.isDirectory())) return null
    const { size: bytes, mtimeMs: modified, ctimeMs: changed, dev: device, ino: inode } = stats
    return { isDirectory: stats.isDirectory(), bytes, modified, changed, device, inode }
  }

  /** False for a name that does not fit. */
  #see(name: string, facts: FileFacts, locks: ReadonlySet<string>, hasArrived = false): boolean {
    const { place, clock } = this.#options
    const said = place.match(name)
    if (said === null) return false
    const former = this.#files.get(name)
    const isSame = former !== undefined && identityOf(former.facts) === identityOf(facts)
    if (isSame && former.state !== 'growing') return true
    const wasElsewhere =
      (hasArrived && former?.facts.inode !== facts.inode && facts.bytes > 0) ||
      this.#others.delete(inodeOf(facts)) ||
      (former?.facts.inode !== facts.inode && this.#hasInode(facts))
    const finished = isFinished(facts, {
      before: former?.facts ?? null,
      wasElsewhere,
      isLocked: locks.has(inodeOf(facts)),
      now: clock.now(),
      quietMs: place.quietMs,
    })
    const inspection = finished ? this.#inspections.known(name, facts) : null
    this.#files.set(name, {
      name,
      id: former?.id ?? externalId(place.name, name),
      facts,
      namedAt: said.at?.getTime() ?? null,
      database: this.#intern(place.database ?? said.database ?? ''),
      state: finished ? stateOf(facts, place, inspection) : 'growing',
      inspection,
    })
    return true
  }

  /** Another name that fits had this file at the look before. */
  #hasInode(facts: FileFacts): boolean {
    if (this.#state === null || this.#files.size > 1_000) return false
    return [...this.#files.values()].some((file) => inodeOf(file.facts) === inodeOf(facts))
  }

  /** Takes in what inspections have found, and has the newest unread files of each database read. */
  #settle(): void {
    const { place } = this.#options
    const pending = [...this.#files.values()].filter(({ state }) => state === 'pending')
    for (const file of pending) {
      const inspection = this.#inspections.known(file.name, file.facts)
      if (inspection !== null)
        this.#files.set(file.name, { ...file, state: stateOf(file.facts, place, inspection), inspection })
    }
    const unread = pending.filter(({ name }) => this.#files.get(name)?.state === 'pending')
    if (unread.length > 0) {
      const all = [...this.#files.values()]
      const groups = Map.groupBy(all, ({ database }) => database)
      const worth = new Set([...groups.values()].flatMap((group) => newestOf(group, place.inspectNewest)))
      for (const file of unread.filter((one) => !worth.has(one)))
        this.#files.set(file.name, { ...file, state: 'unchecked' })
      this.#inspections.request(
        newestOf(
          unread.filter((one) => worth.has(one)),
          Number.POSITIVE_INFINITY,
        ),
      )
    }
    this.#wakeWhenQuiet()
  }

  /** Nothing is heard of a file that has become quiet. */
  #wakeWhenQuiet(): void {
    const { clock, place, onHint } = this.#options
    this.#wake?.abort()
    this.#wake = null
    const growing = [...this.#files.values()].filter(({ state }) => state === 'growing')
    if (growing.length === 0) return
    const now = clock.now().getTime()
    const waits = growing.map(({ facts }) => Math.max(0, facts.modified + place.quietMs - now))
    const wake = new AbortController()
    this.#wake = wake
    const wait = Math.min(place.quietMs, ...waits.slice(0, 1_000)) + 50
    void clock.sleep(wait, wake.signal).then(onHint, () => {})
  }

  #assemble(): WatchState {
    const { place, proofs } = this.#options
    const summary = (file: KnownFile) => {
      const known = this.#summaries.get(file) ?? summaryOf(file)
      this.#summaries.set(file, known)
      return known
    }
    this.#state = watchState(this.#files.values(), { ...place, proofs: proofs(), summary }, this.#state)
    return this.#state
  }
}

function stateOf(facts: FileFacts, { minBytes }: WatchedPlace, inspection: Inspection | null): FileState {
  if (!facts.isDirectory && facts.bytes < Math.max(1, minBytes)) return 'empty'
  return inspection?.state ?? 'pending'
}
