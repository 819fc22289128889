import { formatLsn } from '../domain/lsn.ts'
import { lineage } from '../domain/timeline.ts'
import { firstLsn } from '../domain/wal.ts'
import {
  allFlags,
  checkFirstPage,
  describeWalPage,
  type ExpectedSegment,
  longHeader,
  readWalPageHeader,
} from '../domain/wal-page.ts'
import { type FoundProblem, found } from './problems.ts'

/** XLogPageHeaderData: magic, flags, timeline, address; see wal-page.ts. */
const headerSize = 16
const firstPageSize = 8192
const zeros = Buffer.alloc(64 * 1024)

/**
 * Sees, as the bytes of a segment go by, that each page has the header of its place. After `pg_switch_wal` the rest of a
 * segment is zeros, headers included; zeros that something follows were bytes that are lost.
 * Source: CopyXLogRecordToWAL in src/backend/access/transam/xlog.c
 */
export class PageCheck {
  readonly #expected: ExpectedSegment
  /** Pages that begin at this offset or later are not looked at. */
  readonly #until: number
  readonly #timelines: ReadonlySet<number> | null
  #head: Buffer = Buffer.alloc(0)
  #pageSize = 0
  #magic = 0
  #timeline = 0
  readonly #header = Buffer.alloc(headerSize)
  #offset = 0
  /** Where only zeros have come since; null: nowhere. */
  #zerosFrom: number | null = null
  #first: FoundProblem | null = null
  #problem: FoundProblem | null = null

  constructor(expected: ExpectedSegment, until = expected.segmentSize) {
    this.#expected = expected
    this.#until = until
    const { history } = expected
    this.#timelines = history === null ? null : new Set(lineage(history).map(({ timeline }) => timeline))
  }

  push(chunk: Buffer): void {
    if (this.#pageSize > 0) this.#check(chunk)
    else if (this.#first === null) {
      this.#head = Buffer.concat([this.#head, chunk])
      if (this.#head.length >= firstPageSize) this.#begin()
    }
  }

  /** What is wrong with the beginning, and with what comes after it. */
  end(): { readonly first: FoundProblem | null; readonly later: FoundProblem | null } {
    if (this.#pageSize === 0 && this.#first === null) this.#begin()
    return { first: this.#first, later: this.#problem }
  }

  #begin(): void {
    const head = this.#head
    this.#head = Buffer.alloc(0)
    // The length is looked at by whoever counts the bytes.
    const page = head.subarray(0, firstPageSize)
    const problem = checkFirstPage(page, this.#expected.segmentSize, this.#expected)
    const header = readWalPageHeader(page)
    if (problem !== null || header === null) {
      const what = problem ?? 'not-wal'
      this.#first = { problem: what, detail: describeWalPage(what, page) }
      return
    }
    this.#pageSize = header.pageSize
    this.#magic = header.magic
    this.#timeline = header.timeline
    this.#check(head)
  }

  #check(chunk: Buffer): void {
    for (let at = 0; at < chunk.length && this.#problem === null && this.#offset < this.#until; ) {
      const inPage = this.#offset % this.#pageSize
      if (this.#zerosFrom !== null) {
        const length = Math.min(chunk.length - at, zeros.length, this.#until - this.#offset)
        if (chunk.compare(zeros, 0, length, at, at + length) !== 0)
          this.#problem = found('zero-page', this.#place(this.#zerosFrom))
        this.#offset += length
        at += length
      } else if (inPage < headerSize) {
        const length = Math.min(headerSize - inPage, chunk.length - at)
        chunk.copy(this.#header, inPage, at, at + length)
        this.#offset += length
        at += length
        if (inPage + length === headerSize) this.#look(this.#offset - headerSize)
      } else {
        const length = Math.min(this.#pageSize - inPage, chunk.length - at)
        this.#offset += length
        at += length
      }
    }
  }

  /** At the header of the page that begins at an offset. */
  #look(page: number): void {
    const header = this.#header
    if (header.every((byte) => byte === 0)) {
      this.#zerosFrom = page
      return
    }
    const { timeline, segment, segmentSize } = this.#expected
    const flags = header.readUInt16LE(2)
    const own = header.readUInt32LE(4)
    const isRight =
      header.readUInt16LE(0) === this.#magic &&
      (flags & ~allFlags) === 0 &&
      (page === 0) === ((flags & longHeader) !== 0) &&
      header.readBigUInt64LE(8) === firstLsn(segment, segmentSize) + BigInt(page) &&
      // A segment within which its timeline begins has pages of the parent before its own.
      own >= this.#timeline &&
      own <= timeline &&
      (this.#timelines?.has(own) ?? true)
    if (isRight) this.#timeline = own
    else this.#problem = found('bad-page', this.#place(page))
  }

  #place(offset: number): string {
    return `at ${formatLsn(firstLsn(this.#expected.segment, this.#expected.segmentSize) + BigInt(offset))}`
  }
}
