import { LifeboatError } from './errors.ts'

/*
 * The names of WAL files. A segment is known by its timeline and its number: how many segments come before it since the
 * WAL's first byte, whatever their timelines. The number stays below 2^44 and so is exact as a double; next and previous
 * are one more and one less, also where a name's middle part changes (each 4 GiB, a "log").
 *
 *     00000002 0000000A 000000FF     timeline, log, segment within the log
 *     <segment>.partial              what the server had of a timeline's last segment when it left that timeline
 *     <segment>.partial.<16 hex>     what pg_receivewal had of a segment, up to the place in the WAL that it names
 *     <segment>.<8 hex>.backup       label of a base backup that starts at this offset of the segment
 *     00000002.history               where timeline 2 comes from: see timeline.ts
 *
 * Source: src/include/access/xlog_internal.h of PostgreSQL; the form of the second kind of partial is our own.
 */

export const defaultSegmentSize = 16 * 1024 * 1024
const smallestSegmentSize = 1024 * 1024
const largestSegmentSize = 1024 * 1024 * 1024
const logSize = 0x1_0000_0000
const maxTimeline = 0xffff_ffff

const segmentPattern = /^[0-9A-F]{24}$/
const namePattern =
  /^([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})(?:(\.partial)(?:\.([0-9A-F]{16}))?|\.([0-9A-F]{8})\.backup)?$/
const historyPattern = /^([0-9A-F]{8})\.history$/

/** One segment of one timeline. */
export interface SegmentId {
  readonly timeline: number
  /** How many segments come before it. */
  readonly segment: number
}

/** What a name says of a file. */
export type WalFile =
  | (SegmentId & { readonly kind: 'segment' })
  /** `end` is where its WAL ends, null if nobody knows (the server's own: kept, never replayed). */
  | (SegmentId & { readonly kind: 'partial'; readonly end: bigint | null })
  /** `start` is where the backup's WAL begins. */
  | (SegmentId & { readonly kind: 'label'; readonly start: bigint })
  | { readonly kind: 'history'; readonly timeline: number }

export type WalFileKind = WalFile['kind']

/** True for 1 MiB to 1 GiB in powers of two, which is what `initdb --wal-segsize` accepts. */
export function isSegmentSize(bytes: number): boolean {
  return (
    Number.isInteger(bytes) &&
    bytes >= smallestSegmentSize &&
    bytes <= largestSegmentSize &&
    (bytes & (bytes - 1)) === 0
  )
}

/**
 * Reads a name. Null for what is foreign to a WAL archive of this segment size: other names, lower case, timeline 0, a
 * segment that a log of such segments does not have, an offset or end outside of the segment.
 */
export function parseWalName(name: string, segmentSize: number): WalFile | null {
  if (segmentPattern.test(name)) {
    const id = segmentId(name, segmentSize)
    return id === null ? null : { kind: 'segment', ...id }
  }
  const history = historyPattern.exec(name)
  if (history !== null) {
    const timeline = hex(history[1])
    return timeline === 0 ? null : { kind: 'history', timeline }
  }
  const parts = namePattern.exec(name)
  const id = parts === null ? null : segmentId(name, segmentSize)
  if (parts === null || id === null) return null
  const first = firstLsn(id.segment, segmentSize)
  if (parts[6] !== undefined) {
    const offset = hex(parts[6])
    return offset < segmentSize ? { kind: 'label', ...id, start: first + BigInt(offset) } : null
  }
  if (parts[5] === undefined) return { kind: 'partial', ...id, end: null }
  const end = BigInt(`0x${parts[5]}`)
  // One that is whole is no partial any more.
  return end > first && end < first + BigInt(segmentSize) ? { kind: 'partial', ...id, end } : null
}

