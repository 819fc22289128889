import { Readable } from 'node:stream'
import type { Clock } from '../../src/clock.ts'
import { LifeboatError } from '../../src/domain/errors.ts'
import type { CommonPrefix, ObjectInfo, PutOptions, Storage, StoredObject } from '../../src/storage/storage.ts'

/**
 * Small objects in memory, for tests in which time only passes when it is told to: a disk takes time of its own. What a real
 * storage does is tested on real ones.
 */
export class MemoryStorage implements Storage {
  readonly #clock: Clock
  readonly #objects = new Map<string, { readonly info: ObjectInfo; readonly bytes: Uint8Array }>()
  #versions = 0

  constructor(clock: Clock) {
    this.#clock = clock
  }

  async put(
    key: string,
    body: Readable | Uint8Array,
    { ifAbsent = false, signal }: PutOptions = {},
  ): Promise<ObjectInfo> {
    signal?.throwIfAborted()
    if (body instanceof Readable) throw new TypeError('only bytes')
    if (ifAbsent && this.#objects.has(key)) throw new LifeboatError('object-exists', key)
    this.#versions += 1
    const info = { key, bytes: body.length, modified: this.#clock.now(), version: String(this.#versions) }
    this.#objects.set(key, { info, bytes: body })
    return info
  }

  async get(key: string): Promise<StoredObject> {
    const found = this.#objects.get(key)
    if (found === undefined) throw new LifeboatError('object-missing', key)
    return { info: found.info, body: Readable.from([Buffer.from(found.bytes)]) }
  }

  async head(key: string): Promise<ObjectInfo | null> {
    return this.#objects.get(key)?.info ?? null
  }

  async *list(prefix: string): AsyncGenerator<ObjectInfo | CommonPrefix> {
    for (const key of [...this.#objects.keys()].sort()) {
      const info = key.startsWith(prefix) ? this.#objects.get(key)?.info : undefined
      if (info !== undefined) yield info
    }
  }

  async remove(key: string): Promise<void> {
    this.#objects.delete(key)
  }
}
