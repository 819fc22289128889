import { type FSWatcher, watch } from 'node:fs'

/** Hears when the script asks for something: a hint that comes at once, where the system has a watch to spare. */
export class AskedWatch {
  #watcher: FSWatcher | null = null
  #heard = Promise.withResolvers<void>()

  /** @param directory of the spool */
  constructor(directory: string) {
    try {
      this.#watcher = watch(directory, { persistent: false }, (_, name) => {
        if (name === null || name === 'wanted') this.#heard.resolve()
      }).on('error', () => this.close())
    } catch {
      // The system has none left, or the directory is gone: then whoever asks for it looks again and again.
    }
  }

  get isWatching(): boolean {
    return this.#watcher !== null
  }

  /** Resolves with what is asked for from now on: to be called before the look at what is wanted. */
  next(): Promise<void> {
    this.#heard = Promise.withResolvers()
    return this.#heard.promise
  }

  close(): void {
    this.#watcher?.close()
    this.#watcher = null
  }
}
