import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import { type Inspection, notInspected } from '../domain/external.ts'
import { type FileFacts, finishedState, finishOf, identityOf, inodeOf, stillFor } from '../domain/external-file.ts'
import type { FilePattern } from '../domain/file-pattern.ts'
import { lookAtFile } from '../external/file-facts.ts'
import type { BackupSummary, ProofSummary } from './catalog.ts'
import { type DirectoryEvents, watchDirectory } from './directory-events.ts'
import { externalId, type KnownFile, newestOf, summaryOf, type WatchState, watchState } from './external-catalog.ts'
import { lockedFiles } from './file-locks.ts'
import { createInspections, type InspectionStore, type Inspections } from './inspections.ts'
import { factsAt, scanDirectory } from './scan.ts'
import { Stillness } from './stillness.ts'
import { createIntern } from './summaries.ts'
import { mayBeOpen, openForWriting } from './writers.ts'

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
  readonly holds: () => WatchState['holds']
  readonly clock: Clock
  readonly log: Logger
  /** Something may be new: look again. Must not throw. */
  readonly onHint: () => void
}

/** A whole listing costs at most this share of the time between two of them. */
const scanShare = 0.01

/** Files that are no dumps, remembered for the renames to come. */
const mostOthers = 100_000

/** What the look before and this one say about a file. */
interface Seen {
  readonly former: KnownFile | undefined
  readonly isSame: boolean
  readonly hasArrived: boolean
  readonly locks: ReadonlySet<string>
}

