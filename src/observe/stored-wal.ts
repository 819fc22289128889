import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import { type Failure, LifeboatError, toFailure } from '../domain/errors.ts'
import type { Repository } from '../repository/repository.ts'
import { readSegmentSize, type SegmentedPlace } from '../repository/wal-segment-size.ts'
import type { WalIndexRows } from '../runner/wal-index-rows.ts'
import { StoredHistories } from './stored-histories.ts'
import { type KnownSystem, StoredNews } from './stored-news.ts'
import { passOverAll } from './stored-pass.ts'
import { StoredShelves, type WalOnShelf } from './stored-shelves.ts'
import type { StoredWalState } from './wal-state.ts'

export type { WalOnShelf } from './stored-shelves.ts'

export interface StoredWalOptions {
  readonly repository: Pick<Repository, 'name' | 'cluster' | 'checkPresence' | 'isNew'> & SegmentedPlace
  readonly records: Pick<WalIndexRows, 'identity' | 'load' | 'save'>
  /** What the server or the archive say of a system; null: nothing. It is then read from a stored segment. */
  readonly segmentSize?: (systemIdentifier: string) => number | null
  /** Each listing costs something: a look asks for the newest, and for one thing more in turn. Default false. */
  readonly isCostly?: boolean
  /** Asks the storage itself whether it is the one that it was. Default: the repository. */
  readonly confirm?: Repository['checkPresence']
  readonly clock: Clock
  readonly log: Logger
}

const saveEveryMs = 60_000
/** After so long everything is listed again: what has vanished amid the rest is found by nothing else. */
const passEveryMs = 24 * 3_600_000
/** Where listings cost something, so many files for each day until it is done again: 3000 requests. */
const filesPerDay = 3_000_000
/** For each millisecond of work the listing rests so many, when it is not the first. */
const passRest = 3
const retryMs = 60_000
/** So long the first look waits for the listing of everything; that goes on after it. */
const firstWaitMs = 2_000

/**
 * Knows which WAL one repository holds. A look costs what is new; everything is listed in the background, when nothing is
 * known yet and then once a day. What is known outlives a restart in the state file, for this repository only.
 */
export class StoredWalIndex {
  readonly #options: StoredWalOptions
  readonly #systems = new Map<string, KnownSystem>()
  /** When it was last tried in vain to learn a segment size, by the monotonic clock. */
  readonly #sizeTried = new Map<string, number>()
  /** Undefined before the first look, null while nothing was ever written. */
  #identity: string | null | undefined
  #listedAt: Date | null = null
  #pass: { readonly ended: Promise<void>; readonly stop: AbortController } | null = null
  #passFailure: { readonly failure: Failure; readonly at: number } | null = null
  #savedAt = Number.NEGATIVE_INFINITY
  #savedListedAt: Date | null = null
  #mustSave = false
  readonly #forget = new Set<string>()
  /** Of what is not known any more, so that a revision never comes again. */
  #formerRevisions = 0
  readonly #news: StoredNews

