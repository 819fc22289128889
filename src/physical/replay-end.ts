import { type FileHandle, open } from 'node:fs/promises'
import { join } from 'node:path'
import type { WalPosition } from '../domain/coverage.ts'
import { firstLsn, segmentAt, segmentBefore, segmentName } from '../domain/wal.ts'
import { longHeaderSize } from '../domain/wal-page.ts'

/** Of a page that is not the first of its segment. Source: src/include/access/xlog_internal.h */
const shortHeaderSize = 24n
/**
 * XLogRecord: the length of the whole record (4 bytes), transaction (4), the record before (8), info, resource manager,
 * nothing (2), checksum (4). Source: src/include/access/xlogrecord.h
 */
const recordHeaderSize = 24
const infoOffset = 16
/** XLOG_SWITCH of resource manager 0: the rest of its segment is empty. Source: src/include/catalog/pg_control.h */
const switchInfo = 0x40

export interface ReplayedWal {
  readonly dataDirectory: string
  readonly timeline: number
  readonly segmentSize: number
}

/**
 * Whether nothing is missing between the end of a replay and the end of the WAL: it is reached, or the record that has
 * begun there goes on in a segment that does not exist yet. A record that would have fit in is a damaged one.
 */
export async function isWholeUpTo(replayed: bigint, end: WalPosition, wal: ReplayedWal): Promise<boolean> {
  if (replayed >= end.lsn) return true
  if (segmentAt(replayed, wal.segmentSize) < segmentBefore(end.lsn, wal.segmentSize)) return false
  const next = await recordEnd(replayed, end.timeline, wal)
  return next !== null && next >= end.lsn
}

/**
 * Where a record ends that begins at this place, as `pg_last_wal_replay_lsn()` would tell it; null where none begins, or
 * its segment is not in pg_wal.
 */
export async function recordEnd(
  lsn: bigint,
  timeline: number,
  { dataDirectory, segmentSize, timeline: own }: ReplayedWal,
): Promise<bigint | null> {
  const segment = segmentAt(lsn, segmentSize)
  for (const one of new Set([timeline, own])) {
    const file = await open(join(dataDirectory, 'pg_wal', segmentName(one, segment, segmentSize))).catch(() => null)
    if (file === null) continue
    try {
      return await readEnd(file, lsn, segmentSize)
    } finally {
      await file.close()
    }
  }
  return null
}

async function readEnd(file: FileHandle, lsn: bigint, segmentSize: number): Promise<bigint | null> {
  const size = BigInt(segmentSize)
  const { buffer: head } = await file.read(Buffer.alloc(longHeaderSize), 0, longHeaderSize, 0)
  const pageSize = BigInt(head.readUInt32LE(longHeaderSize - 4) || 8192)
  // One that begins where a page does begins behind the page's header.
  const at = lsn % size === 0n ? lsn + BigInt(longHeaderSize) : lsn % pageSize === 0n ? lsn + shortHeaderSize : lsn
  const offset = Number(at % size)
  const { buffer, bytesRead } = await file.read(Buffer.alloc(64), 0, 64, offset)
  if (bytesRead < 4) return null
  const length = BigInt(buffer.readUInt32LE(0))
  if (length < recordHeaderSize) return null
  const left = pageSize - (at % pageSize)
  const info = infoOffset < left ? infoOffset : infoOffset + Number(shortHeaderSize)
  if (info + 1 < bytesRead && (buffer.readUInt8(info) & 0xf0) === switchInfo && buffer.readUInt8(info + 1) === 0)
    return firstLsn(segmentAt(at, segmentSize) + 1, segmentSize)
  // Each page that it goes over has a header of its own. Records begin at multiples of 8.
  const payload = pageSize - shortHeaderSize
  const pages = length <= left ? 0n : (length - left + payload - 1n) / payload
  return (at + length + pages * shortHeaderSize + 7n) & ~7n
}