const misnamed = notInspected(
  'its name is no UTF-8, so that no program can be told to read it: rename it',
  'unreadable',
)

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
  readonly #stillness = new Stillness()
  /** Files that are to be read. */
  readonly #requested = new WeakSet<KnownFile>()
  /** Names of files that have become quiet, and may be open in a program nevertheless. */
  readonly #quiet = new Set<string>()
  /** Identities of what is there under names that do not fit. Inodes would not do: that of a removed file is used again. */
  #others = new Set<string>()
  /** Device and inode of the directory that was scanned. */
  #identity = ''
  #scannedAt = Number.NEGATIVE_INFINITY
  #scanMs = 0
  #state: WatchState | null = null
  #wake: AbortController | null = null

  constructor(options: WatchedDirectoryOptions) {
    const { place, log, onHint } = options
    this.#options = options
    this.#events = watchDirectory(place.directory, log, onHint)
    this.#inspections = createInspections(options)
  }

  /** Fails with `storage-failed` when the directory cannot be read; what is known of it stays. */
  async look(signal: AbortSignal): Promise<WatchState> {
    const { clock } = this.#options
    const names = this.#events.take()
    const due = (clock.monotonic() - this.#scannedAt) / (this.#scanMs / scanShare)
    // Rather when nothing waits for it; but a file that is written to for hours must not put it off for so long.
    const isDue = due > (names?.size === 0 ? 1 : 2)
    if (names === null || isDue || this.#state === null) await this.#scan(signal)
    else await this.#lookAt(names, signal)
    await this.#askForWriters(signal)
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
      else if (others.size < mostOthers) others.add(identityOf(facts))
    }
    for (const name of gone) this.#forget(name)
    this.#others = others
    this.#scannedAt = clock.monotonic()
    this.#scanMs = this.#scannedAt - begun
  }

  async #lookAt(heard: ReadonlyMap<string, 'rename' | 'change'>, signal: AbortSignal): Promise<void> {
    const names = new Set(heard.keys())
    for (const file of this.#files.values()) if (file.state === 'growing') names.add(file.name)
    const locks = await lockedFiles()
    const found: { readonly name: string; readonly facts: FileFacts | null }[] = []
    for (const name of names) found.push({ name, facts: await lookAtFile(join(this.#options.place.directory, name)) })
    await nextTurn() // a write that came before our look is heard of by now
    signal.throwIfAborted()
    // Names that are gone, since the directory is: what was in it must not seem to have been deleted.
    if (found.some(({ facts }) => facts === null) && !(await this.#isSameDirectory())) return this.#scan(signal)
    for (const { name, facts } of found) {
      // One that cannot be looked up by its name is seen by listings alone.
      if (facts === null && this.#files.get(name)?.facts.isMisnamed) continue
      if (facts === null) this.#forget(name)
      // What has bytes and was never heard to be written to has come by its name in one piece.
      else if (!this.#see(name, facts, locks, heard.get(name) === 'rename' && !this.#events.isWritten(name)))
        if (this.#others.size < mostOthers) this.#others.add(identityOf(facts))
    }
  }

  #forget(name: string): void {
    this.#files.delete(name)
    this.#stillness.forget(name)
  }

  async #isSameDirectory(): Promise<boolean> {
    const stats = await stat(this.#options.place.directory).catch(() => null)
    return stats !== null && `${stats.dev}:${stats.ino}` === this.#identity
  }

  /** False for a name that does not fit. */
  #see(name: string, facts: FileFacts, locks: ReadonlySet<string>, isUnwritten = false): boolean {
    const { place, clock } = this.#options
    const said = place.match(name)
    if (said === null) return false
    const former = this.#files.get(name)
    const isSame = former !== undefined && identityOf(former.facts) === identityOf(facts)
    const isFinished = isSame && former.state !== 'growing'
    // What could not be opened is tried again at times.
    if (isFinished && former.state !== 'unreadable') return true
    const inspection = facts.isMisnamed ? misnamed : this.#inspections.known(name, facts)
    if (isFinished && inspection !== null) return true
    const hasArrived = isFinished || this.#hasArrived(facts, former, isUnwritten)
    const finish = facts.isMisnamed ? 'arrived' : this.#finish(name, facts, { former, isSame, hasArrived, locks })
    if (finish !== 'growing') this.#stillness.forget(name)
    if (finish === 'quiet' && inspection === null && mayBeOpen(facts, clock.now())) this.#quiet.add(name)
    this.#files.set(name, {
      name,
      id: former?.id ?? externalId(place.name, name),
      facts,
      namedAt: said.at?.getTime() ?? null,
      database: this.#intern(place.database ?? said.database ?? ''),
      state: finish === 'growing' ? 'growing' : finishedState(facts, place.minBytes, inspection),
      inspection: finish === 'growing' ? null : inspection,
    })
    return true
  }

  #finish(
    name: string,
    facts: FileFacts,
    { former, isSame, hasArrived, locks }: Seen,
  ): 'growing' | 'arrived' | 'quiet' {
    const { clock, place } = this.#options
    const now = clock.monotonic()
    const before = this.#state === null ? stillFor(facts, clock.now()) : 0
    const stillMs = this.#stillness.note(name, now, { isSame, before })
    const isLocked = locks.has(inodeOf(facts))
    if (isLocked) this.#stillness.restart(name, now)
    return finishOf(facts, { isNew: former === undefined, hasArrived, isLocked, stillMs, quietMs: place.quietMs })
  }

  /** It was there under another name, as it is now; or it has come with all its bytes, and nobody was heard to write. */
  #hasArrived(facts: FileFacts, former: KnownFile | undefined, isUnwritten: boolean): boolean {
    if (former !== undefined && inodeOf(former.facts) === inodeOf(facts)) return false
    // Of a directory nobody hears what is written in it.
    if (isUnwritten && !facts.isDirectory) return true
    const identity = identityOf(facts)
    if (this.#others.delete(identity)) return true
    if (this.#state === null || this.#files.size > 1_000) return false
    return [...this.#files.values()].some((file) => identityOf(file.facts) === identity)
  }

  /** Files that are quiet, yet open for writing, grow still. */
  async #askForWriters(signal: AbortSignal): Promise<void> {
    const asked = [...this.#quiet].flatMap((name) => this.#files.get(name) ?? [])
    for (const file of await openForWriting(asked, signal)) {
      this.#files.set(file.name, { ...file, state: 'growing', inspection: null })
      this.#stillness.restart(file.name, this.#options.clock.monotonic())
    }
    this.#quiet.clear()
  }

  /** Takes in what inspections have found, and has the newest unread files of each database read. */
  #settle(): void {
    const { place } = this.#options
    const unread: KnownFile[] = []
    for (const file of this.#files.values()) {
      if (file.state !== 'pending') continue
      const inspection = this.#inspections.known(file.name, file.facts)
      if (inspection === null) unread.push(file)
      else
        this.#files.set(file.name, {
          ...file,
          state: finishedState(file.facts, place.minBytes, inspection),
          inspection,
        })
    }
    // Which ones are the newest of all is asked only when there is a new one, not after each that was read.
    if (unread.some((file) => !this.#requested.has(file))) this.#request(unread)
    this.#wakeWhenQuiet()
  }

  #request(unread: readonly KnownFile[]): void {
    const { inspectNewest } = this.#options.place
    const groups = Map.groupBy(this.#files.values(), ({ database }) => database)
    const worth = new Set([...groups.values()].flatMap((group) => newestOf(group, inspectNewest)))
    for (const file of unread) {
      if (worth.has(file)) this.#requested.add(file)
      else this.#files.set(file.name, { ...file, state: 'unchecked' })
    }
    this.#inspections.request(
      newestOf(
        unread.filter((file) => worth.has(file)),
        Number.POSITIVE_INFINITY,
      ),
    )
  }

  /** Nothing is heard of a file that has become quiet. */
  #wakeWhenQuiet(): void {
    const { clock, place, onHint } = this.#options
    this.#wake?.abort()
    this.#wake = null
    const wait = this.#stillness.untilQuiet(place.quietMs, clock.monotonic())
    if (wait === null) return
    const wake = new AbortController()
    this.#wake = wake
    void clock.sleep(wait + 50, wake.signal).then(onHint, () => {})
  }

  #assemble(): WatchState {
    const { place, proofs, holds } = this.#options
    const summary = (file: KnownFile) => {
      const known = this.#summaries.get(file) ?? summaryOf(file)
      this.#summaries.set(file, known)
      return known
    }
    this.#state = watchState(this.#files.values(), { ...place, proofs: proofs(), holds: holds(), summary }, this.#state)
    return this.#state
  }
}
