import { type FSWatcher, watch } from 'node:fs'
import { basename } from 'node:path'
import type { Logger } from 'pino'

/** Names that changed in a directory. Events may get lost or come for nothing: the listing is the truth. */
export interface DirectoryEvents {
  /** Sets the watch anew where it is gone, or where the directory is another one under the same path. */
  renew(identity: string): void
  /**
   * The names since the last call, which are then forgotten, and whether any of them was written to (`change`) or only
   * came, went or was renamed; null: too many to tell, or the watch was lost.
   */
  take(): ReadonlyMap<string, 'rename' | 'change'> | null
  /** Whether a name was written to since the last `take`. */
  isWritten(name: string): boolean
  close(): void
}

/** More changes than this are read from a listing. */
const mostNames = 1_000

/** One plain watch on a flat directory: one for each file in it would cost memory in proportion to their number. */
export function watchDirectory(directory: string, log: Logger, onHint: () => void): DirectoryEvents {
  let watcher: FSWatcher | null = null
  let known = ''
  let names = new Map<string, 'rename' | 'change'>()
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
      const isNew = watcher === null
      lose()
      try {
        watcher = watch(directory, { persistent: false }, (event, name) => {
          // By its own name it tells of itself: it went, and another one with the same inode may take its place.
          if (event === 'rename' && name === basename(directory)) lose()
          else if (name === null || names.size >= mostNames) overflown = true
          else if (names.get(name) !== 'change') names.set(name, event)
          onHint()
        })
        watcher.on('error', lose)
        known = identity
        // What came between the listing and the watch was not heard of. (Not where every look finds another inode.)
        if (isNew) onHint()
      } catch (error) {
        if (!told) log.warn({ err: error, directory }, 'cannot watch for changes; they show at the next periodic look')
        told = true
      }
    },
    take() {
      const taken = overflown || watcher === null ? null : names
      names = new Map()
      overflown = false
      return taken
    },
    isWritten: (name) => overflown || names.get(name) === 'change',
    close() {
      watcher?.close()
      watcher = null
    },
  }
}
