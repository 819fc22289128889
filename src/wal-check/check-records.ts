import { createWriteStream } from 'node:fs'
import { access, mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { createZstdDecompress } from 'node:zlib'
import { LifeboatError } from '../domain/errors.ts'
import { formatLsn, parseLsn } from '../domain/lsn.ts'
import { firstLsn, segmentAt, segmentName } from '../domain/wal.ts'
import { longHeaderSize, readWalPageHeader } from '../domain/wal-page.ts'
import { type Installation, programPath } from '../postgres/installations.ts'
import { runProgram } from '../postgres/programs.ts'
import type { StoredWalObject, WalStore } from '../repository/wal.ts'
import { readWalHead } from '../repository/wal-content.ts'
import type { RecordCheck } from './verify-wal.ts'

/** Unpacked at a time, bytes; two segments at least. */
const batchBytes = 256 * 1024 * 1024

export interface RecordCheckOptions {
  readonly wal: WalStore
  readonly installations: readonly Installation[]
  /** A directory for unpacked segments, which is made and removed. */
  readonly folder: string
  readonly signal: AbortSignal
}

/**
 * Lets pg_waldump read the records of stored segments, which looks at the CRC of each. A record that begins in one segment
 * and ends in a later one is read where both are whole. Those of a segment within which none begins are not read.
 *
 * The check fails with `program-missing` without a pg_waldump of the major version that wrote the segments.
 */
export function recordCheck({ wal, installations, folder, signal }: RecordCheckOptions): RecordCheck {
  return async function* ({ systemIdentifier, timeline, segmentSize, segments }) {
    const perBatch = Math.max(2, Math.floor(batchBytes / segmentSize))
    const objects = new Map<number, StoredWalObject>()
    const path = (segment: number) => join(folder, segmentName(timeline, segment, segmentSize))
    const unpack = async (segment: number) => {
      if (objects.has(segment)) return
      const all = await wal.ofSegment(systemIdentifier, segmentName(timeline, segment, segmentSize), { signal })
      // The plain one comes first.
      const object = all.find(({ kind }) => kind === 'segment')
      if (object === undefined) throw new LifeboatError('object-missing', `segment ${segment} is gone`)
      await pipeline(await wal.read(object, { signal }), createZstdDecompress(), createWriteStream(path(segment)), {
        signal,
      })
      objects.set(segment, object)
    }
    const drop = async (before: number) => {
      for (const segment of [...objects.keys()].filter((one) => one < before)) {
        objects.delete(segment)
        await rm(path(segment), { force: true })
      }
    }
    await mkdir(folder, { recursive: true, mode: 0o700 })
    try {
      for (const { first, last } of [...segments.ranges()]) {
        for (let from = first; from <= last; ) {
          const to = Math.min(last, from + perBatch - 1)
          for (let segment = from; segment <= to; segment++) await unpack(segment)
          const object = objects.get(from)
          if (object === undefined) throw new Error(`segment ${from} was unpacked`)
          const program = await waldump(installations, await majorOf(wal, object, signal))
          const [start, end] = [firstLsn(from, segmentSize), firstLsn(to + 1, segmentSize)]
          const problem = await readRecords(program, { folder, timeline, start, end, signal })
          const at = problem === null ? null : segmentAt(problem.at, segmentSize)
          const bad = at === null ? undefined : objects.get(at)
          if (problem !== null && at !== null && bad !== undefined) {
            yield { segment: at, object: bad, detail: problem.detail }
            from = at + 1
          } else {
            // The last one once more: its last record may end in the next.
            from = to === last ? last + 1 : to
          }
          await drop(from)
        }
      }
    } catch (error) {
      signal.throwIfAborted()
      throw error
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  }
}

async function majorOf(wal: WalStore, object: StoredWalObject, signal: AbortSignal): Promise<number> {
  const header = readWalPageHeader(await readWalHead(wal, object, longHeaderSize, { signal }))
  if (header?.major) return header.major
  throw new LifeboatError('program-missing', 'the WAL is of a version of PostgreSQL that is not known here', {
    hint: 'verify it without --records',
  })
}

async function waldump(installations: readonly Installation[], major: number): Promise<string> {
  for (const one of installations.filter((installation) => installation.major === major)) {
    const path = programPath(one, 'pg_waldump')
    const isThere = await access(path).then(
      () => true,
      () => false,
    )
    if (isThere) return path
  }
  throw new LifeboatError('program-missing', `no pg_waldump of PostgreSQL ${major} was found`, {
    hint: `install postgresql-${major}, or verify without --records`,
  })
}

/** Null if all of them can be read, or none begins there. */
async function readRecords(
  program: string,
  {
    folder,
    timeline,
    start,
    end,
    signal,
  }: { folder: string; timeline: number; start: bigint; end: bigint; signal: AbortSignal },
): Promise<{ readonly at: bigint; readonly detail: string } | null> {
  const args = [
    '--quiet',
    `--path=${folder}`,
    `--timeline=${timeline}`,
    `--start=${formatLsn(start)}`,
    `--end=${formatLsn(end)}`,
  ]
  try {
    await runProgram({ program, args, signal })
    return null
  } catch (error) {
    if (!(error instanceof LifeboatError && error.code === 'program-failed')) throw error
    const [line = '', place = ''] = /error in WAL record at ([0-9A-F]+\/[0-9A-F]+).*/.exec(error.message) ?? []
    const at = parseLsn(place)
    if (at !== null) return { at: at < start ? start : at, detail: line }
    if (error.message.includes('could not find a valid record after')) return null
    throw error
  }
}