/** What kind of file a name is of, by its form alone: for who does not know the segment size. Null for what is foreign. */
export function walFileKind(name: string): WalFileKind | null {
  if (name.startsWith('00000000')) return null
  if (historyPattern.test(name)) return 'history'
  const parts = namePattern.exec(name)
  if (parts === null) return null
  return parts[6] !== undefined ? 'label' : parts[4] !== undefined ? 'partial' : 'segment'
}

/** The name of a file: what `parseWalName` reads. Fails with `usage-invalid` if there is no such file. */
export function walName(file: WalFile, segmentSize: number): string {
  if (file.kind === 'history') return historyName(file.timeline)
  const segment = segmentName(file.timeline, file.segment, segmentSize)
  const name = `${segment}${suffix(file, segmentSize)}`
  if (parseWalName(name, segmentSize) === null)
    throw new LifeboatError('usage-invalid', `a WAL file of ${segment} lies outside of that segment`)
  return name
}

function suffix(file: Exclude<WalFile, { kind: 'history' }>, segmentSize: number): string {
  switch (file.kind) {
    case 'segment':
      return ''
    case 'partial':
      return file.end === null ? '.partial' : `.partial.${digits(file.end, 16)}`
    case 'label':
      return `.${digits(file.start - firstLsn(file.segment, segmentSize), 8)}.backup`
  }
}

/** Fails with `usage-invalid` if timeline or segment are out of range. */
export function segmentName(timeline: number, segment: number, segmentSize: number): string {
  const perLog = segmentsPerLog(segmentSize)
  if (!Number.isSafeInteger(segment) || segment < 0 || segment >= perLog * logSize)
    throw new LifeboatError('usage-invalid', `there is no WAL segment number ${segment}`)
  return `${timelineDigits(timeline)}${digits(Math.floor(segment / perLog), 8)}${digits(segment % perLog, 8)}`
}

/** Fails with `usage-invalid` if there is no such timeline. */
export function historyName(timeline: number): string {
  return `${timelineDigits(timeline)}.history`
}

/** The first place in the WAL that a segment holds. */
export function firstLsn(segment: number, segmentSize: number): bigint {
  return BigInt(segment) * BigInt(segmentSize)
}

/** The number of the segment that holds the byte at this place. */
export function segmentAt(lsn: bigint, segmentSize: number): number {
  return Number(lsn / BigInt(segmentSize))
}

/** The number of the segment that holds the last byte before this place: what ends here ends in that one. -1 at the very beginning. */
export function segmentBefore(lsn: bigint, segmentSize: number): number {
  return lsn === 0n ? -1 : segmentAt(lsn - 1n, segmentSize)
}

/** A timeline as in names: 8 hexadecimal digits. Fails with `usage-invalid` outside of 1 to 2^32 - 1. */
export function timelineDigits(timeline: number): string {
  if (!Number.isInteger(timeline) || timeline < 1 || timeline > maxTimeline)
    throw new LifeboatError('usage-invalid', `there is no timeline ${timeline}`)
  return digits(timeline, 8)
}

function segmentId(name: string, segmentSize: number): SegmentId | null {
  const perLog = segmentsPerLog(segmentSize)
  const timeline = hex(name.slice(0, 8))
  const within = hex(name.slice(16, 24))
  return timeline === 0 || within >= perLog ? null : { timeline, segment: hex(name.slice(8, 16)) * perLog + within }
}

/** How many segments a log (4 GiB) has. Fails with `usage-invalid` if this is no size of a segment. */
export function segmentsPerLog(segmentSize: number): number {
  if (!isSegmentSize(segmentSize))
    throw new LifeboatError('usage-invalid', `${segmentSize} bytes are no size of a WAL segment`, {
      hint: 'it is a power of two from 1 MB to 1 GB: see `show wal_segment_size`',
    })
  return logSize / segmentSize
}

function hex(text: string | undefined): number {
  return Number.parseInt(text ?? '', 16)
}

function digits(value: number | bigint, count: number): string {
  return value.toString(16).toUpperCase().padStart(count, '0')
}
