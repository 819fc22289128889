import type { Clock } from '../clock.ts'
import { walFileKind } from '../domain/wal.ts'
import type { Repository } from '../repository/repository.ts'
import { isMissing } from '../storage/failures.ts'
import { ask } from './ask.ts'
import { type FetchOptions, fetchWal, writeObject } from './fetch-wal.ts'
import type { SegmentWriters } from './segment-writers.ts'
import type { Spool, WantedFile } from './spool.ts'
import { inProduction, readControl } from './system.ts'
import { sulkMs, type Upcoming, type UpcomingSegments } from './upcoming.ts'

export interface PrefetchOptions {
  readonly spool: Spool
  readonly upcoming: Pick<UpcomingSegments, 'from'>
  /** How what is missing is judged. */
  readonly fetch: FetchOptions
  /** How many segments to have ready. */
  readonly ahead: number
  /** For all that is in the spool or on its way there; one segment is fetched at any rate. */
  readonly maxBytes: number
  /** How many are fetched at once. */
  readonly parallel: number
  /** Who writes them; left out: this thread. */
  readonly writers?: SegmentWriters
  /** Ends when the server of this data directory has ended its recovery. */
  readonly dataDirectory: string
  /** The segment that the recovery is going to begin with, where that is known: nobody has to ask for it. */
  readonly first?: string | null
  /** The segment with the last record that the recovery needs, where that is known; else it is the last one that there is. */
  readonly last?: string
  /** How large one is; left out: that turns out with the first. */
  readonly segmentBytes?: number
}

/** Nobody has asked for anything for so long: the recovery is over, or long in one segment; the script starts another one. */
const idleMs = 600_000
const tickMs = 250
/** What is asked for is heard of at once; where the system has no watch to spare it is looked for, often for a while. */
const unwatchedTickMs = 10
const unwatchedMs = 5_000
const controlEveryMs = 1_000
const keepAliveMs = 3_600_000
/** The stamp of what is going to be asked for first: nobody waits for an answer yet. */
const unasked = 'unasked'
/** What ends the making of a file that is nowhere. */
const nowhere = new Error('it is nowhere')

/** Names are looked up in good time, so that the list does not have to be read for each segment. */
const lookAhead = 4

/**
 * Keeps the next segments ready in the spool, ahead of what the script asks for, until the recovery is over; then the spool
 * is removed. What is not among the next ones is judged by `fetchWal`.
 */
export class Prefetcher {
  readonly #options: PrefetchOptions
  readonly #clock: Clock
  #stamp = ''
  /** Where the recovery is. */
  #wanted: WantedFile | null = null
  #upcoming: readonly Upcoming[] = []
  /** For which request the list was read. */
  #lookedFor = ''
  /** In the spool, or moved away by the script. */
  readonly #done = new Set<string>()
  /** Not to be tried again before the next request. */
  readonly #failed = new Set<string>()
  readonly #inFlight = new Map<string, Promise<void>>()
  /** When a repository failed last, by the monotonic clock: the others are asked first for a while. */
  readonly #failedAt = new Map<Repository, number>()
  #segmentBytes: number
  /** Read once more at the end, as soon as it is known; and whether it has been begun with. */
  #last: Upcoming | null = null
  #isAtEnd = false
  /** There may be something to do. */
  #isStale = false
  #recovering = false
  /** Why it cannot tell anything: it ends then, and that tells. */
  #mute: unknown = null

  constructor(options: PrefetchOptions) {
    this.#options = options
    this.#clock = options.fetch.clock
    this.#segmentBytes = options.segmentBytes ?? 0
  }

