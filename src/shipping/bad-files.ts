import { SegmentSet } from '../domain/segment-set.ts'
import type { QuarantineReason, RefusedSegments } from '../observe/shipping-state.ts'
import type { Item } from './plan.ts'

/** A file that is not shipped, and what would have to change so that it is. */
export interface BadFile {
  readonly item: Item
  readonly reason: QuarantineReason | 'undecided'
  /** The file as it was found; null: it could not be opened. */
  readonly identity: string | null
  /** What its first page says. */
  readonly systemIdentifier: string | null
}

/** The files of the archive that are not shipped to one repository. */
export class BadFiles {
  /** In the order in which they are looked at again. */
  readonly #files = new Map<string, BadFile>()
  readonly #refused = new Map<number, SegmentSet>()
  #revision = 0

  get refused(): RefusedSegments {
    return { segments: this.#refused, revision: this.#revision }
  }

  add(file: BadFile): void {
    this.delete(file.item.name)
    this.#files.set(file.item.name, file)
    const set = this.#refusedOf(file)
    if (set !== null) set.segments.add(set.segment)
  }

  get(name: string): BadFile | undefined {
    return this.#files.get(name)
  }

  delete(name: string): void {
    const file = this.#files.get(name)
    const set = file === undefined ? null : this.#refusedOf(file)
    if (set !== null) set.segments.remove(set.segment)
    this.#files.delete(name)
  }

  items(): readonly Item[] {
    return [...this.#files.values()].map(({ item }) => item)
  }

  /** The next ones to look at again: each in its turn. */
  take(count: number): readonly BadFile[] {
    const taken: BadFile[] = []
    for (const file of this.#files.values()) {
      if (taken.length === count) break
      taken.push(file)
    }
    for (const file of taken) {
      this.#files.delete(file.item.name)
      this.#files.set(file.item.name, file)
    }
    return taken
  }

  counts(): { readonly quarantined: ReadonlyMap<QuarantineReason, number>; readonly undecided: number } {
    const quarantined = new Map<QuarantineReason, number>()
    let undecided = 0
    for (const { reason } of this.#files.values()) {
      if (reason === 'undecided') undecided += 1
      else quarantined.set(reason, (quarantined.get(reason) ?? 0) + 1)
    }
    return { quarantined, undecided }
  }

  #refusedOf({ item: { file }, reason }: BadFile): { readonly segments: SegmentSet; readonly segment: number } | null {
    if (file.kind !== 'segment' || reason === 'undecided') return null
    const segments = this.#refused.get(file.timeline) ?? new SegmentSet()
    this.#refused.set(file.timeline, segments)
    this.#revision += 1
    return { segments, segment: file.segment }
  }
}
