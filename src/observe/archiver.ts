import { lstat, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../clock.ts'
import {
  type ArchiverSample,
  type ArchiverVerdict,
  judgeArchiver,
  sampleAgeMs,
  type TimedSample,
} from '../domain/archiver.ts'
import { LifeboatError } from '../domain/errors.ts'

/** What is known of the server's archiver. */
export interface ArchiverView extends ArchiverVerdict {
  /** Since the server's statistics were reset. */
  readonly archived: number
  readonly failed: number
  /** Files that wait to be archived; null: the role may not see them. */
  readonly ready: number | null
}

export interface ArchiverLookOptions {
  readonly sample: (signal: AbortSignal) => Promise<ArchiverSample>
  /** Those of the names that are neither in the archive nor stored; null: nobody knows where the archive is. */
  readonly missing: ((names: readonly string[], signal: AbortSignal) => Promise<readonly string[]>) | null
  readonly clock: Clock
}

/** Looks at the archiver again and again: one look alone tells little. */
export function createArchiverLook(options: ArchiverLookOptions): (signal: AbortSignal) => Promise<ArchiverView> {
  const { clock, sample: take, missing } = options
  let lately: readonly TimedSample[] = []
  return async (signal) => {
    const sample = await take(signal)
    const now = { atMs: clock.monotonic(), sample }
    // From the newest one that is just too old on, so that a whole such time can be seen.
    const keep = lately.findLastIndex(({ atMs }) => now.atMs - atMs >= sampleAgeMs)
    lately = lately.slice(Math.max(keep, 0))
    const done = sample.mode === 'off' ? [] : (sample.files?.done ?? [])
    const absent = missing === null || done.length === 0 ? [] : await missing(done, signal)
    const verdict = judgeArchiver(now, lately, absent)
    lately = [...lately, now]
    return Object.freeze({
      ...verdict,
      archived: sample.archived,
      failed: sample.failed,
      ready: sample.files?.ready ?? null,
    })
  }
}

/**
 * Looks for archived files in the archive directory; null where none is configured. An empty directory may be the mount point
 * of a disk that is not there: that is a failed look (`storage-failed`), not a lying archiver.
 */
export function missingFrom(archive: string | null): ArchiverLookOptions['missing'] {
  if (archive === null) return null
  return async (archived, signal) => {
    const names = await readdir(archive).catch((cause: NodeJS.ErrnoException) => {
      throw new LifeboatError('storage-failed', `cannot read the archive directory ${archive}: ${cause.message}`, {
        hint: 'mount what belongs there, or correct wal.archive',
        cause,
      })
    })
    if (names.length === 0) {
      throw new LifeboatError('storage-failed', `the archive directory ${archive} is empty`, {
        hint: 'mount what belongs there, or correct wal.archive; `lifeboat wal setup` shows how it is filled',
      })
    }
    const found: string[] = []
    for (const name of archived) {
      signal.throwIfAborted()
      const isThere = await lstat(join(archive, name)).then(
        () => true,
        (error: NodeJS.ErrnoException) => {
          if (error.code === 'ENOENT') return false
          throw error
        },
      )
      if (!isThere) found.push(name)
    }
    return found
  }
}
