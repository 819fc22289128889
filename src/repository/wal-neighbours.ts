import type { Stoppable } from './backup-folder.ts'
import type { StoredWalObject } from './wal.ts'

/** Beside one whose header is damaged the next one may be damaged as well: so many are tried on each side. */
const tried = 3

/** What was found out about so many objects is kept. */
const mostKnown = 1000

export interface WalNeighboursOptions {
  /** What is stored in one log (4 GiB of WAL) of a timeline, in the order of the WAL; `beside`: in the one so many further. */
  readonly log: (of: string, beside: number, options: Stoppable) => AsyncIterable<StoredWalObject>
  /** Whether the configured identity opens it. */
  readonly opens: (object: StoredWalObject, options: Stoppable) => Promise<boolean>
}

/**
 * Tells, of an encrypted segment that the configured identity does not open, whether that is the fault of the identity: age
 * does not tell another key from a damaged header. Keys change seldom, and segments come in order: where the identity opens
 * what lies before a segment and what comes after it, it is the segment that is damaged. At an end of what is stored its
 * only neighbour is enough.
 */
export class WalNeighbours {
  readonly #options: WalNeighboursOptions
  readonly #known = new Map<string, boolean>()
  #last: { readonly id: string; readonly objects: readonly StoredWalObject[] } | null = null

  constructor(options: WalNeighboursOptions) {
    this.#options = options
  }

  /** A neighbour that shows that the object is damaged; null: nothing does. */
  async witness(key: string, options: Stoppable): Promise<StoredWalObject | null> {
    const before = (await this.#side(key, -1, options)).slice(-tried).reverse()
    const earlier = await this.#firstThatOpens(before, options)
    if (before.length > 0 && earlier === null) return null
    const after = await this.#side(key, 1, options)
    if (after.length === 0) return earlier === before[0] ? earlier : null
    return this.#firstThatOpens(after.slice(0, before.length > 0 ? tried : 1), options)
  }

  /** Encrypted ones before or after it in its log, or else in the one beside it. */
  async #side(key: string, step: -1 | 1, options: Stoppable): Promise<readonly StoredWalObject[]> {
    for (const beside of [0, step]) {
      const found = (await this.#log(key, beside, options)).filter(
        ({ isEncrypted, info }) => isEncrypted && (step < 0 ? info.key < key : info.key > key),
      )
      if (found.length > 0) return found
    }
    return []
  }

  /** Who reads with the wrong identity asks for each segment of a log. */
  async #log(key: string, beside: number, options: Stoppable): Promise<readonly StoredWalObject[]> {
    const id = `${key.slice(0, key.lastIndexOf('/'))} ${beside}`
    if (this.#last?.id === id) return this.#last.objects
    const objects: StoredWalObject[] = []
    for await (const object of this.#options.log(key, beside, options)) objects.push(object)
    if (beside === 0) this.#last = { id, objects }
    return objects
  }

  async #firstThatOpens(objects: readonly StoredWalObject[], options: Stoppable): Promise<StoredWalObject | null> {
    for (const object of objects) {
      const { key, version } = object.info
      const id = `${key} ${version}`
      const opens = this.#known.get(id) ?? (await this.#options.opens(object, options))
      if (this.#known.size >= mostKnown) this.#known.clear()
      this.#known.set(id, opens)
      if (opens) return object
    }
    return null
  }
}
