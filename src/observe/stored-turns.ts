import type { StoredShelves } from './stored-shelves.ts'

/** Timelines that are looked at each time, those that changed last; of the others so many in turn. */
const [hotTimelines, coldTimelines] = [8, 2]

interface Place {
  readonly known: { readonly shelves: StoredShelves }
  readonly timeline: number
}

/** Those that changed last first. */
export function byChange<P extends Place>(places: readonly P[]): P[] {
  const changedAt = ({ known, timeline }: Place) => known.shelves.changedAt(timeline)
  return places.toSorted((a, b) => changedAt(b) - changedAt(a) || b.timeline - a.timeline)
}

/** What a look is for, where it cannot be for everything. */
export class Turns {
  #cold = 0
  #question = 0

  /** Timelines that were left long ago are many, and do not change. */
  due<P extends Place>(places: readonly P[]): readonly P[] {
    const sorted = byChange(places)
    const cold = sorted.splice(hotTimelines).sort((a, b) => a.timeline - b.timeline)
    this.#cold = this.#cold >= cold.length ? 0 : this.#cold
    const chosen = cold.slice(this.#cold, this.#cold + coldTimelines)
    this.#cold += coldTimelines
    return [...sorted, ...chosen]
  }

  /** The first every other time, the others in turn. */
  next<T>(first: T, others: readonly T[]): T {
    const turn = this.#question++
    return (turn % 2 === 0 ? first : others[((turn - 1) / 2) % others.length]) ?? first
  }
}
