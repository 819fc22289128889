import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import { WalCoverage } from '../domain/coverage.ts'
import { toFailure } from '../domain/errors.ts'
import { SegmentSet } from '../domain/segment-set.ts'
import { Timelines } from '../domain/timeline.ts'
import { parseWalName, segmentName, walFileKind } from '../domain/wal.ts'
import type { WalFacts } from './wal-files.ts'
import { mostListed, type SegmentTriples, type WalListing } from './wal-scan.ts'
import { type ListedSegments, triplesOf } from './wal-segments.ts'

/** Before that it may be a file that somebody writes and then renames, or a segment that is being copied. */
const foreignAfterMs = 60_000

/** What a look at a name gave: a whole segment, a file with a segment's name that is none, or anything else. */
export type Sight = 'segment' | 'misfit' | 'other'

/** The counts and names of a state. */
export interface ArchivedCounts {
  readonly partials: number
  readonly histories: number
  readonly labels: number
  readonly foreign: number
  readonly bytes: number
  readonly plainNames: readonly string[]
  readonly partialNames: readonly string[]
}

/** What is known of the files of an archive. Whole segments are in the coverage alone; all other files are few. */
export class ArchivedWal {
  readonly #clock: Clock
  readonly #log: Logger
  readonly #timelines = new Timelines()
  #coverage: WalCoverage | null = null
  /** The timelines that it may have segments of. */
  readonly #coverageTimelines = new Set<number>()
  /** Histories that are whole, labels, partials: their bytes. */
  readonly #named = new Map<string, number>()
  /** Everything else that is there. */
  readonly #others = new Map<string, { readonly bytes: number; readonly since: number }>()
  #unlisted = 0
  /** Histories of which the log has been told. */
  readonly #told = new Set<string>()
  #counts: Omit<ArchivedCounts, 'foreign'> | null = null
  #revision = 0
  #isFirst = true

  constructor(clock: Clock, log: Logger) {
    this.#clock = clock
    this.#log = log
  }

  /** Null while the segment size is not known. */
  get coverage(): WalCoverage | null {
    return this.#coverage
  }

  /** Another number whenever something has changed. */
  get revision(): number {
    return this.#revision
  }

  /** Whether no file of WAL is known. */
  get isEmpty(): boolean {
    return (this.#coverage?.size ?? 0) + this.#named.size === 0
  }

  changed(): void {
    this.#revision += 1
    this.#counts = null
  }

  /** False for a name of which a listing says enough. */
  #needsLook(name: string): boolean {
    const kind = walFileKind(name)
    return kind === null ? !this.#others.has(name) : kind !== 'label' || !this.#named.has(name)
  }

