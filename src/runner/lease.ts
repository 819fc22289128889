import type { Logger } from 'pino'
import { type Clock, withDeadline } from '../clock.ts'
import { type Failure, LifeboatError, toFailure } from '../domain/errors.ts'
import { describeHolder, heldByAnother, type Lease, type LeaseState } from '../domain/lease.ts'
import { abortable } from './abortable.ts'
import { KeepAlive } from './keep-alive.ts'

/** A repository's lease, from the side of one that wants it. */
export interface LeaseClaim {
  readonly isHeld: boolean
  look(options: { readonly signal: AbortSignal; readonly isKeeper: boolean }): Promise<LeaseState>
  assertHeld(options: { readonly signal?: AbortSignal }): Promise<void>
  release(options: { readonly signal: AbortSignal }): Promise<void>
}

export interface LeasedRepository {
  readonly name: string
  readonly claim: LeaseClaim
  /** How long its lease lives. */
  readonly ttlSeconds: number
  /** Whether it is there and marked: nothing is written to what may be the mount point of another disk. May fail as a storage does. */
  readonly isThere: (signal: AbortSignal) => Promise<boolean>
}

/** What is known of the lease on one repository. */
export interface LeaseStatus {
  readonly repository: string
  /** `waiting`: another one has it. `unknown`: nobody has looked yet, or the repository is not there or cannot be asked. */
  readonly state: 'held' | 'waiting' | 'unknown'
  /** Since when it is so. */
  readonly since: Date
  /** Of `waiting`; null: the lease cannot be understood. */
  readonly holder: Lease | null
  /** Of `unknown`: why the last look failed; null: there was nothing to look at. */
  readonly failure: Failure | null
}

export interface LeaseKeeperOptions {
  readonly repositories: readonly LeasedRepository[]
  readonly clock: Clock
  readonly log: Logger
  /** Another process of the same holder is at work: nothing is given back under its hands. Default: there is none. */
  readonly isShared?: () => boolean
}

/** A lease is renewed, and looked at by those that wait, so many times in its time to live. */
const looksPerTtl = 3
const releaseMs = 5000
/** The longest that one look may take. */
const longestLookMs = 60_000
/** One that could not be looked at is looked at again after so long at the latest. */
const againMs = 20_000
const shortestMs = 50

/**
 * Keeps the leases of one process: renews those that it has, watches those that it has not, and takes them when they are
 * free or have lapsed. One repository that does not answer keeps no other waiting.
 */
export class LeaseKeeper {
  readonly #options: LeaseKeeperOptions
  readonly #status = new Map<string, LeaseStatus>()
  readonly #kept = new Map<string, Promise<void>>()
  readonly #stopping = new AbortController()
  readonly #listeners = new Set<(repository: string) => void>()
  /** When a look last showed that another one has it, by the monotonic clock. */
  readonly #waitedAt = new Map<string, number>()
  /** This process answers for what its holder has; one that does one thing leaves that to the sidecar beside it. */
  #isKeeper = false
  #stopped: Promise<void> | undefined

  constructor(options: LeaseKeeperOptions) {
    this.#options = options
    const since = options.clock.now()
    for (const { name } of options.repositories) {
      this.#status.set(name, { repository: name, state: 'unknown', since, holder: null, failure: null })
    }
  }

  /** Begins to keep all leases, and resolves when each was looked at once, or `ms` milliseconds have passed. */
  async start(ms: number): Promise<void> {
    this.#isKeeper = true
    await this.#lookAt(this.#options.repositories, ms)
    for (const one of this.#options.repositories) this.#keep(one)
  }

  /**
   * Looks at once at what is not known just now, for up to `ms` milliseconds: after the process stood still, the first thing
   * that happens may be that a schedule is due. Never rejects.
   */
  async settle(ms: number): Promise<void> {
    const unknown = new Set(this.states().flatMap(({ repository, state }) => (state === 'unknown' ? [repository] : [])))
    await this.#lookAt(
      this.#options.repositories.filter(({ name }) => unknown.has(name)),
      ms,
    )
  }

