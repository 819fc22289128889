import { compareKeys } from './keys.ts'
import type { CommonPrefix, ListOptions, ObjectInfo } from './storage.ts'

/** Objects by their keys, in byte order: what a listing gave, kept. */
export class SortedObjects {
  #objects: readonly ObjectInfo[] = []

  get size(): number {
    return this.#objects.length
  }

  /** Puts what was found, in order, in the place of what is known after one key and before another; null: to the end. */
  replace(after: string, before: string | null, found: readonly ObjectInfo[]): void {
    const from = this.#indexAfter(after)
    const to = before === null ? this.#objects.length : this.#indexOf(before)
    this.#objects = [...this.#objects.slice(0, from), ...found, ...this.#objects.slice(to)]
  }

  find(key: string): ObjectInfo | null {
    const found = this.#objects[this.#indexOf(key)]
    return found?.key === key ? found : null
  }

  /** See `Storage.list`. */
  *list(prefix: string, { startAfter = '', delimiter }: ListOptions = {}): Generator<ObjectInfo | CommonPrefix> {
    let folder = ''
    const begin = compareKeys(startAfter, prefix) < 0 ? this.#indexOf(prefix) : this.#indexAfter(startAfter)
    // What is replaced meanwhile is another array.
    const objects = this.#objects
    for (let index = begin; index < objects.length; index++) {
      const object = objects[index]
      if (!object?.key.startsWith(prefix)) return
      const cut = delimiter === undefined ? -1 : object.key.indexOf(delimiter, prefix.length)
      if (cut < 0) yield object
      else if (folder === '' || !object.key.startsWith(folder)) {
        folder = object.key.slice(0, cut + 1)
        yield { prefix: folder }
      }
    }
  }

  /** Where the first key is that is not before this one. */
  #indexOf(key: string): number {
    let [low, high] = [0, this.#objects.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if (compareKeys(this.#objects[middle]?.key ?? '', key) < 0) low = middle + 1
      else high = middle
    }
    return low
  }

  #indexAfter(key: string): number {
    const index = this.#indexOf(key)
    return this.#objects[index]?.key === key ? index + 1 : index
  }
}
