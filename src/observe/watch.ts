import { type FSWatcher as DirectoryWatcher, watch as watchDirectory } from 'node:fs'
import { stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { watch as watchFolders } from 'chokidar'
import type { Logger } from 'pino'
import {
  backupPrefix,
  backupsPrefix,
  holdsPrefix,
  inProgressKey,
  manifestKey,
  proofsPrefix,
} from '../repository/layout.ts'

/** Hints that a local repository changed. They may get lost or come for nothing: the listing is the truth. */
export interface RepositoryWatch {
  /**
   * Sets the watches on the directories anew where they are gone, new or replaced. Call it before each listing, so that
   * nothing happens unseen between the listing and the watch. A directory that does not exist yet is awaited at its
   * nearest existing parent.
   */
  renew(): Promise<void>
  /** The backups that have no manifest yet: their folders alone are watched for one. */
  await(ids: readonly string[]): void
  close(): Promise<void>
}

export interface RepositoryWatchOptions {
  /** Directory of the local storage. */
  readonly root: string
  readonly cluster: string
  readonly log: Logger
  /** Called for every event, often many times at once. Must not throw. */
  readonly onHint: () => void
}

// Folders without a manifest are normally the few backups being taken now. Should there be heaps of them (left by
// crashes), the newest are watched and the periodic look sees the others.
const mostFolders = 64

/**
 * Watches a repository: one plain watch each on its flat, possibly large directories (a watch per folder in them would
 * cost memory and start-up time in proportion to the number of backups), and chokidar on the few unfinished folders.
 * Where no watch can be had (too many of them, a file system without events) it says so once and goes without.
 */
export function createRepositoryWatch({ root, cluster, log, onHint }: RepositoryWatchOptions): RepositoryWatch {
  const prefixes = [backupsPrefix(cluster), proofsPrefix(cluster), holdsPrefix(cluster)]
  const places = prefixes.map((prefix) => createPlace(resolve(root, prefix)))
  const folders = watchFolders([], { depth: 0, followSymlinks: false, persistent: false })
  let awaited = new Set<string>()
  let telling = new Set<string>()
  let told = false
  let closed = false

  function withoutWatch(error: unknown): void {
    if (!told) log.warn({ err: error, root }, 'cannot watch for changes; they show at the next periodic look')
    told = true
  }

  folders.on('all', (event, path) => {
    // The heartbeat changes all the time and artifacts come one by one: only what alters the backup's state counts.
    if (event !== 'change' && telling.has(path)) onHint()
  })
  folders.on('error', withoutWatch)

  function createPlace(directory: string) {
    let watcher: DirectoryWatcher | null = null
    let identity = ''

    function drop(): void {
      watcher?.close()
      watcher = null
      identity = ''
    }

    return {
      drop,
      async renew(): Promise<void> {
        const present = await nearestExisting(directory, resolve(root))
        // A directory that was deleted and made again keeps its path, but the old watch on it is silent for ever.
        if (closed || present?.identity === identity) return
        drop()
        if (present === null) return
        try {
          watcher = watchDirectory(present.path, { persistent: false }, onHint)
          watcher.on('error', (error) => {
            drop()
            withoutWatch(error)
          })
          identity = present.identity
        } catch (error) {
          withoutWatch(error)
        }
      },
    }
  }

  return {
    async renew() {
      await Promise.all(places.map((place) => place.renew()))
    },
    await(ids) {
      if (closed) return
      const newest = ids.slice(-mostFolders)
      const wanted = new Set(newest.map((id) => resolve(root, backupPrefix(cluster, id))))
      const gone = [...awaited].filter((folder) => !wanted.has(folder))
      const added = [...wanted].filter((folder) => !awaited.has(folder))
      telling = new Set(
        newest.flatMap((id) => [manifestKey(cluster, id), inProgressKey(cluster, id)].map((key) => resolve(root, key))),
      )
      if (gone.length > 0) folders.unwatch(gone)
      // Events for what is in the folder already come too: a manifest published since the listing gives its hint.
      if (added.length > 0) folders.add(added)
      awaited = wanted
    },
    async close() {
      closed = true
      for (const place of places) place.drop()
      await folders.close()
    },
  }
}

/** The directory or the nearest of its parents (not above `root`) that exists, with device and inode; null if none. */
async function nearestExisting(directory: string, root: string): Promise<{ path: string; identity: string } | null> {
  for (let path = directory; path.length >= root.length; path = dirname(path)) {
    try {
      const { dev, ino } = await stat(path)
      return { path, identity: `${dev}:${ino}` }
    } catch {
      if (path === root) return null
    }
  }
  return null
}