  async #lookAt(repositories: readonly LeasedRepository[], ms: number): Promise<void> {
    const looks = repositories.map((one) => this.#look(one))
    const over = new AbortController()
    await Promise.race([Promise.all(looks), this.#options.clock.sleep(ms, over.signal).catch(() => undefined)])
    over.abort()
  }

  /** Aborts when the keeper is stopped. */
  get signal(): AbortSignal {
    return this.#stopping.signal
  }

  /** True as long as nobody else can have the lease. */
  isHeld(name: string): boolean {
    return this.#named(name).claim.isHeld
  }

  /**
   * Like `isHeld`, but looks where that is not so: on a full disk no lease can be renewed, and to clear it up must not need that.
   * Never rejects.
   */
  async owns(name: string): Promise<boolean> {
    const { claim } = this.#named(name)
    const { signal } = this.#stopping
    return (
      claim.isHeld ||
      claim.assertHeld({ signal }).then(
        () => true,
        () => false,
      )
    )
  }

  states(): readonly LeaseStatus[] {
    return [...this.#status.values()].map((status) => {
      // A look that failed loses no lease, only time does.
      if (this.isHeld(status.repository)) return { ...status, state: 'held' }
      return status.state === 'held' ? { ...status, state: 'unknown' } : status
    })
  }

  /**
   * Why nothing is to be written: the error to refuse it with, when another one has the lease of every repository that is
   * meant (null: all); else null. Of several, those that another one has are left out, see `writable`.
   */
  standby(name: string | null): LifeboatError | null {
    const meant = this.states().filter(({ repository }) => name === null || repository === name)
    const [first] = meant
    if (first === undefined || meant.some(({ state }) => state !== 'waiting')) return null
    return heldByAnother(first.holder, meant.map(({ repository }) => repository).join(' and '))
  }

  /** The repositories without those that another one writes to. */
  writable<T extends { readonly name: string }>(repositories: readonly T[]): readonly T[] {
    return repositories.filter(({ name }) => this.standby(name) === null)
  }

  /** Why a repository is left out of what is done in several. */
  leftOut(name: string | null): readonly LifeboatError[] {
    const meant = this.#options.repositories.filter((one) => name === null || one.name === name)
    return meant.flatMap((one) => this.standby(one.name) ?? [])
  }

  /**
   * Takes the leases for a process that does one thing, and keeps them: those that it can get, `standby` tells of the others.
   * Waits as long as it takes to see whether the holder of one lives; a repository that is not there, or does not answer within
   * `patienceMs`, is left to what is done with it.
   *
   * @param waiting is told, once for each, on whom
   * @throws the signal's reason
   */
  async acquire(
    name: string | null,
    signal: AbortSignal,
    waiting: (words: string) => void,
    patienceMs = longestLookMs,
  ): Promise<void> {
    const meant = this.#options.repositories.filter((one) => name === null || one.name === name)
    const hold = new KeepAlive().hold()
    await Promise.all(meant.map((one) => this.#acquire(one, { signal, waiting, patienceMs }))).finally(hold)
    for (const one of meant) this.#keep(one)
  }

  /**
   * The fence: to be called before anything is published in or removed from a repository. Takes the lease if it is free.
   *
   * @throws LifeboatError `conflict` when another one has it; what the storage says
   */
  async fence(name: string, options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    const { claim, isThere } = this.#named(name)
    try {
      await claim.assertHeld(options)
    } catch (error) {
      if (!(error instanceof LifeboatError && error.code === 'conflict')) throw error
      const signal = AbortSignal.any([this.#stopping.signal, ...(options.signal ? [options.signal] : [])])
      await isThere(signal) // a mount point whose disk has gone has no lease either
      const found = await claim.look({ signal, isKeeper: this.#isKeeper })
      this.#note(name, found)
      if (found.state !== 'held') throw error
    }
  }

  /** Calls the listener with the name of each repository whose lease was taken (again). */
  onTaken(listener: (repository: string) => void): void {
    this.#listeners.add(listener)
  }

  /** Gives back what is held. Safe to call again. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  async #stop(): Promise<void> {
    this.#stopping.abort(new LifeboatError('interrupted', 'lifeboat is shutting down'))
    const hold = new KeepAlive().hold()
    try {
      await this.#giveBack()
    } finally {
      hold()
    }
  }

  async #giveBack(): Promise<void> {
    const { clock, repositories, log, isShared } = this.#options
    // A look at a disk that hangs may never end.
    const reason = new LifeboatError('timed-out', 'the repository does not answer')
    const kept = Promise.all(this.#kept.values())
    await withDeadline(clock, { ms: releaseMs, reason, signals: [] }, (signal) => abortable(kept, signal)).catch(
      () => {},
    )
    if (isShared?.()) return
    const releases = repositories.map(async ({ name, claim }) => {
      await withDeadline(clock, { ms: releaseMs, reason, signals: [] }, (signal) =>
        abortable(claim.release({ signal }), signal),
      ).catch((error: unknown) => log.warn({ repository: name, ...toFailure(error) }, 'lease could not be given back'))
    })
    await Promise.all(releases)
  }

  #named(name: string): LeasedRepository {
    const found = this.#options.repositories.find((one) => one.name === name)
    if (found === undefined) throw new LifeboatError('not-found', `there is no repository ${JSON.stringify(name)}`)
    return found
  }

  #keep(one: LeasedRepository): void {
    if (!this.#kept.has(one.name)) this.#kept.set(one.name, this.#keeping(one))
  }

  async #keeping(one: LeasedRepository): Promise<void> {
    const { clock } = this.#options
    const { signal } = this.#stopping
    let waitMs = nextLookMs(one, null)
    for (;;) {
      await clock.sleep(waitMs, signal).catch(() => undefined)
      if (signal.aborted) return
      const begun = clock.monotonic()
      const state = await this.#look(one)
      if (signal.aborted) return
      const tookMs = state?.state === 'held' ? clock.monotonic() - begun : 0
      waitMs = Math.max(nextLookMs(one, state) - tookMs, shortestMs)
    }
  }

  async #acquire(
    one: LeasedRepository,
    { signal, waiting, patienceMs }: { signal: AbortSignal; waiting: (words: string) => void; patienceMs: number },
  ): Promise<void> {
    let told = false
    for (;;) {
      const state = await abortable(this.#look(one, patienceMs), signal)
      if (state?.state !== 'waiting' || state.isAlive) return
      if (!told) waiting(`waiting for the lease on ${one.name}: it is held by ${describeHolder(state.holder)}`)
      told = true
      await this.#options.clock.sleep(Math.min(Math.max(state.lapsesInMs, 1), 1000), signal)
    }
  }

  /** Null: it could not be looked at. Never rejects. */
  async #look(one: LeasedRepository, patienceMs = longestLookMs): Promise<LeaseState | null> {
    const [{ name, claim, ttlSeconds, isThere }, { clock }] = [one, this.#options]
    const reason = new LifeboatError('storage-failed', `the repository ${name} does not answer`)
    try {
      const state = await withDeadline(
        clock,
        { ms: Math.min(ttlSeconds * 1000, longestLookMs, patienceMs), reason, signals: [this.#stopping.signal] },
        async (signal) => ((await isThere(signal)) ? claim.look({ signal, isKeeper: this.#isKeeper }) : null),
      )
      this.#note(name, state)
      return state
    } catch (error) {
      if (!this.#stopping.signal.aborted) this.#note(name, null, toFailure(error))
      return null
    }
  }

  #note(name: string, found: LeaseState | null, failure: Failure | null = null): void {
    const { clock, log } = this.#options
    const { ttlSeconds } = this.#named(name)
    const before = this.#status.get(name)
    if (found?.state === 'waiting') this.#waitedAt.set(name, clock.monotonic())
    // A look that failed makes no lease free, either: only time does.
    const waitedAt = this.#waitedAt.get(name) ?? Number.NEGATIVE_INFINITY
    const isFresh = clock.monotonic() - waitedAt < ttlSeconds * 1000
    if (found === null && before?.state === 'waiting' && isFresh) return
    const state = found?.state ?? 'unknown'
    const holder = found?.state === 'waiting' ? found.holder : null
    const isSame = before?.state === state && before.holder?.holder === holder?.holder
    const since = isSame ? before.since : clock.now()
    this.#status.set(name, { repository: name, state, since, holder, failure })
    if (isSame) return
    if (state === 'held') {
      log.info({ repository: name }, 'the lease on the repository is ours')
      for (const listener of this.#listeners) listener(name)
    } else if (state === 'waiting') {
      const words = `standing by: the lease on the repository is held by ${describeHolder(holder)}`
      log.warn({ repository: name, wasHeld: before?.state === 'held' }, words)
    } else if (failure !== null) {
      log.error({ repository: name, ...failure }, 'the lease on the repository cannot be looked at')
    }
  }
}

/** Soon after it lapses, for one that waits. */
function nextLookMs({ ttlSeconds }: LeasedRepository, state: LeaseState | null): number {
  const usual = (ttlSeconds * 1000) / looksPerTtl
  if (state === null) return Math.min(usual, againMs)
  return state.state === 'waiting' ? Math.min(usual, Math.max(state.lapsesInMs, 0)) : usual
}
