import { SegmentSet } from '../domain/segment-set.ts'
import { parseWalName, segmentName, type WalFile, type WalFileKind } from '../domain/wal.ts'
import type { StoredWalState, WalArchiveState } from '../observe/wal-state.ts'

/** One file of the archive that is to be shipped. */
export interface Item {
  readonly name: string
  readonly file: WalFile
  /** It was stored before, and may have got other bytes since. */
  readonly isAgain?: boolean
}

/** The archive while it holds something that can be shipped. */
export type ReadyArchive = WalArchiveState & {
  readonly segmentSize: number
  readonly coverage: NonNullable<WalArchiveState['coverage']>
}

export function readyArchive(archive: WalArchiveState | null): ReadyArchive | null {
  if (archive === null) return null
  const { segmentSize, coverage } = archive
  return segmentSize === null || coverage === null ? null : { ...archive, segmentSize, coverage }
}

/** The first segment that is to be shipped, of a system identifier and a timeline; those before were expired. */
export type ShipFrom = (systemIdentifier: string, timeline: number) => number

/**
 * What is to be shipped to one repository: the archive without what is stored there by the last look of its index, and
 * without what this process takes out. Nothing is made a list of: of 100,000 segments the next one is found by ranges.
 */
export class Plan {
  readonly #segments = new Map<number, SegmentSet>()
  readonly #names = new Set<string>()
  readonly #shipFrom: ShipFrom

  constructor(shipFrom: ShipFrom) {
    this.#shipFrom = shipFrom
  }

  /** From now on the file is not to be shipped: it is on its way, was stored, or is in quarantine. */
  take(item: Item): void {
    if (item.file.kind === 'segment') this.#taken(item.file.timeline).add(item.file.segment)
    else this.#names.add(item.name)
  }

  /** It may be shipped (again). */
  give({ name, file }: Item): void {
    if (file.kind === 'segment') this.#taken(file.timeline).remove(file.segment)
    else this.#names.delete(name)
  }

  /**
   * The next file, the histories first: the segments of a new timeline mean nothing without it; null: nothing, or a history
   * is still on its way.
   */
  next(archive: ReadyArchive, stored: StoredWalState, isHistoryOnItsWay: boolean): Item | null {
    const history = this.#named(archive.plainNames, archive, 'history')
    if (history !== null || isHistoryOnItsWay) return history
    const label = this.#named(archive.plainNames, archive, 'label')
    if (label !== null) return label
    for (const { timeline, first } of this.#waiting(archive, stored)) {
      const file: WalFile = { kind: 'segment', timeline, segment: first }
      return { name: segmentName(timeline, first, archive.segmentSize), file }
    }
    return this.#named(archive.partialNames, archive, 'partial')
  }

  /** How many whole segments are still to be shipped. */
  waiting(archive: ReadyArchive, stored: StoredWalState): number {
    let count = 0
    for (const { first, last } of this.#waiting(archive, stored)) count += last - first + 1
    return count
  }

  *#waiting(
    archive: ReadyArchive,
    stored: StoredWalState,
  ): Generator<{ timeline: number; first: number; last: number }> {
    const { systemIdentifier, coverage, segmentSize } = archive
    const system = systemIdentifier === null ? undefined : stored.systems.get(systemIdentifier)
    // Numbers of another size are other places. What else of them is stored is seen file by file.
    const held = system?.coverage.segmentSize === segmentSize ? system.coverage : null
    for (const timeline of coverage.present()) {
      const from = systemIdentifier === null ? 0 : this.#shipFrom(systemIdentifier, timeline)
      const taken = this.#taken(timeline)
      const there = held?.segments(timeline)
      for (const range of coverage.segments(timeline).ranges(from)) {
        for (const gap of there?.gaps(range.first, range.last) ?? [range]) {
          for (const { first, last } of taken.gaps(gap.first, gap.last)) yield { timeline, first, last }
        }
      }
    }
  }

  #named(names: readonly string[], { segmentSize }: ReadyArchive, kind: WalFileKind): Item | null {
    for (const name of names) {
      const file = this.#names.has(name) ? null : parseWalName(name, segmentSize)
      if (file?.kind === kind) return { name, file }
    }
    return null
  }

  #taken(timeline: number): SegmentSet {
    const found = this.#segments.get(timeline)
    if (found !== undefined) return found
    const made = new SegmentSet()
    this.#segments.set(timeline, made)
    return made
  }
}
