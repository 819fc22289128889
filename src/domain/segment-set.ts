/** Numbers of segments that follow one another; both ends are in it. */
export interface SegmentRange {
  readonly first: number
  readonly last: number
}

/** Ranges in ascending order, none of which touch; as two arrays, which cost 16 bytes a range. */
interface Chunk {
  readonly firsts: number[]
  readonly lasts: number[]
}

/** A full chunk is split: what is moved by an insertion stays short, however many ranges there are. */
const chunkLimit = 512

/**
 * A set of segment numbers, kept as ranges. A million segments without a gap are one range; memory grows with the number
 * of gaps alone. To add, remove and look up takes O(log gaps) steps, in any order: a constant where gaps are few.
 */
export class SegmentSet {
  /** None is empty. */
  readonly #chunks: Chunk[] = []
  #size = 0

  constructor(ranges: Iterable<SegmentRange> = []) {
    for (const { first, last } of ranges) this.addRange(first, last)
  }

  /** How many segments it holds. */
  get size(): number {
    return this.#size
  }

  /** How many ranges there are that do not touch. */
  get rangeCount(): number {
    return this.#chunks.reduce((count, { firsts }) => count + firsts.length, 0)
  }

  get first(): number | null {
    return this.#chunks[0]?.firsts[0] ?? null
  }

  get last(): number | null {
    return this.#chunks.at(-1)?.lasts.at(-1) ?? null
  }

  has(segment: number): boolean {
    return this.rangeAt(segment) !== null
  }

  /** The longest range without a gap that holds this segment, null if it is not in the set. */
  rangeAt(segment: number): SegmentRange | null {
    const found = this.#read(this.#find(segment))
    return found !== null && found.last >= segment ? found : null
  }

  /** The highest one that is not above a limit, null if there is none. */
  upTo(limit: number): number | null {
    const found = this.#read(this.#find(limit))
    return found === null ? null : Math.min(found.last, limit)
  }

  /** False if it was there already. */
  add(segment: number): boolean {
    return this.addRange(segment, segment) > 0
  }

  /** Adds all of a range. Returns how many of them were new. */
  addRange(first: number, last: number): number {
    if (!Number.isSafeInteger(first) || !Number.isSafeInteger(last) || first < 0 || last < first)
      throw new RangeError(`no range of segments: ${first} to ${last}`)
    const before = this.#size
    let at = this.#find(first)
    const left = this.#read(at)
    if (left !== null && left.last >= last) return 0
    if (left !== null && left.last >= first - 1) {
      this.#size += last - left.last
      this.#chunk(at).lasts[at.index] = last
    } else {
      at = this.#insert(at, first, last)
    }
    // What it has grown over, or up to.
    for (;;) {
      const next = this.#next(at)
      const right = this.#read(next)
      if (right === null || right.first > last + 1) return this.#size - before
      this.#delete(next)
      if (right.last <= last) continue
      this.#chunk(at).lasts[at.index] = right.last
      this.#size += right.last - last
      return this.#size - before
    }
  }

  /** False if it was not there. */
  remove(segment: number): boolean {
    const at = this.#find(segment)
    const found = this.#read(at)
    if (found === null || found.last < segment) return false
    const { first, last } = found
    if (first === last) {
      this.#delete(at)
      return true
    }
    this.#size--
    if (segment === first) this.#chunk(at).firsts[at.index] = segment + 1
    else this.#chunk(at).lasts[at.index] = segment - 1
    if (segment !== first && segment !== last) {
      this.#size -= last - segment
      this.#insert(at, segment + 1, last)
    }
    return true
  }

  /** The ranges between two segments, cut to them, in ascending order. The set may not change meanwhile. */
  *ranges(from = 0, to = Number.MAX_SAFE_INTEGER): Generator<SegmentRange, void> {
    if (from > to) return
    let at = this.#find(from)
    const left = this.#read(at)
    if (left === null || left.last < from) at = this.#next(at)
    for (let found = this.#read(at); found !== null && found.first <= to; found = this.#read(at)) {
      yield { first: Math.max(found.first, from), last: Math.min(found.last, to) }
      at = this.#next(at)
    }
  }

  /** What is missing between two segments, both included, in ascending order. The set may not change meanwhile. */
  *gaps(from: number, to: number): Generator<SegmentRange, void> {
    let next = from
    for (const { first, last } of this.ranges(from, to)) {
      if (first > next) yield { first: next, last: first - 1 }
      next = last + 1
    }
    if (next <= to) yield { first: next, last: to }
  }

  /** The last range that begins at or before a segment; index -1 of the first chunk if there is none. */
  #find(segment: number): Position {
    const chunk = Math.max(0, lastAtMost(this.#chunks, segment, firstOf))
    const firsts = this.#chunks[chunk]?.firsts
    return { chunk, index: firsts === undefined ? -1 : lastAtMost(firsts, segment, itself) }
  }

  #next({ chunk, index }: Position): Position {
    return index + 1 < (this.#chunks[chunk]?.firsts.length ?? 0)
      ? { chunk, index: index + 1 }
      : { chunk: chunk + 1, index: 0 }
  }

  #read({ chunk, index }: Position): SegmentRange | null {
    const found = this.#chunks[chunk]
    const [first, last] = [found?.firsts[index], found?.lasts[index]]
    return first === undefined || last === undefined ? null : { first, last }
  }

  #chunk({ chunk }: Position): Chunk {
    const found = this.#chunks[chunk]
    if (found === undefined) throw new RangeError(`no chunk ${chunk}`)
    return found
  }

  /** Puts a range behind a position, and returns where it is. */
  #insert({ chunk, index }: Position, first: number, last: number): Position {
    this.#size += last - first + 1
    if (this.#chunks.length === 0) this.#chunks.push({ firsts: [], lasts: [] })
    const { firsts, lasts } = this.#chunk({ chunk, index })
    firsts.splice(index + 1, 0, first)
    lasts.splice(index + 1, 0, last)
    if (firsts.length <= chunkLimit) return { chunk, index: index + 1 }
    // In two halves; at the very end the first stays full, since segments mostly come in order.
    const half = index + 2 === firsts.length ? chunkLimit : chunkLimit / 2
    this.#chunks.splice(chunk + 1, 0, { firsts: firsts.splice(half), lasts: lasts.splice(half) })
    return index + 1 < half ? { chunk, index: index + 1 } : { chunk: chunk + 1, index: index + 1 - half }
  }

  #delete({ chunk, index }: Position): void {
    const { firsts, lasts } = this.#chunk({ chunk, index })
    const [first = 0] = firsts.splice(index, 1)
    const [last = -1] = lasts.splice(index, 1)
    this.#size -= last - first + 1
    if (firsts.length === 0) this.#chunks.splice(chunk, 1)
  }
}

interface Position {
  readonly chunk: number
  readonly index: number
}

const itself = (value: number) => value
const firstOf = (chunk: Chunk) => chunk.firsts[0] ?? 0

/** Index of the last one that is not above a limit, in ascending order; -1 if there is none. */
function lastAtMost<Item>(items: readonly Item[], limit: number, value: (item: Item) => number): number {
  let [low, high] = [0, items.length]
  while (low < high) {
    const middle = (low + high) >>> 1
    const item = items[middle]
    if (item !== undefined && value(item) <= limit) low = middle + 1
    else high = middle
  }
  return low - 1
}
