import { allFlags, longHeader, longHeaderSize, type WalPageHeader } from './wal-page.ts'

/*
 * XLogPageHeaderData, with which each page of a segment begins: magic, flags, timeline, address, and the length of what is
 * left of a record of the page before. XLogRecord: length, transaction, previous record, then info and resource manager.
 * Sources: src/include/access/xlog_internal.h, xlogrecord.h; CopyXLogRecordToWAL in xlog.c for the zeros after a switch.
 */
const shortHeaderSize = 24
const firstIsContinued = 0x0001
const recordHeaderSize = 24
const xlogManager = 0
const switchRecord = 0x40

/**
 * Looks at the header of every page of a whole segment, as its bytes come by: what is flipped, lost or of another file
 * there is seen at once, for a hundredth of what its checksums would cost. A segment that was ended early has zeros from
 * some page on, after a record that says so; zeros without it, or amid pages, are bytes that were lost.
 */
export class SegmentPages {
  readonly #first: WalPageHeader
  readonly #timeline: number
  readonly #low: number
  readonly #high: number
  #offset = 0
  #lastTimeline = 0
  /** A copy of the last page that was no zeros, once there were zeros, and at the end of each piece. */
  #last: Buffer | null = null
  #lastIsFirst = true
  #inZeros = false
  #isDamaged = false

  /** @param timeline of the segment, by its name: pages may be of older ones, where it begins within this segment */
  constructor(first: WalPageHeader, timeline: number) {
    this.#first = first
    this.#timeline = timeline
    this.#low = Number(first.address & 0xffff_ffffn)
    this.#high = Number(first.address >> 32n)
  }

  /** Takes the next bytes: whole pages. They are not kept. */
  add(bytes: Buffer): void {
    const { pageSize } = this.#first
    for (let at = 0; at < bytes.length && !this.#isDamaged; at += pageSize, this.#offset += pageSize) {
      if (isZeroHeader(bytes, at)) {
        if (!this.#inZeros && at > 0) this.#keep(bytes, at - pageSize)
        this.#inZeros = true
      } else {
        this.#isDamaged = this.#inZeros || !this.#isNext(bytes, at)
      }
    }
    if (!this.#inZeros && bytes.length >= pageSize) this.#keep(bytes, bytes.length - pageSize)
  }

  /** Whether all pages, from the first to the last, are as a server writes them. */
  isSound(): boolean {
    if (this.#isDamaged || this.#last === null) return false
    return !this.#inZeros || mayEndHere(this.#last, this.#lastIsFirst ? longHeaderSize : shortHeaderSize)
  }

  #keep(bytes: Buffer, at: number): void {
    this.#last = Buffer.from(bytes.subarray(at, at + this.#first.pageSize))
    this.#lastIsFirst = (this.#last.readUInt16LE(2) & longHeader) !== 0
  }

  #isNext(bytes: Buffer, at: number): boolean {
    const [flags, timeline] = [bytes.readUInt16LE(at + 2), bytes.readUInt32LE(at + 4)]
    const isNext =
      bytes.readUInt16LE(at) === this.#first.magic &&
      (flags & ~allFlags) === 0 &&
      ((flags & longHeader) !== 0) === (this.#offset === 0) &&
      timeline >= this.#lastTimeline &&
      timeline <= this.#timeline &&
      // The size of a segment divides 2^32, so that the lower half does not overflow within one.
      bytes.readUInt32LE(at + 8) === this.#low + this.#offset &&
      bytes.readUInt32LE(at + 12) === this.#high
    this.#lastTimeline = timeline
    return isNext
  }
}

function isZeroHeader(bytes: Buffer, at: number): boolean {
  for (let index = at; index < at + shortHeaderSize; index += 4) if (bytes.readUInt32LE(index) !== 0) return false
  return true
}

/**
 * Whether nothing contradicts that the segment was ended on this page, after which there are zeros: its last record is a
 * switch, or may be the rest of one. A record that goes on beyond the page would have its rest on the next one.
 */
function mayEndHere(page: Buffer, headerSize: number): boolean {
  let at = headerSize
  let mayBeSwitch = true
  if ((page.readUInt16LE(2) & firstIsContinued) !== 0) {
    const rest = page.readUInt32LE(16)
    // At least the length of a record, 8 bytes with what fills them up, is on the page where it begins.
    mayBeSwitch = rest <= recordHeaderSize - 8
    at += align(rest)
  }
  while (at < page.length) {
    const length = page.readUInt32LE(at)
    if (length === 0) return mayBeSwitch
    if (length < recordHeaderSize || at + recordHeaderSize > page.length) return false
    if (page[at + 17] === xlogManager && ((page[at + 16] ?? 0) & 0xf0) === switchRecord) return true
    mayBeSwitch = false
    at += align(length)
  }
  return at === page.length && mayBeSwitch
}

function align(length: number): number {
  return Math.ceil(length / 8) * 8
}
