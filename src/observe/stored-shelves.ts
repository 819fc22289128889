import { WalCoverage } from '../domain/coverage.ts'
import { SegmentSet } from '../domain/segment-set.ts'
import { Timelines } from '../domain/timeline.ts'
import { parseWalName, type WalFile } from '../domain/wal.ts'
import type { StoredWal } from '../repository/layout.ts'
import type { KeptShelf } from '../runner/wal-index-rows.ts'
import type { StoredSystem } from './wal-state.ts'

/** Segments that are listed, counted and kept together: what is new costs one such shelf, however many there are. */
export const shelfSegments = 256

export const shelfOf = (segment: number) => Math.floor(segment / shelfSegments)

/** A stored segment or partial, and the bytes that it takes. */
export type WalOnShelf = Pick<StoredWal, 'systemIdentifier' | 'name' | 'hash'> & { readonly bytes: number }

type ShelfFile = Extract<WalFile, { kind: 'segment' | 'partial' }>

/** What was found on a shelf. */
export interface ShelfContent {
  readonly segments: SegmentSet
  readonly contradictions: ReadonlySet<number>
  readonly partials: ReadonlyMap<string, number>
  readonly bytes: number
}

interface Shelf {
  bytes: number
  readonly partials: Map<string, number>
  readonly contradictions: Set<number>
}

interface Note {
  readonly what: 'stored' | 'removed'
  readonly file: ShelfFile
  readonly wal: WalOnShelf
}

/** A listing under way. What is noted meanwhile may not be in it, and counts all the same. */
export interface Listing {
  readonly timeline: number
  readonly number: number
  readonly notes: Note[]
}

/** Puts together what a listing finds on one shelf. */
export class ShelfBuilder {
  readonly segments = new SegmentSet()
  readonly contradictions = new Set<number>()
  readonly partials = new Map<string, number>()
  bytes = 0
  #last = ''

  /** In the order of their keys. The same content twice, plain and encrypted, is one. */
  add(file: ShelfFile, { name, hash, bytes }: WalOnShelf): void {
    const key = partialKey(name, hash)
    this.bytes += bytes
    if (file.kind === 'partial') this.partials.set(key, bytes + (this.partials.get(key) ?? 0))
    else if (!this.segments.add(file.segment) && key !== this.#last) this.contradictions.add(file.segment)
    this.#last = key
  }
}

/** What one repository holds of the WAL of one system. */
export class StoredShelves {
  readonly systemIdentifier: string
  readonly coverage: WalCoverage
  /** Histories and labels, bytes. */
  plainBytes = 0
  plainFiles = 0
  /** Counts what has changed. */
  revision = 0
  readonly #timelines = new Map<number, Map<number, Shelf>>()
  /** The revision at which a timeline changed last. */
  readonly #changedAt = new Map<number, number>()
  readonly #unsaved = new Map<string, { readonly timeline: number; readonly shelf: number }>()
  readonly #listings = new Set<Listing>()
  /** By timeline and shelf, the youngest listing that it was put from; only while there are others. */
  readonly #listed = new Map<string, number>()
  #listingNumber = 0
  #bytes = 0
  #partials = 0
  #contradictions = 0

  constructor(systemIdentifier: string, segmentSize: number) {
    this.systemIdentifier = systemIdentifier
    this.coverage = new WalCoverage(segmentSize, new Timelines())
  }

  view(): StoredSystem {
    const { systemIdentifier, coverage } = this
    return Object.freeze({
      ...{ systemIdentifier, coverage },
      segments: coverage.size,
      partials: this.#partials,
      bytes: this.#bytes + this.plainBytes,
      contradictions: this.#contradictions,
      plainFiles: this.plainFiles,
      storedBytes: (timeline: number, first: number, last: number) => this.#storedBytes(timeline, first, last),
    })
  }

  /** Null for what is neither a segment nor a partial of this segment size. */
  parse(name: string): ShelfFile | null {
    const file = parseWalName(name, this.coverage.segmentSize)
    return file?.kind === 'segment' || file?.kind === 'partial' ? file : null
  }

