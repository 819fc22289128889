import type { QuarantineReason } from '../observe/shipping-state.ts'
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

  add(file: BadFile): void {
    this.#files.set(file.item.name, file)
  }

  get(name: string): BadFile | undefined {
    return this.#files.get(name)
  }

  delete(name: string): void {
    this.#files.delete(name)
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
}