  /** Takes in what is found under a name; null: nothing. */
  see(name: string, facts: WalFacts | null): Sight {
    const kind = walFileKind(name)
    if (facts === null || (kind === null && facts.isDirectory)) {
      this.#forget(name)
      return 'other'
    }
    const isWhole = facts.isFile && this.#isWhole(name, facts)
    if (kind === 'segment') {
      if (!isWhole) this.#keepOther(name, facts)
      else if (this.#coverageAdd(name)) this.changed()
      return isWhole ? 'segment' : 'misfit'
    }
    if (isWhole) this.#keepNamed(name, facts)
    else this.#keepOther(name, facts)
    if (facts.problem !== null && !this.#told.has(name)) {
      this.#told.add(name)
      this.#log.warn({ failure: toFailure(facts.problem) }, 'a timeline history in the WAL archive is of no use')
    }
    return 'other'
  }

  /**
   * Takes in a whole listing, of which the `misfits` are no whole segments. Returns the names that must be looked at: `see`
   * wants to be told what is found there.
   */
  replace(listing: WalListing, found: ListedSegments | null, misfits: SegmentTriples): Set<string> {
    const present = new Set([...listing.named, ...listing.others])
    let unlisted = listing.unlisted + (found === null ? countOf(listing) : found.outside)
    if (found !== null) unlisted += this.#replaceSegments(found, misfits, present)
    for (const name of [...this.#named.keys(), ...this.#others.keys()]) if (!present.has(name)) this.#forget(name)
    if (unlisted !== this.#unlisted) this.changed()
    this.#unlisted = unlisted
    return new Set([...present].filter((name) => this.#needsLook(name)))
  }

  /** The first listing is over: what is new from now on has come since. */
  settle(): void {
    this.#isFirst = false
  }

  counts(): ArchivedCounts {
    this.#counts ??= this.#count()
    const since = this.#clock.monotonic() - foreignAfterMs
    let foreign = this.#unlisted
    for (const other of this.#others.values()) if (other.since <= since) foreign += 1
    return { ...this.#counts, foreign }
  }

  /** Returns how many misfits there are beyond those whose names are kept. */
  #replaceSegments({ segmentSize, sets }: ListedSegments, misfits: SegmentTriples, present: Set<string>): number {
    let beyond = 0
    for (const [timeline, first] of triplesOf(misfits)) {
      sets.get(timeline)?.remove(first)
      if (misfits.length / 3 - beyond > mostListed.others) beyond += 1
      else present.add(segmentName(timeline, first, segmentSize))
    }
    const coverage = this.#sized(segmentSize)
    for (const timeline of new Set([...sets.keys(), ...this.#coverageTimelines])) {
      const [known, now] = [coverage.segments(timeline), sets.get(timeline) ?? new SegmentSet()]
      const gone = [...known.ranges()].flatMap(({ first, last }) => [...now.gaps(first, last)])
      for (const { first, last } of gone) for (let one = first; one <= last; one += 1) known.remove(one)
      let added = 0
      for (const { first, last } of now.ranges()) added += known.addRange(first, last)
      if (added > 0 || gone.length > 0) this.changed()
      this.#coverageTimelines.add(timeline)
    }
    for (const name of this.#others.keys()) if (this.#isCovered(name)) this.#others.delete(name)
    return beyond
  }

  /** The coverage for segments of this size: a new one where it was another. */
  #sized(segmentSize: number): WalCoverage {
    if (this.#coverage?.segmentSize === segmentSize) return this.#coverage
    const coverage = new WalCoverage(segmentSize, this.#timelines)
    this.#coverage = coverage
    this.#coverageTimelines.clear()
    this.changed()
    return coverage
  }

  #isWhole(name: string, { bytes, history }: WalFacts): boolean {
    switch (walFileKind(name)) {
      case 'segment':
        return bytes === this.#coverage?.segmentSize && parseWalName(name, bytes) !== null
      case 'history':
        return history !== null
      case 'partial':
      case 'label':
        return true
      case null:
        return false
    }
  }

  #isCovered(name: string): boolean {
    const file = this.#coverage === null ? null : parseWalName(name, this.#coverage.segmentSize)
    return file?.kind === 'segment' && this.#coverage?.segments(file.timeline).has(file.segment) === true
  }

  #coverageAdd(name: string): boolean {
    const known = this.#others.delete(name)
    const file = this.#coverage === null ? null : parseWalName(name, this.#coverage.segmentSize)
    if (file?.kind !== 'segment' || this.#coverage === null) return known
    this.#coverageTimelines.add(file.timeline)
    return this.#coverage.segments(file.timeline).add(file.segment) || known
  }

  #keepNamed(name: string, { bytes, history }: WalFacts): void {
    const file = this.#coverage === null ? null : parseWalName(name, this.#coverage.segmentSize)
    if (file?.kind === 'partial') this.#coverage?.add(file)
    if (history !== null) this.#timelines.add(history)
    this.#told.delete(name)
    const isOther = this.#others.delete(name)
    if (!isOther && this.#named.get(name) === bytes && history === null) return
    this.#named.set(name, bytes)
    this.changed()
  }

  #keepOther(name: string, { isFile, bytes }: WalFacts): void {
    const known = this.#others.get(name)
    if (known?.bytes === bytes) return
    this.#forgetWal(name)
    if (known === undefined && this.#others.size >= mostListed.others) return // the next listing counts it
    // A segment may be on its way; anything else that was there at the start has been for a while.
    const isOld = this.#isFirst && known === undefined && !(isFile && walFileKind(name) === 'segment')
    const since = isOld ? Number.NEGATIVE_INFINITY : this.#clock.monotonic()
    this.#others.set(name, { bytes, since })
    this.changed()
  }

  #forget(name: string): void {
    this.#told.delete(name)
    if (this.#others.delete(name)) this.changed()
    this.#forgetWal(name)
  }

  #forgetWal(name: string): void {
    const size = this.#coverage?.segmentSize
    const file = size === undefined ? null : parseWalName(name, size)
    const isSegment = file?.kind === 'segment' && this.#isCovered(name)
    if (file !== null) this.#coverage?.remove(file)
    if (walFileKind(name) === 'history') this.#timelines.remove(Number.parseInt(name, 16))
    if (this.#named.delete(name) || isSegment) this.changed()
  }

  #count(): Omit<ArchivedCounts, 'foreign'> {
    const [plainNames, partialNames]: [string[], string[]] = [[], []]
    let [histories, bytes] = [0, (this.#coverage?.size ?? 0) * (this.#coverage?.segmentSize ?? 0)]
    for (const [name, length] of this.#named) {
      const kind = walFileKind(name)
      if (kind === 'history') histories += 1
      ;(kind === 'partial' ? partialNames : plainNames).push(name)
      bytes += length
    }
    for (const other of this.#others.values()) bytes += other.bytes
    return {
      partials: partialNames.length,
      histories,
      labels: plainNames.length - histories,
      bytes,
      plainNames: Object.freeze(plainNames.sort()),
      partialNames: Object.freeze(partialNames.sort()),
    }
  }
}

function countOf({ segments }: WalListing): number {
  let count = 0
  for (const runs of segments.values())
    for (let at = 0; at < runs.length; at += 2) count += (runs[at + 1] ?? 0) - (runs[at] ?? 0) + 1
  return count
}