  /** Fails with `interrupted` when the signal aborts. */
  async run(): Promise<void> {
    const { spool, fetch } = this.#options
    const awake = setInterval(() => {}, keepAliveMs) // the clock keeps no process alive
    const asked = spool.watch()
    const { first = null } = this.#options
    if (first !== null) this.#follow({ name: first, urgent: false, stamp: unasked })
    let [askedAt, controlAt] = [this.#clock.monotonic(), Number.NEGATIVE_INFINITY]
    try {
      for (;;) {
        fetch.signal.throwIfAborted()
        if (this.#mute !== null) throw this.#mute
        if (await spool.isGone()) return
        const heard = asked.next()
        const now = this.#clock.monotonic()
        if (this.#take(await spool.wanted())) askedAt = now
        if (this.#wanted !== null && this.#isStale) {
          this.#isStale = false
          await this.#work(this.#wanted)
        }
        if (now - askedAt > idleMs) break
        if (now - controlAt > controlEveryMs) {
          controlAt = now
          if (await this.#isOver()) break
        }
        const isPolling = !asked.isWatching && now - askedAt <= unwatchedMs
        const tick = this.#clock.sleep(isPolling ? unwatchedTickMs : tickMs, fetch.signal)
        await Promise.race([tick, heard, ...this.#inFlight.values()])
      }
      await Promise.all(this.#inFlight.values())
      await spool.destroy()
    } catch (error) {
      // Somebody has removed the spool: the script makes another one, and starts another prefetcher.
      if (!isMissing(error)) throw error
    } finally {
      await Promise.all(this.#inFlight.values())
      asked.close()
      clearInterval(awake)
    }
  }

  /** Takes up a request. False if it is the old one. */
  #take(wanted: WantedFile | null): boolean {
    if (wanted === null || wanted.stamp === this.#stamp) return false
    this.#stamp = wanted.stamp
    if (walFileKind(wanted.name) !== 'segment') {
      if (wanted.urgent) this.#start(wanted.name, this.#judge(wanted.name))
      return true
    }
    this.#follow(wanted)
    return true
  }

  #follow(wanted: WantedFile): void {
    const { last } = this.#options
    const isBack = this.#wanted !== null && wanted.name < this.#wanted.name
    if (isBack && (last === undefined || !isAtOrAfter(wanted.name, last))) {
      this.#done.clear() // it begins once more, and needs them all again
      this.#isAtEnd = false
    }
    this.#wanted = wanted
    this.#isStale = true
    this.#failed.clear()
    if (wanted.urgent) this.#done.delete(wanted.name)
    this.#upcoming = this.#upcoming.filter(({ name }) => isAtOrAfter(name, wanted.name))
  }

  async #work(wanted: WantedFile): Promise<void> {
    const { spool, upcoming, ahead, maxBytes, parallel } = this.#options
    const fresh = this.#lookedFor !== wanted.stamp
    const isNext = this.#upcoming[0]?.name === wanted.name
    if (fresh && (!isNext || this.#upcoming.length <= ahead)) {
      this.#lookedFor = wanted.stamp
      this.#upcoming = await upcoming.from(wanted.name, ahead * lookAhead + 1)
    }
    const following = this.#upcoming.filter(({ name }) => name !== wanted.name).slice(0, ahead)
    const first = this.#upcoming.find(({ name }) => name === wanted.name)
    const window = [...this.#again(wanted, first, { fresh, following }), ...following]
    const kept = new Set([wanted.name, ...window.map(({ name }) => name)])
    const there = await spool.segments()
    const isOver = first === undefined && window.length === 0
    for (const name of there) if (!(isOver || kept.has(name))) await spool.remove(name)
    for (const name of this.#done) if (!kept.has(name)) this.#done.delete(name)
    const isThere = there.has(wanted.name) || this.#inFlight.has(wanted.name)
    const isNeeded = ({ name }: Upcoming) =>
      !(there.has(name) || this.#inFlight.has(name) || this.#done.has(name) || this.#failed.has(name))
    if ((wanted.urgent || wanted.stamp === unasked) && !isThere) {
      if (first !== undefined && isNeeded(first)) this.#start(first.name, this.#fetch(first))
      else if (first === undefined && fresh && wanted.urgent) this.#start(wanted.name, this.#judge(wanted.name))
    }
    let held = [...there].filter((name) => kept.has(name)).length + this.#inFlight.size
    for (const one of window.filter(isNeeded)) {
      // How large a segment is turns out with the first.
      const isRoom = held === 0 || (this.#segmentBytes > 0 && (held + 1) * this.#segmentBytes <= maxBytes)
      if (!isRoom || this.#inFlight.size >= parallel) break
      this.#start(one.name, this.#fetch(one))
      held += 1
    }
  }

  /**
   * The segment of the last record is read once more at the end, when PostgreSQL has learnt that it is the last. Where those
   * that follow are nearly empty, it has read ahead into them before (`recovery_prefetch`).
   */
  #again(
    { name, urgent }: WantedFile,
    first: Upcoming | undefined,
    { fresh, following }: { readonly fresh: boolean; readonly following: readonly Upcoming[] },
  ): readonly Upcoming[] {
    const { last } = this.#options
    if (last === undefined) {
      const isLast = following.length === 0 && first !== undefined && !urgent
      if (isLast && fresh) this.#done.delete(name)
      return isLast ? [first] : []
    }
    this.#last ??= this.#upcoming.find((one) => one.name === last) ?? null
    const isPast = isAtOrAfter(name, last) && !(urgent && name === last)
    if (this.#last === null || !isPast) return []
    if (!this.#isAtEnd) this.#done.delete(last)
    this.#isAtEnd = true
    return [this.#last]
  }

  #start(name: string, work: Promise<void>): void {
    this.#inFlight.set(
      name,
      work.finally(() => {
        this.#inFlight.delete(name)
        this.#isStale = true
      }),
    )
  }

  async #fetch({ name, sources }: Upcoming): Promise<void> {
    const { spool, fetch, writers } = this.#options
    const isSulking = ({ repository }: Upcoming['sources'][number]) =>
      this.#clock.monotonic() - (this.#failedAt.get(repository) ?? Number.NEGATIVE_INFINITY) < sulkMs
    for (const source of sources.toSorted((a, b) => Number(isSulking(a)) - Number(isSulking(b)))) {
      const answer = await ask(source.repository, fetch, (signal, alive) =>
        spool.publish(name, async (path) => {
          this.#segmentBytes = await writeObject(source, path, { signal, alive, ...(writers && { writers }) })
        }),
      )
      if ('value' in answer) {
        this.#done.add(name)
        return
      }
      this.#failedAt.set(source.repository, this.#clock.monotonic())
    }
    this.#failed.add(name)
    const { urgent, name: wanted } = this.#wanted ?? {}
    if (urgent && wanted === name) await this.#judge(name)
  }

  /** What `fetchWal` cannot give either is left to the command of that name, which says why to whom it concerns. */
  async #judge(name: string): Promise<void> {
    const { spool, fetch } = this.#options
    try {
      let found = false
      await spool
        .publish(name, async (path) => {
          found = await fetchWal(name, path, fetch)
          if (!found) throw nowhere
        })
        .catch((error: unknown) => {
          if (error !== nowhere) throw error
        })
      if (!found) await spool.tellMissed(name, 'nowhere')
    } catch {
      await spool.tellMissed(name, 'failed').catch((error: unknown) => {
        this.#mute = error
      })
    }
  }

  async #isOver(): Promise<boolean> {
    const state = (await readControl(this.#options.dataDirectory))?.state ?? null
    if (state === null) return false
    if (state !== inProduction) this.#recovering = true
    // A copy that has just been restored still has the state of the server that it was taken from.
    return this.#recovering && state === inProduction
  }
}

function isAtOrAfter(name: string, wanted: string): boolean {
  return name.slice(0, 8) === wanted.slice(0, 8) && name >= wanted
}
