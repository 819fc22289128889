import { type FSWatcher, watch } from 'node:fs'
import type { Logger } from 'pino'

/** Names that changed in a directory. Events may get lost or come for nothing: the listing is the truth. */
export interface DirectoryEvents {
  /** Sets the watch anew where it is gone, or where the directory is another one under the same path. */
  renew(identity: string): void
  /** The names since the last call, which are then forgotten; null: too many to tell, or the watch was lost. */
  take(): ReadonlySet<string> | null
  close(): void
}

/** More changes than this are read from a listing. */
const mostNames = 1_000

/** One plain watch on a flat directory: one for each file in it would cost memory in proportion to their number. */
export function watchDirectory(directory: string, log: Logger, onHint: () => void): DirectoryEvents {
  let watcher: FSWatcher | null = null
  let known = ''
  let names = new Set<string>()
  let overflown = false
  let told = false

  function lose(): void {
    watcher?.close()
    watcher = null
    known = ''
    overflown = true
  }

  return {
    renew(identity) {
      // Deleted and made again, it keeps its path, but the old watch is silent for ever.
      if (watcher !== null && identity === known) return
      lose()
      try {
        watcher = watch(directory, { persistent: false }, (_event, name) => {
          if (name === null || names.size >= mostNames) overflown = true
          else names.add(name)
          onHint()
        })
        watcher.on('error', lose)
        known = identity
      } catch (error) {
        if (!told) log.warn({ err: error, directory }, 'cannot watch for changes; they show at the next periodic look')
        told = true
      }
    },
    take() {
      const taken = overflown ? null : names
      names = new Set()
      overflown = false
      return taken
    },
    close() {
      watcher?.close()
      watcher = null
    },
  }
}
