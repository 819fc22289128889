import { formatLsn } from './lsn.ts'
import { lineage, type TimelineHistory } from './timeline.ts'
import { firstLsn, isSegmentSize, type SegmentId, segmentAt } from './wal.ts'

/**
 * XLogLongPageHeaderData, with which each segment begins, as a little-endian machine with 8-byte alignment writes it; the
 * same in all versions but for the magic number.
 *
 *     0  magic        2  flags         4  timeline      8  address of the page
 *     16 length of what is left of a record of the page before, and 4 bytes of nothing
 *     24 system id    32 segment size  36 page size     40 the first record
 *
 * Source: src/include/access/xlog_internal.h
 */
export const longHeaderSize = 40

/** XLOG_PAGE_MAGIC of the releases: it changes with each major version. */
const magicOfMajor: Readonly<Record<number, number>> = {
  13: 0xd106,
  14: 0xd10d,
  15: 0xd110,
  16: 0xd113,
  17: 0xd116,
  18: 0xd118,
}
const majorOfMagic = new Map(Object.entries(magicOfMajor).map(([major, magic]) => [magic, Number(major)]))
/** Flags of a page: its header is the long one, as on the first page of each segment; all that there are. */
export const longHeader = 0x0002
export const allFlags = 0x000f

export interface WalPageHeader {
  /** Of PostgreSQL; null for one that is not known here. */
  readonly major: number | null
  readonly magic: number
  readonly flags: number
  readonly timeline: number
  readonly address: bigint
  readonly systemIdentifier: string
  readonly segmentSize: number
  readonly pageSize: number
}

/** What a segment should be. What is null is not known, and not looked at. */
export interface ExpectedSegment extends SegmentId {
  readonly segmentSize: number
  readonly systemIdentifier: string | null
  readonly major: number | null
  /** Of the segment's timeline. */
  readonly history: TimelineHistory | null
}

/** Why a file is not the segment that its name says. The words are for programs and do not change. */
export const walPageProblems = {
  short: 'it is not as long as a segment',
  'zero-filled': 'it begins with zeros: it was never written, or its bytes were lost',
  'not-wal': 'it does not begin with a page of WAL',
  'other-version': 'it is of another major version of PostgreSQL',
  foreign: 'it is of another cluster',
  'other-size': 'its segments have another size',
  'other-place': 'it is another part of the WAL: a recycled or misnamed file',
  'other-timeline': 'it is of another timeline',
} as const

export type WalPageProblem = keyof typeof walPageProblems

/** Reads the header from the first bytes of a segment. Null if there are too few, or they are no such header. */
export function readWalPageHeader(head: Buffer): WalPageHeader | null {
  if (head.length < longHeaderSize) return null
  const header = {
    major: majorOfMagic.get(head.readUInt16LE(0)) ?? null,
    magic: head.readUInt16LE(0),
    flags: head.readUInt16LE(2),
    timeline: head.readUInt32LE(4),
    address: head.readBigUInt64LE(8),
    systemIdentifier: head.readBigUInt64LE(24).toString(),
    segmentSize: head.readUInt32LE(32),
    pageSize: head.readUInt32LE(36),
  }
  const { magic, flags, timeline, address, segmentSize, pageSize } = header
  const isHeader =
    // All versions since 9.3 have such a number; a version that is not known yet may still be looked at.
    magic >> 8 === 0xd1 &&
    (flags & longHeader) !== 0 &&
    (flags & ~allFlags) === 0 &&
    timeline > 0 &&
    isSegmentSize(segmentSize) &&
    address % BigInt(segmentSize) === 0n &&
    pageSize >= 1024 &&
    pageSize <= 65_536 &&
    (pageSize & (pageSize - 1)) === 0
  return isHeader ? header : null
}

/**
 * Holds the first bytes of a file (`longHeaderSize` at least; a page of 8 KiB tells more of zeros) and its length against
 * what its name says. Null if they agree. This sees at once what cannot be the segment; it says nothing about the rest.
 */
export function checkFirstPage(head: Buffer, length: number, expected: ExpectedSegment): WalPageProblem | null {
  if (head.length > 0 && head.every((byte) => byte === 0)) return 'zero-filled'
  const header = readWalPageHeader(head)
  if (header === null) return head.length < longHeaderSize ? 'short' : 'not-wal'
  if (expected.systemIdentifier !== null && header.systemIdentifier !== expected.systemIdentifier) return 'foreign'
  if (expected.major !== null && header.magic !== magicOfMajor[expected.major]) {
    // A version that is newer than this list is not held against itself.
    if (header.major !== null || expected.major in magicOfMajor) return 'other-version'
  }
  if (header.segmentSize !== expected.segmentSize) return 'other-size'
  if (length !== expected.segmentSize) return 'short'
  if (header.address !== firstLsn(expected.segment, expected.segmentSize)) return 'other-place'
  return isTimelinePossible(header, expected) ? null : 'other-timeline'
}

/**
 * A segment within which its timeline begins was copied from the parent up to the fork, so that its first page is the
 * parent's, or that of one further up.
 */
function isTimelinePossible(
  header: WalPageHeader,
  { timeline, segment, segmentSize, history }: ExpectedSegment,
): boolean {
  if (header.timeline === timeline) return true
  if (history === null) return header.timeline < timeline && timeline > 1
  const stretches = lineage(history)
  const own = stretches.at(-1)
  if (own === undefined || segmentAt(own.begin, segmentSize) !== segment) return false
  const first = firstLsn(segment, segmentSize)
  return stretches.some(
    (one) => one.timeline === header.timeline && one.begin <= first && one.end !== null && first < one.end,
  )
}

/** For people: what is wrong with a file, and where it matters what was found. */
export function describeWalPage(problem: WalPageProblem, head: Buffer): string {
  const header = readWalPageHeader(head)
  const found: Partial<Record<WalPageProblem, (header: WalPageHeader) => string>> = {
    'other-version': ({ major, magic }) => (major === null ? `magic ${magic.toString(16)}` : `version ${major}`),
    foreign: ({ systemIdentifier }) => `system identifier ${systemIdentifier}`,
    'other-size': ({ segmentSize }) => `${segmentSize} bytes`,
    'other-place': ({ address }) => formatLsn(address),
    'other-timeline': ({ timeline }) => `timeline ${timeline}`,
  }
  const detail = header === null ? undefined : found[problem]?.(header)
  return detail === undefined ? walPageProblems[problem] : `${walPageProblems[problem]} (${detail})`
}
