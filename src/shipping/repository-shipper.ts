import type { Logger } from 'pino'
import { type Clock, withDeadline } from '../clock.ts'
import { type Failure, LifeboatError, toFailure } from '../domain/errors.ts'
import { parseWalName, type WalFile } from '../domain/wal.ts'
import type { RepositoryShipping, ShippingWait } from '../observe/shipping-state.ts'
import type { StoredWalState, WalArchiveState } from '../observe/wal-state.ts'
import type { Repository } from '../repository/repository.ts'
import { BadFiles } from './bad-files.ts'
import { Hinted } from './hinted.ts'
import { type Item, Plan, type ReadyArchive, readyArchive, type ShipFrom } from './plan.ts'
import { orAborted } from './readers.ts'
import { recheckBadFiles } from './recheck.ts'
import { type Outcome, shipFile } from './ship-file.ts'
import type { Source } from './source.ts'
import type { Trust } from './trust.ts'

/** How long one object may take, milliseconds, besides a second for each megabyte of its segment. */
const objectDeadlineMs = 60_000
const firstPauseMs = 1000
const longestPauseMs = 300_000
const pollMs = 1000
/** What is bad is looked at again so often, and so many at a time. */
const recheckMs = 30_000
/** Copies in quarantine that one process makes in one repository. */
const mostCopies = 100

export interface RepositoryShipperOptions {
  readonly repository: Repository
  readonly archive: () => WalArchiveState | null
  readonly stored: () => StoredWalState | null
  readonly isOurs: () => boolean | Promise<boolean>
  readonly judge: (systemIdentifier: string) => Trust
  readonly source: Source
  readonly parallel: number
  readonly shipFrom: ShipFrom
  readonly onStored: (name: string, delayMs: number) => void
  readonly clock: Clock
  readonly log: Logger
}

/** Ships the archive to one repository, whatever happens to the others. */
export class RepositoryShipper {
  readonly #options: RepositoryShipperOptions
  #plan: Plan
  /** Of the cluster that the plan is for, and its segment size. */
  #cluster = ''
  readonly bad = new BadFiles()
  readonly #inFlight = new Map<string, Item>()
  readonly #running = new Set<Promise<void>>()
  /** Stored by this process, and not seen yet by the index. */
  readonly #unconfirmed = new Map<string, Item>()
  readonly #hinted = new Hinted()
  #later: { readonly revision: number; readonly items: Item[] } = { revision: -1, items: [] }
  #confirmedRevision = -1
  #copies = 0
  #waiting: ShippingWait = 'archive'
  #pauseMs = 0
  #resumeAt = Number.NEGATIVE_INFINITY
  #recheckAt = Number.NEGATIVE_INFINITY
  #wake: () => void = () => {}
  readonly #told = new Set<string>()
  readonly #counts = { segments: 0, bytes: 0, failures: 0 }
  #failure: Failure | null = null
  #lastSuccessAt: Date | null = null
  #delay: { readonly modifiedMs: number; readonly seconds: number } | null = null

  constructor(options: RepositoryShipperOptions) {
    this.#options = options
    this.#plan = new Plan(options.shipFrom)
  }

  /** Goes on until the signal aborts and what is under way has ended; never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options
    signal.addEventListener('abort', () => this.#wake(), { once: true })
    while (!signal.aborted) {
      const woken = new AbortController()
      this.#wake = () => woken.abort()
      try {
        await this.#fill(signal)
      } catch (error) {
        if (!signal.aborted) this.#failed(error)
      }
      if (!signal.aborted) await clock.sleep(pollMs, woken.signal).catch(() => {})
    }
    await Promise.all(this.#running)
  }

  /** Something has come into the archive, or has changed there; names where they are known. */
  hint(names: readonly string[]): void {
    for (const name of names) this.#hinted.add(name)
    this.#wake()
  }

