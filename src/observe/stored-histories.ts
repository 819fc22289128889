import type { Logger } from 'pino'
import { LifeboatError, toFailure } from '../domain/errors.ts'
import type { StoredWalObject, WalStore } from '../repository/wal.ts'
import { readStoredHistory } from '../repository/wal-content.ts'
import type { StoredShelves } from './stored-shelves.ts'

/** The histories and labels of one system: they are read once, and again when they have changed. */
export class StoredHistories {
  readonly #wal: Pick<WalStore, 'read'>
  readonly #log: Logger
  /** Versions of the histories that were read, by timeline. */
  readonly #read = new Map<number, string>()

  constructor(wal: Pick<WalStore, 'read'>, log: Logger) {
    this.#wal = wal
    this.#log = log
  }

  /**
   * A history that is not valid is told of once and left out; of a storage that fails the error is passed on. `listed`: all that
   * are stored.
   */
  async look(
    system: StoredShelves,
    listed: readonly StoredWalObject[],
    confirm: () => Promise<void>,
    signal: AbortSignal,
  ): Promise<void> {
    const { timelines } = system.coverage
    const seen = new Set<number>()
    let bytes = 0
    for (const object of listed) {
      bytes += object.info.bytes
      if (object.kind !== 'history') continue
      const timeline = Number.parseInt(object.name, 16)
      seen.add(timeline)
      if (this.#read.get(timeline) === object.info.version) continue
      try {
        timelines.add(await readStoredHistory(this.#wal, object, { signal }))
      } catch (error) {
        if (!(error instanceof LifeboatError && error.code === 'wal-invalid')) throw error
        timelines.remove(timeline)
        this.#log.warn({ key: object.info.key, failure: toFailure(error) }, 'stored timeline history cannot be used')
      }
      this.#read.set(timeline, object.info.version)
      system.revision += 1
    }
    const gone = [...this.#read.keys()].filter((timeline) => !seen.has(timeline))
    if (gone.length > 0) await confirm()
    for (const timeline of gone) {
      this.#read.delete(timeline)
      timelines.remove(timeline)
      system.revision += 1
    }
    if (bytes !== system.plainBytes || listed.length !== system.plainFiles) system.revision += 1
    system.plainBytes = bytes
    system.plainFiles = listed.length
  }
}
