import type { StoredWalObject, WalStore } from '../repository/wal.ts'

type Pieces = Pick<WalStore, 'systems' | 'timelines' | 'list'>

/**
 * All segments and partials in one listing, handed out by system and timeline as `WalStore` does, for where each listing of
 * its own would cost a request. Each piece can be had once, in this order; what is not taken of one is passed over.
 */
export class FlatWal implements Pieces {
  readonly #objects: AsyncGenerator<StoredWalObject>
  /** Undefined: not asked for yet; null: there is no further one. */
  #next: StoredWalObject | null | undefined

  constructor(wal: Pick<WalStore, 'all'>, signal: AbortSignal) {
    this.#objects = wal.all({ signal })
  }

  async *systems(): AsyncGenerator<string> {
    for (let next = await this.#peek(); next !== null; next = await this.#peek()) {
      const { systemIdentifier } = next
      yield systemIdentifier
      for await (const _ of this.timelines(systemIdentifier));
    }
  }

  async *timelines(systemIdentifier: string): AsyncGenerator<number> {
    for (let next = await this.#peek(); next?.systemIdentifier === systemIdentifier; next = await this.#peek()) {
      const timeline = timelineOf(next)
      yield timeline
      for await (const _ of this.list(systemIdentifier, timeline));
    }
  }

  async *list(systemIdentifier: string, timeline: number): AsyncGenerator<StoredWalObject> {
    for (;;) {
      const next = await this.#peek()
      if (next?.systemIdentifier !== systemIdentifier || timelineOf(next) !== timeline) return
      this.#next = undefined
      yield next
    }
  }

  async close(): Promise<void> {
    await this.#objects.return(undefined)
  }

  async #peek(): Promise<StoredWalObject | null> {
    while (this.#next === undefined) {
      const { value, done } = await this.#objects.next()
      if (done === true) this.#next = null
      else if (value.kind === 'segment' || value.kind === 'partial') this.#next = value
    }
    return this.#next
  }
}

function timelineOf({ name }: StoredWalObject): number {
  return Number.parseInt(name.slice(0, 8), 16)
}