  /** Whether a segment is stored here, by the index or by what this process has put since. */
  holds(name: string, file: Extract<WalFile, { kind: 'segment' }>, systemIdentifier: string | null): boolean {
    if (this.#unconfirmed.has(name)) return true
    for (const system of this.#options.stored()?.systems.values() ?? []) {
      if (systemIdentifier !== null && system.systemIdentifier !== systemIdentifier) continue
      if (system.coverage.segments(file.timeline).has(file.segment)) return true
    }
    return false
  }

  /** It was thought to be stored here, and is not: it is shipped (again). */
  forget(item: Item): void {
    this.#unconfirmed.delete(item.name)
    this.#plan.give(item)
  }

  state(): RepositoryShipping {
    const archive = readyArchive(this.#options.archive())
    const stored = this.#options.stored()
    return {
      repository: this.#options.repository.name,
      waiting: this.#waiting,
      shippedSegments: this.#counts.segments,
      shippedBytes: this.#counts.bytes,
      queued:
        archive === null || stored === null
          ? null
          : this.#plan.waiting(archive, stored) + segmentsOf(this.#later.items),
      inFlight: this.#inFlight.size,
      lastSuccessAt: this.#lastSuccessAt,
      failures: this.#counts.failures,
      failure: this.#failure,
      ...this.bad.counts(),
      delaySeconds: this.#delay?.seconds ?? null,
    }
  }

  /** Starts what may be started now. */
  async #fill(signal: AbortSignal): Promise<void> {
    const { clock, repository, parallel } = this.#options
    const archive = readyArchive(this.#options.archive())
    const stored = this.#options.stored()
    this.#waiting = archive === null ? 'archive' : stored === null ? 'index' : null
    if (archive === null || stored === null) return
    this.#useCluster(archive)
    this.#confirm(archive, stored)
    if (clock.monotonic() < this.#resumeAt) return
    if (!(await this.#options.isOurs())) {
      this.#waiting = 'lease'
      return
    }
    await this.#recheck(archive, signal)
    // One attempt tells whether it works again.
    const slots = this.#failure === null ? parallel : 1
    while (this.#inFlight.size < slots && !signal.aborted) {
      const item = this.#next(archive, stored)
      if (item === null) return
      this.#begin(item, { repository, archive, stored, signal })
    }
  }

  #next(archive: ReadyArchive, stored: StoredWalState): Item | null {
    const busy: string[] = []
    let again: Item | null = null
    for (const name of this.#hinted.take()) {
      const file = parseWalName(name, archive.segmentSize)
      if (file?.kind !== 'segment' || this.bad.get(name) !== undefined) continue
      if (this.#inFlight.has(name)) busy.push(name)
      else if (this.holds(name, file, archive.systemIdentifier)) again = { name, file, isAgain: true }
      // It comes by itself; what was taken of that name before was another file.
      else this.#plan.give({ name, file })
      if (again !== null) break
    }
    for (const name of busy) this.#hinted.add(name)
    if (again !== null) return again
    const isHistoryOnItsWay = [...this.#inFlight.values()].some(({ file }) => file.kind === 'history')
    return this.#plan.next(archive, stored, isHistoryOnItsWay)
  }

  #begin(
    item: Item,
    at: { repository: Repository; archive: ReadyArchive; stored: StoredWalState; signal: AbortSignal },
  ): void {
    const { clock, source, judge } = this.#options
    this.#plan.take(item)
    this.#inFlight.set(item.name, item)
    const ms = objectDeadlineMs + at.archive.segmentSize / 1000
    const reason = new LifeboatError('timed-out', `${item.name} was not stored within ${Math.round(ms / 1000)} s`, {
      hint: 'see whether the repository hangs; shipping goes on by itself',
    })
    let isLate = false
    const work = async (signal: AbortSignal) => {
      const mayCopy = () => this.#copies < mostCopies && ++this.#copies > 0
      const shippedAs = this.#hinted.identityOf(item.name)
      const running = shipFile(item, { ...at, source, judge, mayCopy, shippedAs, signal })
      // What hangs keeps its place until the system lets go of it: else there would be more and more of it.
      const settled = running
        .then(
          (outcome) => this.#done(item, outcome, at.archive),
          (error: unknown) => {
            this.#plan.give(item)
            if (!isLate && !at.signal.aborted) this.#failed(error)
          },
        )
        .catch((error: unknown) => this.#failed(error))
        .finally(() => {
          this.#inFlight.delete(item.name)
          this.#running.delete(settled)
          this.#wake()
        })
      this.#running.add(settled)
      await orAborted(running, signal)
    }
    withDeadline(clock, { ms, reason, signals: [at.signal] }, work).catch((error: unknown) => {
      if (error !== reason) return
      isLate = true
      this.#failed(error)
    })
  }

  #done(item: Item, outcome: Outcome, archive: ReadyArchive): void {
    const { clock, log, repository, onStored } = this.#options
    if (this.#failure !== null && outcome.kind !== 'later') {
      log.info({ repository: repository.name }, 'WAL is shipped again')
      this.#failure = null
      this.#pauseMs = 0
    }
    if (outcome.kind === 'later') {
      if (this.#later.revision !== archive.revision) this.#giveLater(archive.revision)
      this.#later.items.push(item)
      return
    }
    if (outcome.kind === 'bad') {
      this.bad.add({ item, ...outcome })
      this.#tellBad(item, outcome)
      return
    }
    this.#hinted.seen(item.name, outcome.file.identity)
    if (outcome.systemIdentifier === archive.systemIdentifier) this.#unconfirmed.set(item.name, item)
    this.#lastSuccessAt = clock.now()
    if (outcome.bytes === null) return
    this.#counts.bytes += outcome.bytes
    if (item.file.kind !== 'segment') return
    this.#counts.segments += 1
    const delayMs = Math.max(0, clock.now().getTime() - outcome.file.modifiedMs)
    if (outcome.file.modifiedMs >= (this.#delay?.modifiedMs ?? 0))
      this.#delay = { modifiedMs: outcome.file.modifiedMs, seconds: delayMs / 1000 }
    onStored(item.name, delayMs)
  }

  #failed(error: unknown): void {
    const { clock, log, repository } = this.#options
    const failure = toFailure(error)
    if (failure.code === 'conflict') {
      // Another one has got the lease: it ships.
      this.#waiting = 'lease'
      this.#resumeAt = clock.monotonic() + firstPauseMs
      return
    }
    // Messages name the file, which is another one each time.
    const isNews = this.#failure?.code !== failure.code || this.#failure.hint !== failure.hint
    this.#counts.failures += 1
    this.#failure = failure
    this.#pauseMs = Math.min(longestPauseMs, this.#pauseMs === 0 ? firstPauseMs : this.#pauseMs * 2)
    this.#resumeAt = clock.monotonic() + this.#pauseMs
    log[isNews ? 'warn' : 'debug']({ ...failure, repository: repository.name }, 'WAL could not be shipped')
  }

  #tellBad({ name }: Item, { reason, description }: Extract<Outcome, { kind: 'bad' }>): void {
    const { log, repository } = this.#options
    const level = this.#told.has(reason) ? 'debug' : reason === 'undecided' ? 'info' : 'warn'
    this.#told.add(reason)
    const hint =
      reason === 'undecided'
        ? 'it is shipped, or not, once the server could be asked for its system identifier'
        : 'docs/wal.md, "What is not shipped", says what to do; further files with this reason are logged at level debug'
    log[level](
      { repository: repository.name, name, reason, description, hint },
      'a file of the WAL archive is not shipped',
    )
  }

  /** Another cluster has come into the archive: under the names that were taken before lie other files, or may. */
  #useCluster({ systemIdentifier, segmentSize }: ReadyArchive): void {
    const cluster = `${systemIdentifier} ${segmentSize}`
    if (cluster === this.#cluster) return
    this.#cluster = cluster
    this.#plan = new Plan(this.#options.shipFrom)
    this.#unconfirmed.clear()
    for (const item of [...this.#inFlight.values(), ...this.bad.items(), ...this.#later.items]) this.#plan.take(item)
  }

  /** What the index has seen by now need not be remembered any more: if it goes from there, it is shipped again. */
  #confirm(archive: ReadyArchive, stored: StoredWalState): void {
    if (this.#later.revision !== archive.revision) this.#giveLater(archive.revision)
    if (this.#confirmedRevision === stored.revision || archive.systemIdentifier === null) return
    this.#confirmedRevision = stored.revision
    const coverage = stored.systems.get(archive.systemIdentifier)?.coverage
    if (coverage?.segmentSize !== archive.segmentSize) return
    for (const item of this.#unconfirmed.values()) {
      if (item.file.kind !== 'segment') this.#unconfirmed.delete(item.name)
      else if (coverage.segments(item.file.timeline).has(item.file.segment)) this.forget(item)
    }
  }

  #giveLater(revision: number): void {
    for (const item of this.#later.items) this.#plan.give(item)
    this.#later = { revision, items: [] }
  }

  async #recheck(archive: ReadyArchive, signal: AbortSignal): Promise<void> {
    const { clock, source, judge } = this.#options
    const hinted = this.#hinted.among((name) => this.bad.get(name))
    const isDue = clock.monotonic() >= this.#recheckAt
    if (isDue) {
      this.#recheckAt = clock.monotonic() + recheckMs
      this.#giveLater(archive.revision)
    }
    if (!isDue && hinted.length === 0) return
    const released = await recheckBadFiles(this.bad, { hinted, isDue, archive, source, judge, signal })
    for (const { item } of released) {
      this.bad.delete(item.name)
      this.#plan.give(item)
    }
  }
}

function segmentsOf(items: readonly Item[]): number {
  return items.filter(({ file }) => file.kind === 'segment').length
}
