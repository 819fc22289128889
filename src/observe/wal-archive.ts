import { stat, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import { LifeboatError } from '../domain/errors.ts'
import { parseWalName, segmentName } from '../domain/wal.ts'
import type { Capacity } from '../storage/storage.ts'
import { ArchivedWal } from './archived-wal.ts'
import { mapConcurrently } from './concurrent.ts'
import { type DirectoryEvents, watchDirectory } from './directory-events.ts'
import { type KnownSegment, newestOf, readEnds, readSegment } from './newest-segment.ts'
import { isMisnamed, lookAtListed, lookAtWal, type WalFacts } from './wal-files.ts'
import { findMisfits, listWal, unreadableArchive, type WalListing } from './wal-scan.ts'
import { listedSegments, uncertain } from './wal-segments.ts'
import type { WalArchiveState } from './wal-state.ts'

export interface WalArchiveOptions {
  readonly directory: string
  readonly clock: Clock
  readonly log: Logger
  /** Something may be new: look again. Must not throw. */
  readonly onHint: () => void
  /** Files that have come, or were written to, where their names were heard; told after each look. Must not throw. */
  readonly onHeard?: (names: readonly string[]) => void
}

/** A whole listing costs at most this share of the time between two of them. */
const scanShare = 0.01
const atOnce = 16
/** Files of another length that may be the segments of another cluster; each look reads so many of them. */
const mostMisfits = 16
/** Segments that have just come, of which it is read whose they are. */
const mostHeard = 16

type Found = readonly (readonly [name: string, facts: WalFacts | null])[]

/**
 * The directory that a server archives its WAL into. The first look lists everything, by names alone; from then on only
 * names of which something was heard are looked at, and the whole listing again now and then, since events get lost.
 *
 * A whole segment is a plain file of the right name and length: whether it holds what its name says is for those who read
 * it. Names do not tell the cluster either: `systemIdentifier` is that of the newest segment.
 */
export class WalArchive {
  readonly #options: WalArchiveOptions
  readonly #events: DirectoryEvents
  readonly #known: ArchivedWal
  readonly #doubted = new Set<string>()
  #newest: KnownSegment | null = null
  /** What tells the directory that was listed from another under its path. */
  #identity = ''
  #hadIncoming = false
  #scannedAt = Number.NEGATIVE_INFINITY
  #scanMs = 0
  /** The last look came to its end: what was heard before is known. */
  #isSettled = false

  constructor(options: WalArchiveOptions) {
    const { directory, clock, log, onHint } = options
    this.#options = options
    this.#known = new ArchivedWal(clock, log)
    this.#events = watchDirectory(directory, log, onHint)
  }

  /**
   * Fails with `storage-failed` when the directory cannot be read, and when its disk seems not to be mounted; what is known
   * of it stays.
   */
  async look(signal: AbortSignal): Promise<WalArchiveState> {
    const { clock } = this.#options
    const identity = await this.#identify()
    signal.throwIfAborted()
    const heard = this.#events.take()
    const due = (clock.monotonic() - this.#scannedAt) / (this.#scanMs / scanShare)
    // Rather when nothing waits for it; but a busy server must not put it off for ever.
    const isDue = due > (heard?.size === 0 ? 1 : 2)
    const mustScan = !this.#isSettled || heard === null || isDue || identity !== this.#identity
    this.#isSettled = false
    if (mustScan) await this.#scan(identity, signal)
    else await this.#lookAt(new Set([...heard.keys(), ...this.#doubted]), identity, signal)
    const capacity = await this.#capacity()
    signal.throwIfAborted()
    this.#isSettled = true
    if (heard !== null && heard.size > 0) this.#options.onHeard?.([...heard.keys()])
    return this.#assemble(capacity)
  }

  /** Asks for a look at a file that did not turn out to be what was told of it: one that has lost its end, or is gone. */
  doubt(name: string): void {
    this.#doubted.add(name)
    this.#options.onHint()
  }

  close(): void {
    this.#events.close()
  }

  async #scan(identity: string, signal: AbortSignal): Promise<void> {
    const { clock, directory } = this.#options
    const begun = clock.monotonic()
    // Before the listing: what happens from now on is heard, and what was heard so far is in it.
    this.#events.renew(identity)
    this.#events.take()
    const doubted = this.#takeDoubted()
    const listing = await listWal(directory, signal)
    if ((await this.#identify()) !== identity) throw this.#vanished('it was replaced while it was listed')
    this.#refuseUnmounted(listing, identity)
    const ends = await this.#reading(() => readEnds(directory, listing.segments, signal))
    const newest = newestOf(ends)
    const segmentSize = newest?.segmentSize ?? this.#known.coverage?.segmentSize ?? null
    const found = segmentSize === null ? null : listedSegments(listing.segments, segmentSize)
    const { coverage } = this.#known
    const mixed = new Set([coverage, ...ends].flatMap((one) => one?.segmentSize ?? [])).size > 1
    const unsure = found === null ? new Float64Array() : uncertain(found, { coverage, mixed })
    const misfits =
      found === null || unsure.length === 0
        ? new Float64Array()
        : await findMisfits(directory, found.segmentSize, unsure, signal)
    signal.throwIfAborted()
    const names = this.#known.replace(listing, found, misfits)
    for (const name of doubted) names.add(name)
    const looked = await this.#find(names, lookAtListed, signal)
    signal.throwIfAborted()
    for (const [name, facts] of looked) this.#known.see(name, facts)
    this.#setNewest(newest)
    this.#known.settle()
    this.#identity = identity
    this.#hadIncoming = listing.hasIncoming
    this.#scannedAt = clock.monotonic()
    this.#scanMs = this.#scannedAt - begun
  }

  async #lookAt(names: ReadonlySet<string>, identity: string, signal: AbortSignal): Promise<void> {
    this.#doubted.clear()
    if (names.size === 0) return
    const found = await this.#find(names, lookAtWal, signal)
    // Names that are gone, since the directory is: what was in it must not seem to have been pruned.
    if (found.some(([, facts]) => facts === null) && !(await this.#isInPlace(identity)))
      return this.#scan(await this.#identify(), signal)
    signal.throwIfAborted()
    const candidates = new Set<string>()
    for (const [name, facts] of found) {
      if (facts === null && isMisnamed(name)) continue // listings alone tell of it
      const sight = this.#known.see(name, facts)
      if (sight === 'segment') {
        candidates.add(this.#endOfRun(name))
        // The end may be what another cluster has left.
        if (candidates.size < mostHeard) candidates.add(name)
      } else if (sight === 'misfit' && candidates.size < mostMisfits) candidates.add(name)
    }
    const former = this.#newest
    if (former !== null && names.has(former.name)) candidates.add(former.name)
    const read: KnownSegment[] = former === null || candidates.has(former.name) ? [] : [former]
    for (const name of candidates) {
      const one = await this.#reading(() => readSegment(this.#options.directory, name))
      if (one !== null) read.push(one)
    }
    signal.throwIfAborted()
    const newest = newestOf(read)
    const isUpgraded = newest !== null && newest.segmentSize !== this.#known.coverage?.segmentSize
    // Gone or spoiled: which one is the newest now?
    const isLost = former !== null && !read.some(({ name }) => name === former.name)
    if (isUpgraded || isLost) return this.#scan(identity, signal)
    this.#setNewest(newest)
  }

  /** The last segment of the stretch without a gap: of many that come at once, one is read. */
  #endOfRun(name: string): string {
    const { coverage } = this.#known
    const file = coverage === null ? null : parseWalName(name, coverage.segmentSize)
    if (coverage === null || file?.kind !== 'segment') return name
    const last = coverage.segments(file.timeline).rangeAt(file.segment)?.last ?? file.segment
    return segmentName(file.timeline, last, coverage.segmentSize)
  }

  #setNewest(newest: KnownSegment | null): void {
    const former = this.#newest
    if (former?.name !== newest?.name || former?.modified !== newest?.modified) this.#known.changed()
    this.#newest = newest
    if (former === null || newest === null || former.systemIdentifier === newest.systemIdentifier) return
    const { name: segment, systemIdentifier, segmentSize } = newest
    this.#options.log.warn(
      { segment, systemIdentifier, segmentSize, formerSystemIdentifier: former.systemIdentifier },
      'another cluster archives its WAL here now: after an upgrade it is meant to; two at a time are not',
    )
  }

  #takeDoubted(): readonly string[] {
    const names = [...this.#doubted]
    this.#doubted.clear()
    return names
  }

  async #find(names: ReadonlySet<string>, look: typeof lookAtWal, signal: AbortSignal): Promise<Found> {
    async function* each() {
      yield* names
    }
    const { directory } = this.#options
    return this.#reading(() =>
      mapConcurrently(each(), atOnce, signal, async (name) => [name, await look(directory, name)] as const),
    )
  }

  /** The birth tells a directory from its predecessor, whose inode it may have got; it is 0 where it is not known. */
  async #identify(): Promise<string> {
    const { dev, ino, birthtimeMs } = await this.#reading(() => stat(this.#options.directory))
    return `${dev}:${ino}:${birthtimeMs}`
  }

  async #isInPlace(identity: string): Promise<boolean> {
    const now = await this.#identify()
    if (now !== identity || !this.#hadIncoming) return now === identity
    return (await stat(join(this.#options.directory, '.incoming')).catch(() => null)) !== null
  }

  /** An empty directory in place of one that was not, without the `.incoming` that whoever made the archive has made. */
  #refuseUnmounted({ segments, named, hasIncoming }: WalListing, identity: string): void {
    if (this.#known.isEmpty || hasIncoming) return
    const isEmpty = segments.size + named.length === 0
    const isAnother = identity !== this.#identity
    if (Number(isEmpty) + Number(isAnother) + Number(this.#hadIncoming) < 2) return
    throw this.#vanished('what was in it is gone')
  }

  #vanished(message: string): LifeboatError {
    const { directory } = this.#options
    return new LifeboatError('storage-failed', `the WAL archive ${directory} is not there: ${message}`, {
      hint: `Mount its disk again. If nothing is missing, make ${join(directory, '.incoming')} for the OS user of the server.`,
    })
  }

  async #reading<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException
      // Of the system: our own failures say more, and an abort is its signal's reason.
      if (typeof code !== 'string' || error instanceof LifeboatError || !('syscall' in (error as object))) throw error
      throw unreadableArchive(this.#options.directory, { code, message })
    }
  }

  async #capacity(): Promise<Capacity | null> {
    const found = await statfs(this.#options.directory).catch(() => null)
    return found === null ? null : { freeBytes: found.bavail * found.bsize, totalBytes: found.blocks * found.bsize }
  }

  #assemble(capacity: Capacity | null): WalArchiveState {
    const { coverage } = this.#known
    const newest = this.#newest
    const counts = this.#known.counts()
    return Object.freeze({
      directory: this.#options.directory,
      systemIdentifier: newest?.systemIdentifier ?? null,
      segmentSize: coverage?.segmentSize ?? null,
      segments: coverage?.size ?? 0,
      ...counts,
      newest: newest === null ? null : { name: newest.name, at: new Date(newest.modified) },
      coverage,
      revision: this.#known.revision,
      capacity,
    })
  }
}
