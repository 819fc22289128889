import { open, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { lineage, parseHistory, type Stretch } from '../domain/timeline.ts'
import { firstLsn, historyName, segmentAt, segmentName } from '../domain/wal.ts'
import { checkFirstPage } from '../domain/wal-page.ts'
import { isMissing } from '../storage/failures.ts'
import type { ReceivingDirectory } from './receiving-directory.ts'

/** The beginning of a segment that is still being written, as far as the server knows it to be received. */
export interface Partial {
  readonly systemIdentifier: string
  /** The segment's own name. */
  readonly segment: string
  /** Where it ends: inside of the segment. */
  readonly endLsn: bigint
  /** From the segment's beginning up to there, and nothing behind. */
  readonly bytes: Buffer
}

export interface PartialOptions {
  readonly directory: ReceivingDirectory
  readonly systemIdentifier: string
  readonly segmentSize: number
  /** The WAL that leads to the timeline of the server, as it was when the receiver began. */
  readonly stretches: readonly Stretch[]
  /** What this receiver has told the server. */
  readonly position: bigint
}

/**
 * Reads what has been received of the segment that a place lies in. Null where it ends with that segment, and where the
 * file is not to be trusted with the place, also when the segment has been finished: the receiver does not tell the server
 * of that at once, and on an idle one for seconds. `gone`: there is no such file, though there must have been.
 *
 * The place comes from the server and the file's name from the directory, and between the two the receiver may have gone
 * over to another timeline, whose file has not got so far. So a place counts for a file only if it is behind the one
 * where the timeline of that file begins: no receiver tells of that before it is there.
 */
export async function readPartial(options: PartialOptions): Promise<Partial | 'gone' | null> {
  const { directory, position, segmentSize, systemIdentifier } = options
  const segment = segmentAt(position, segmentSize)
  const first = firstLsn(segment, segmentSize)
  if (position === first) return null
  const file = (await directory.partials(segmentSize)).findLast((one) => one.segment === segment)
  if (file === undefined) return (await isFinished(segment, options)) ? null : 'gone'
  const begin = await beginOf(file.timeline, options)
  if (begin === null || (position <= begin && begin > 0n)) return null
  const bytes = Buffer.alloc(Number(position - first))
  try {
    const handle = await open(join(directory.path, file.name))
    try {
      if (!(await fill(handle, bytes))) return null
    } finally {
      await handle.close()
    }
  } catch (error) {
    if (isMissing(error)) return null // just finished: the whole segment is on its way
    throw error
  }
  const { timeline } = file
  const expected = { timeline, segment, segmentSize, systemIdentifier, major: null, history: null }
  if (checkFirstPage(bytes, segmentSize, expected) !== null) return null
  return { systemIdentifier, segment: segmentName(timeline, segment, segmentSize), endLsn: position, bytes }
}

/** The whole segment is there, on one of the timelines that lead to the server's. */
async function isFinished(segment: number, { directory, segmentSize, stretches }: PartialOptions): Promise<boolean> {
  for (const { timeline } of stretches.toReversed()) {
    const name = segmentName(timeline, segment, segmentSize)
    for (const path of [directory.path, directory.archive])
      if ((await stat(join(path, name)).catch(() => null)) !== null) return true
  }
  return false
}

/** Where a timeline begins; null where nobody knows yet. */
async function beginOf(timeline: number, { directory, stretches }: PartialOptions): Promise<bigint | null> {
  const known = stretches.find((one) => one.timeline === timeline)
  if (known !== undefined) return known.begin
  for (const path of [directory.path, directory.archive]) {
    const text = await readFile(join(path, historyName(timeline)), 'utf8').catch(() => null)
    if (text !== null) return lineage(parseHistory(timeline, text)).at(-1)?.begin ?? null
  }
  return null
}

async function fill(
  file: { read(buffer: Buffer, offset: number, length: number, at: number): Promise<{ bytesRead: number }> },
  bytes: Buffer,
): Promise<boolean> {
  for (let at = 0; at < bytes.length; ) {
    const { bytesRead } = await file.read(bytes, at, bytes.length - at, at)
    if (bytesRead === 0) return false
    at += bytesRead
  }
  return true
}
