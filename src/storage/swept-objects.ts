import type { Clock } from '../clock.ts'
import { throwIfStopped } from './failures.ts'
import { compareKeys } from './keys.ts'
import { SortedObjects } from './sorted-objects.ts'
import type { Storage } from './storage.ts'

/** What a request of a bucket lists. */
const pageObjects = 1000

/** Objects that were passed over, and are none of those that belong there. */
export interface ForeignObjects {
  readonly count: number
  /** A few of their keys. */
  readonly examples: readonly string[]
}

const fewExamples = 5

export interface SweptObjectsOptions {
  readonly storage: Pick<Storage, 'list'>
  readonly clock: Clock
  readonly prefix: string
  /** Keys from this one on do not count; null: all below the prefix do. */
  readonly end: string | null
  readonly kindOf: (key: string) => 'kept' | 'ours' | 'foreign'
  /** After which key, and before which, new ones are to be expected; asked where there is more than a page. */
  readonly newest: () => readonly { readonly after: string; readonly before: string | null }[]
}

/**
 * The objects below a prefix, as listings of a page at a time tell them, round and round: where there is no more than a page,
 * all of them each time.
 */
export class SweptObjects {
  readonly kept = new SortedObjects()
  readonly #options: SweptObjectsOptions
  /** Behind which key the next page begins; null: at the first one. */
  #cursor: string | null = null
  #refreshedAt: number | null = null
  #counting: { count: number; examples: string[]; others: number } = { count: 0, examples: [], others: 0 }
  #foreign: (ForeignObjects & { readonly others: number }) | null = null

  constructor(options: SweptObjectsOptions) {
    this.#options = options
  }

  /** When they were listed last, by the monotonic clock, milliseconds; null before all were listed once. */
  get refreshedAt(): number | null {
    return this.#refreshedAt
  }

  /** Null until all were listed once. */
  get foreign(): ForeignObjects | null {
    return this.#foreign
  }

  /** How many there are, those of others included, which are as the last round has found them; null until all were listed once. */
  get count(): number | null {
    return this.#foreign === null ? null : this.kept.size + this.#foreign.others
  }

  /** Lists a page, and where there is more than that, what is to be expected besides. The first time everything. */
  async refresh(signal?: AbortSignal): Promise<void> {
    const from = this.#cursor
    let isEnd = await this.#sweep(signal)
    // A first listing that was broken off goes on where it ended.
    while (this.#refreshedAt === null && !isEnd) isEnd = await this.#sweep(signal)
    const isAll = from === null && isEnd
    for (const { after, before } of isAll ? [] : this.#options.newest()) {
      await this.#list({ after, before, most: Number.POSITIVE_INFINITY }, signal)
    }
    this.#refreshedAt = this.#options.clock.monotonic()
  }

  /** Lists the next page. True when it was the last one. */
  async #sweep(signal: AbortSignal | undefined): Promise<boolean> {
    const { last, foreign, others } = await this.#list(
      { after: this.#cursor, before: this.#options.end, most: pageObjects },
      signal,
    )
    this.#counting.count += foreign.length
    this.#counting.others += others
    this.#counting.examples.push(...foreign.slice(0, fewExamples - this.#counting.examples.length))
    this.#cursor = last
    if (last !== null) return false
    this.#foreign = this.#counting
    this.#counting = { count: 0, examples: [], others: 0 }
    return true
  }

  /** Lists from one key up to another, at most so many. `last`: the last key, where there may be more; `others`: those not kept. */
  async #list(
    { after, before, most }: { readonly after: string | null; readonly before: string | null; readonly most: number },
    signal: AbortSignal | undefined,
  ): Promise<{ readonly last: string | null; readonly foreign: readonly string[]; readonly others: number }> {
    const { storage, prefix, kindOf } = this.#options
    const found: Parameters<SortedObjects['replace']>[2][number][] = []
    const foreign: string[] = []
    let last: string | null = null
    let count = 0
    const options = { ...(after === null ? {} : { startAfter: after }), ...(signal && { signal }) }
    for await (const item of storage.list(prefix, options)) {
      if (!('key' in item)) continue
      if (before !== null && compareKeys(item.key, before) >= 0) break
      const kind = kindOf(item.key)
      if (kind === 'kept') found.push(item)
      else if (kind === 'foreign') foreign.push(item.key)
      count += 1
      if (count < most) continue
      last = item.key
      break
    }
    throwIfStopped(signal)
    this.kept.replace(after ?? '', last === null ? before : `${last}\0`, found)
    return { last, foreign, others: count - found.length }
  }
}