  /** Timelines of which something is known to be stored. */
  timelines(): readonly number[] {
    return [...this.#timelines].filter(([, shelves]) => shelves.size > 0).map(([timeline]) => timeline)
  }

  changedAt(timeline: number): number {
    return this.#changedAt.get(timeline) ?? 0
  }

  /** Numbers of the shelves that hold something, ascending. */
  shelves(timeline: number, from = 0, to = Number.POSITIVE_INFINITY): readonly number[] {
    const known = [...(this.#timelines.get(timeline)?.keys() ?? [])]
    return known.filter((shelf) => from <= shelf && shelf <= to).sort((a, b) => a - b)
  }

  begin(timeline: number): Listing {
    this.#listingNumber += 1
    const listing = { timeline, number: this.#listingNumber, notes: [] }
    this.#listings.add(listing)
    return listing
  }

  end(listing: Listing): void {
    this.#listings.delete(listing)
    if (this.#listings.size === 0) this.#listed.clear()
  }

  /** True if something that is known to be there was not found. */
  loses(timeline: number, shelf: number, content: ShelfContent): boolean {
    for (const { first, last } of this.#ranges(timeline, shelf)) {
      const found = content.segments.rangeAt(first)
      if (found === null || found.last < last) return true
    }
    const known = this.#timelines.get(timeline)?.get(shelf)?.partials.keys() ?? []
    return [...known].some((key) => !content.partials.has(key))
  }

  /** Puts what a listing found in the place of what is known of a shelf; what a younger one has found stays. */
  put(listing: Listing, shelf: number, content: ShelfContent): void {
    const { timeline, number, notes } = listing
    const key = shelfKey(timeline, shelf)
    if ((this.#listed.get(key) ?? 0) > number) return
    this.#listed.set(key, number)
    this.#replace(timeline, shelf, content)
    for (const note of notes) if (shelfOf(note.file.segment) === shelf) this.#apply(note)
  }

  /** Takes in what was just stored or removed. Of a timeline that is not known yet it is the first that is. */
  note(what: Note['what'], file: ShelfFile, wal: WalOnShelf): void {
    const note = { what, file, wal }
    for (const listing of this.#listings) if (listing.timeline === file.timeline) listing.notes.push(note)
    this.#apply(note)
  }

  /** Takes in what was kept in the state file. */
  load({ timeline, shelf, ranges, bytes, partials, contradictions }: Omit<KeptShelf, 'systemIdentifier'>): void {
    const found = { bytes, partials: new Map(Object.entries(partials)), contradictions: new Set(contradictions) }
    this.#replace(timeline, shelf, { ...found, segments: new SegmentSet(ranges) })
    this.#unsaved.delete(shelfKey(timeline, shelf))
  }

  /** What has changed since `saved` was called last. */
  unsaved(): readonly (KeptShelf | { systemIdentifier: string; timeline: number; shelf: number; gone: true })[] {
    const { systemIdentifier } = this
    return [...this.#unsaved.values()].map(({ timeline, shelf }) => {
      const found = this.#timelines.get(timeline)?.get(shelf)
      if (found === undefined) return { systemIdentifier, timeline, shelf, gone: true as const }
      const { bytes } = found
      const [partials, contradictions] = [Object.fromEntries(found.partials), [...found.contradictions]]
      const ranges = [...this.#ranges(timeline, shelf)]
      return { systemIdentifier, timeline, shelf, ranges, bytes, partials, contradictions }
    })
  }

  saved(): void {
    this.#unsaved.clear()
  }

  #storedBytes(timeline: number, first: number, last: number): number {
    let sum = 0
    for (const shelf of last < first ? [] : this.shelves(timeline, shelfOf(first), shelfOf(last))) {
      const { bytes = 0, partials = new Map<string, number>() } = this.#timelines.get(timeline)?.get(shelf) ?? {}
      const ofPartials = [...partials.values()].reduce((all, one) => all + one, 0)
      let [there, meant] = [0, 0]
      for (const range of this.#ranges(timeline, shelf)) {
        there += range.last - range.first + 1
        meant += Math.max(0, Math.min(range.last, last) - Math.max(range.first, first) + 1)
      }
      if (there > 0) sum += ((bytes - ofPartials) * meant) / there
    }
    return Math.round(sum)
  }

  #apply(note: Note): void {
    const { timeline, segment } = note.file
    const shelf = shelfOf(segment)
    const bytes = this.#applyTo(this.#shelf(timeline, shelf), note)
    if (bytes === 0) this.#dropEmpty(timeline, shelf)
    else {
      this.#count(this.#shelf(timeline, shelf), bytes)
      this.#changed(timeline, shelf)
    }
  }

  /** Gives the bytes that are there more; 0 if it was known already. */
  #applyTo(found: Shelf, { what, file, wal }: Note): number {
    const set = this.coverage.segments(file.timeline)
    const key = partialKey(wal.name, wal.hash)
    if (file.kind === 'partial') {
      if (found.partials.has(key) === (what === 'stored')) return 0
      if (what === 'stored') this.#addPartial(found, key, file, wal.bytes)
      else this.#dropPartial(found, key, file)
    } else if (what === 'stored') {
      if (!set.add(file.segment)) return 0
    } else if (found.contradictions.delete(file.segment)) {
      this.#contradictions -= 1
    } else if (!set.remove(file.segment)) return 0
    return what === 'stored' ? wal.bytes : -wal.bytes
  }

  #replace(timeline: number, shelf: number, content: ShelfContent): void {
    const set = this.coverage.segments(timeline)
    const found = this.#shelf(timeline, shelf)
    let changed = found.bytes !== content.bytes || found.contradictions.size !== content.contradictions.size
    for (const { first, last } of [...this.#ranges(timeline, shelf)]) {
      for (const gap of content.segments.gaps(first, last)) {
        changed = true
        for (let segment = gap.first; segment <= gap.last; segment++) set.remove(segment)
      }
    }
    for (const { first, last } of content.segments.ranges()) if (set.addRange(first, last) > 0) changed = true
    for (const key of [...found.partials.keys()]) {
      if (content.partials.has(key)) continue
      changed = true
      this.#dropPartial(found, key, this.parse(nameOf(key)))
    }
    for (const [key, bytes] of content.partials) {
      if (found.partials.has(key)) continue
      changed = true
      this.#addPartial(found, key, this.parse(nameOf(key)), bytes)
    }
    this.#contradictions += content.contradictions.size - found.contradictions.size
    found.contradictions.clear()
    for (const segment of content.contradictions) found.contradictions.add(segment)
    this.#count(found, content.bytes - found.bytes)
    if (changed) this.#changed(timeline, shelf)
    else this.#dropEmpty(timeline, shelf)
  }

  #addPartial(shelf: Shelf, key: string, file: WalFile | null, bytes: number): void {
    shelf.partials.set(key, bytes)
    this.#partials += 1
    if (file !== null) this.coverage.add(file)
  }

  #dropPartial(shelf: Shelf, key: string, file: WalFile | null): void {
    shelf.partials.delete(key)
    this.#partials -= 1
    // The same part of the WAL with other content may still be there.
    const isLast = ![...shelf.partials.keys()].some((other) => nameOf(other) === nameOf(key))
    if (isLast && file !== null) this.coverage.remove(file)
  }

  #count(shelf: Shelf, bytes: number): void {
    shelf.bytes += bytes
    this.#bytes += bytes
  }

  #changed(timeline: number, shelf: number): void {
    this.revision += 1
    this.#changedAt.set(timeline, this.revision)
    this.#unsaved.set(shelfKey(timeline, shelf), { timeline, shelf })
    this.#dropEmpty(timeline, shelf)
  }

  #dropEmpty(timeline: number, shelf: number): void {
    const found = this.#timelines.get(timeline)?.get(shelf)
    if (found === undefined || found.partials.size > 0 || this.#ranges(timeline, shelf).next().done !== true) return
    this.#bytes -= found.bytes
    this.#timelines.get(timeline)?.delete(shelf)
  }

  #shelf(timeline: number, shelf: number): Shelf {
    const shelves = this.#timelines.get(timeline) ?? new Map<number, Shelf>()
    this.#timelines.set(timeline, shelves)
    const found = shelves.get(shelf) ?? { bytes: 0, partials: new Map(), contradictions: new Set() }
    shelves.set(shelf, found)
    return found
  }

  #ranges(timeline: number, shelf: number) {
    return this.coverage.segments(timeline).ranges(shelf * shelfSegments, (shelf + 1) * shelfSegments - 1)
  }
}

const shelfKey = (timeline: number, shelf: number) => `${timeline}/${shelf}`
const partialKey = (name: string, hash: string | null) => `${name}-${hash}`
const nameOf = (key: string) => key.slice(0, key.lastIndexOf('-'))
