import { lchown, lstat, mkdir, rm, rmdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { LifeboatError } from '../domain/errors.ts'
import type { FetchOptions } from './fetch-wal.ts'
import { Prefetcher } from './prefetch.ts'
import { SegmentWriters } from './segment-writers.ts'
import { Spool, type SpoolOwner, spoolName } from './spool.ts'
import { UpcomingSegments } from './upcoming.ts'

export interface FeedOptions extends FetchOptions {
  readonly dataDirectory: string
  /** Where lifeboat-restore-wal has its spool (`--spool`), absolute. */
  readonly spool: string
  /** Who recovers; null: we do. */
  readonly owner: SpoolOwner | null
  /** The segment that it will ask for first: it and those after it are fetched while the server starts. */
  readonly first: string
  /** The one with the last record that it needs, as far as anybody knows. */
  readonly last: string
  readonly segmentBytes: number
}

/** PostgreSQL 15 and newer look so far beyond the last one at least where they are nearly empty (`recovery_prefetch`). */
const beyond = 2
const [ahead, maxBytes, parallel] = [16, 512 * 2 ** 20, 2]

/**
 * Is the prefetcher of a recovery. Its server may run as another OS user, who may neither read the repositories nor start us,
 * and has in any case nothing of our environment, as the keys of a bucket. Gives what ends it.
 *
 * @throws LifeboatError `conflict` for what is in the way; what the file system says
 */
export async function feedRecovery(options: FeedOptions): Promise<() => Promise<void>> {
  const { dataDirectory, owner } = options
  const directory = join(options.spool, await spoolName(dataDirectory))
  for (const path of [options.spool, directory]) {
    await mkdir(path, { recursive: true, mode: 0o700 })
    // Who recovers may have put anything there: what a link points to is not given away, and not written.
    if (!(await lstat(path)).isDirectory()) throw new LifeboatError('conflict', `${path} is not a directory`)
    if (owner !== null) await lchown(path, owner.uid, owner.gid)
  }
  for (const [name, text] of [
    ['wanted', `${options.first} !\n`],
    ['missed', ''],
    ['prefetcher', `${process.pid}\n`],
  ] as const) {
    await rm(join(directory, name), { force: true })
    await writeFile(join(directory, name), text, { flag: 'wx' })
    if (owner !== null) await lchown(join(directory, name), owner.uid, owner.gid)
  }
  const spool = new Spool(directory, owner)
  const lock = await spool.lock()
  const stop = new AbortController()
  const signal = AbortSignal.any([options.signal, stop.signal])
  const fetch = { ...options, signal }
  const segments = new UpcomingSegments({ ...fetch, asking: fetch })
  const upcoming = {
    from: async (segment: string, count: number) => {
      const found = await segments.from(segment, count)
      const needed = found.filter(({ name }) => name.slice(8) <= options.last.slice(8))
      return found.slice(0, needed.length + beyond)
    },
  }
  const writers = new SegmentWriters(parallel)
  const { last, segmentBytes } = options
  const how = { ahead, maxBytes, parallel, writers, dataDirectory, last, segmentBytes }
  const running = new Prefetcher({ spool, upcoming, fetch, ...how })
    .run()
    .catch(() => {}) // without one, the script asks file by file, and says what is wrong
    .then(() => writers.close())
    .finally(() => lock?.release())
  return async () => {
    stop.abort()
    await running
    // We may live on: nobody must wait for a prefetcher that is none any more.
    await spool.destroy().catch(() => {}) // what was recovered is none the worse for it
    await rmdir(options.spool).catch(() => {}) // it may hold that of another boot
  }
}