  constructor(options: StoredWalOptions) {
    this.#options = options
    this.#news = new StoredNews({
      ...{ wal: options.repository.wal, isCostly: options.isCostly ?? false, systems: this.#systems },
      system: (id, signal) => this.#system(id, signal),
      confirm: (signal) => this.#confirm(signal),
    })
  }

  /**
   * Looks for what is new. Fails when the repository cannot be read or is not the one that it was; what is known stays.
   * Until everything was listed once, `listedAt` is null and there may be more than is told.
   */
  async look(signal: AbortSignal): Promise<StoredWalState> {
    // The first segment makes it, as the first backup does: until then nothing is all that there is.
    if (await this.#options.repository.isNew({ signal }))
      return { ...this.#state(), listedAt: this.#options.clock.now() }
    await this.#options.repository.checkPresence({ signal })
    this.#recognize()
    if (this.#listedAt === null && this.#pass === null) {
      this.#startPass()
      await this.#waitForPass(firstWaitMs, signal)
    }
    if (this.#listedAt === null && this.#passFailure !== null) {
      const { code, message, hint } = this.#passFailure.failure
      throw new LifeboatError(code, message, hint === undefined ? {} : { hint })
    }
    await this.#news.look(this.#listedAt !== null, signal)
    await this.#options.repository.checkPresence({ signal })
    signal.throwIfAborted()
    if (this.#isPassDue()) this.#startPass()
    this.#save()
    return this.#state()
  }

  /** Looks, and waits until everything was listed: for who asks only once. */
  async lookAtAll(signal: AbortSignal): Promise<StoredWalState> {
    for (;;) {
      const state = await this.look(signal)
      if (state.listedAt !== null) return state
      await this.#waitForPass(null, signal)
    }
  }

  /**
   * Tells what was just stored or removed: it counts at once. Histories, and what is of a system that no look has seen yet, are
   * left to the next look.
   */
  note(what: { readonly stored?: readonly WalOnShelf[]; readonly removed?: readonly WalOnShelf[] }): void {
    for (const kind of ['stored', 'removed'] as const) {
      for (const wal of what[kind] ?? []) {
        const shelves = this.#systems.get(wal.systemIdentifier)?.shelves
        const file = shelves?.parse(wal.name) ?? null
        if (file !== null) shelves?.note(kind, file, wal)
        // What is gone must not be believed to be there after a kill; what is there is found again.
        if (kind === 'removed') this.#mustSave = true
      }
    }
  }

  /** Ends the listing in the background, and keeps what is known. */
  async close(): Promise<void> {
    this.#pass?.stop.abort()
    await this.#pass?.ended
    this.#mustSave = true
    this.#save()
  }

  /** What was known of another repository of this name does not count. */
  #recognize(): void {
    const { records, repository } = this.#options
    const identity = records.identity(repository.name, repository.cluster)
    if (identity === this.#identity) return
    this.#pass?.stop.abort()
    this.#pass = null
    this.#passFailure = null
    for (const id of [...this.#systems.keys()]) this.#drop(id)
    this.#forget.clear()
    this.#sizeTried.clear()
    this.#identity = identity
    this.#news.begin()
    const kept = records.load(repository.name, repository.cluster)
    this.#listedAt = kept?.listedAt ?? null
    this.#savedListedAt = this.#listedAt
    for (const [id, size] of kept?.segmentSizes ?? []) this.#add(id, size)
    for (const shelf of kept?.shelves ?? []) this.#systems.get(shelf.systemIdentifier)?.shelves.load(shelf)
  }

  #confirm(signal: AbortSignal): () => Promise<void> {
    const { repository, confirm = (options) => repository.checkPresence(options) } = this.#options
    return () => confirm({ signal })
  }

  /** Null where its segment size is not known. */
  async #system(id: string, signal: AbortSignal): Promise<KnownSystem | null> {
    const { segmentSize, log, repository, clock } = this.#options
    const told = segmentSize?.(id) ?? null
    const known = this.#systems.get(id)
    if (known !== undefined && (told === null || told === known.shelves.coverage.segmentSize)) return known
    if (told !== null) {
      // As `pg_resetwal --wal-segsize` leaves it.
      if (known !== undefined) this.#drop(id)
      return this.#add(id, told)
    }
    if (clock.monotonic() - (this.#sizeTried.get(id) ?? Number.NEGATIVE_INFINITY) < retryMs) return null
    const { size, sawSegments } = await readSegmentSize(repository, id, signal)
    signal.throwIfAborted()
    const meanwhile = this.#systems.get(id)
    if (meanwhile !== undefined) return meanwhile
    if (size !== null) return this.#add(id, size)
    if (!sawSegments) return null
    this.#sizeTried.set(id, clock.monotonic())
    const what = { repository: repository.name, systemIdentifier: id }
    log.warn(what, 'no stored segment tells its size, so that nothing is known of them: run `lifeboat wal verify`')
    return null
  }

  #add(id: string, segmentSize: number): KnownSystem {
    const { repository, log } = this.#options
    const made = {
      shelves: new StoredShelves(id, segmentSize),
      histories: new StoredHistories(repository.wal, log),
      gaps: new Map<number, number>(),
    }
    this.#systems.set(id, made)
    return made
  }

  #drop(id: string): void {
    this.#formerRevisions += 1 + (this.#systems.get(id)?.shelves.revision ?? 0)
    this.#systems.delete(id)
    this.#forget.add(id)
  }

  #isPassDue(): boolean {
    const { clock, repository, isCostly = false } = this.#options
    if (this.#listedAt === null) return false
    const files = [...this.#systems.values()].reduce((sum, { shelves }) => sum + shelves.coverage.size, 0)
    const every = passEveryMs * (isCostly ? Math.max(1, files / filesPerDay) : 1)
    // Not all repositories at the same time. A clock that was set back must not put it off.
    const spread = 1 + (Buffer.from(repository.name).reduce((sum, byte) => sum + byte, 0) % 10) / 50
    return Math.abs(clock.now().getTime() - this.#listedAt.getTime()) > every * spread
  }

  #startPass(): void {
    const { clock } = this.#options
    const failedAt = this.#passFailure?.at ?? Number.NEGATIVE_INFINITY
    if (this.#pass !== null || clock.monotonic() - failedAt < retryMs) return
    const stop = new AbortController()
    const pass = { stop, ended: this.#runPass(stop.signal) }
    this.#pass = pass
    void pass.ended.then(() => {
      if (this.#pass === pass) this.#pass = null
    })
  }

  async #runPass(signal: AbortSignal): Promise<void> {
    const { repository, clock, log, isCostly = false } = this.#options
    try {
      await passOverAll({
        ...{ wal: repository.wal, clock, signal },
        system: async (id) => (await this.#system(id, signal))?.shelves ?? null,
        confirm: this.#confirm(signal),
        ...{ rest: this.#listedAt === null ? 0 : passRest, inOneGo: isCostly },
      })
      await repository.checkPresence({ signal })
      signal.throwIfAborted()
      this.#listedAt = clock.now()
      this.#news.begin()
      this.#passFailure = null
      this.#formerRevisions += 1
      this.#mustSave = true
    } catch (error) {
      if (signal.aborted) return
      this.#passFailure = { failure: toFailure(error), at: clock.monotonic() }
      log.warn({ repository: repository.name, failure: toFailure(error) }, 'the stored WAL could not be listed')
    }
  }

  /** Resolves when the listing has ended, however, or after so long. */
  async #waitForPass(ms: number | null, signal: AbortSignal): Promise<void> {
    if (this.#pass === null) return
    const enough = new AbortController()
    const either = AbortSignal.any([signal, enough.signal])
    const limit = ms === null ? aborted(either) : this.#options.clock.sleep(ms, either).catch(() => {})
    await Promise.race([this.#pass.ended, limit])
    enough.abort()
    await limit
    signal.throwIfAborted()
  }

  #save(): void {
    const { records, repository, clock, log } = this.#options
    const identity = this.#identity ?? null
    if (identity === null || !(this.#mustSave || clock.monotonic() - this.#savedAt >= saveEveryMs)) return
    const all = [...this.#systems.values()].map(({ shelves }) => shelves)
    const changed = all.flatMap((one) => one.unsaved())
    this.#savedAt = clock.monotonic()
    if (changed.length === 0 && this.#forget.size === 0 && this.#listedAt === this.#savedListedAt) return
    try {
      records.save(repository.name, repository.cluster, identity, {
        listedAt: this.#listedAt,
        forget: [...this.#forget],
        segmentSizes: new Map(all.map((one) => [one.systemIdentifier, one.coverage.segmentSize])),
        shelves: changed,
      })
      for (const one of all) one.saved()
      this.#forget.clear()
      this.#mustSave = false
      this.#savedListedAt = this.#listedAt
    } catch (error) {
      log.warn(
        { repository: repository.name, failure: toFailure(error) },
        'what is known of the stored WAL was not kept',
      )
    }
  }

  #state(): StoredWalState {
    const all = [...this.#systems].map(([id, { shelves }]) => ({ id, shelves }))
    return Object.freeze({
      repository: this.#options.repository.name,
      systems: new Map(all.map(({ id, shelves }) => [id, shelves.view()])),
      revision: all.reduce((sum, { shelves }) => sum + shelves.revision, this.#formerRevisions),
      listedAt: this.#listedAt,
    })
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
