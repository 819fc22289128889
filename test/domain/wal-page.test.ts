import fc from 'fast-check'
import t from 'tap'
import { parseHistory } from '../../src/domain/timeline.ts'
import { defaultSegmentSize, firstLsn } from '../../src/domain/wal.ts'
import {
  checkFirstPage,
  describeWalPage,
  type ExpectedSegment,
  longHeaderSize,
  readWalPageHeader,
  walPageProblems,
} from '../../src/domain/wal-page.ts'

const mb = 1024 * 1024
const systemIdentifier = '7712249072184253684'

/** A header as a server writes it. */
function page(
  fields: Partial<Record<'magic' | 'flags' | 'timeline' | 'segmentSize' | 'pageSize', number>> = {},
  more = {},
) {
  const { magic = 0xd110, flags = 7, timeline = 1, segmentSize = defaultSegmentSize, pageSize = 8192 } = fields
  const { address = firstLsn(5, defaultSegmentSize), system = BigInt(systemIdentifier) } = more as {
    address?: bigint
    system?: bigint
  }
  const head = Buffer.alloc(8192)
  head.writeUInt16LE(magic, 0)
  head.writeUInt16LE(flags, 2)
  head.writeUInt32LE(timeline, 4)
  head.writeBigUInt64LE(address, 8)
  head.writeBigUInt64LE(system, 24)
  head.writeUInt32LE(segmentSize, 32)
  head.writeUInt32LE(pageSize, 36)
  return head
}

const expected: ExpectedSegment = {
  timeline: 1,
  segment: 5,
  segmentSize: defaultSegmentSize,
  systemIdentifier,
  major: 15,
  history: null,
}
const check = (head: Buffer, more: Partial<ExpectedSegment> = {}, length = defaultSegmentSize) =>
  checkFirstPage(head, length, { ...expected, ...more })

t.test('what servers wrote', async (t) => {
  // The first bytes of the first segment after initdb, and the system identifier that pg_controldata prints.
  const real = [
    [
      '10d10700010000000000600000000000d900000000000000f4dce07eab69076b0000100000200000',
      15,
      '7712249072184253684',
      1,
      6,
    ],
    [
      '16d107000100000000006000000000002102000000000000df0dd437af69076b0000100000200000',
      17,
      '7712249088172101087',
      1,
      6,
    ],
    [
      '18d1020001000000000000040000000000000000000000000bf1dd05026a076b0000000400200000',
      18,
      '7712249443816173835',
      64,
      1,
    ],
  ] as const
  for (const [hex, major, systemIdentifier, megabytes, segment] of real) {
    const head = Buffer.from(hex, 'hex')
    const segmentSize = megabytes * mb
    t.match(readWalPageHeader(head), {
      major,
      timeline: 1,
      address: firstLsn(segment, segmentSize),
      systemIdentifier,
      segmentSize,
      pageSize: 8192,
    })
    t.equal(check(head, { major, systemIdentifier, segment, segmentSize }, segmentSize), null)
    t.equal(check(head, { major: null, systemIdentifier: null, segment, segmentSize }, segmentSize), null)
  }
})

t.test('versions', async (t) => {
  for (const [major, magic] of [0xd106, 0xd10d, 0xd110, 0xd113, 0xd116, 0xd118].entries()) {
    t.equal(readWalPageHeader(page({ magic }))?.major, major + 13)
    for (let server = 13; server <= 18; server++)
      t.equal(check(page({ magic }), { major: server }), server === major + 13 ? null : 'other-version')
  }
  const newer = page({ magic: 0xd121 })
  t.match(readWalPageHeader(newer), { major: null, magic: 0xd121 })
  t.equal(check(newer, { major: 19 }), null, 'a version that is not known here')
  t.equal(check(newer, { major: 18 }), 'other-version')
  t.equal(check(page(), { major: 19 }), 'other-version')
})

t.test('what is no such segment', async (t) => {
  const whole = page()
  t.equal(check(whole), null)
  t.equal(check(Buffer.alloc(0), {}, 0), 'short')
  t.equal(check(whole.subarray(0, longHeaderSize)), null)
  t.equal(check(whole.subarray(0, longHeaderSize - 1)), 'short')
  t.equal(check(whole, {}, defaultSegmentSize - 1), 'short')
  t.equal(check(whole, {}, defaultSegmentSize + 1), 'short', 'or too long')
  t.equal(check(Buffer.alloc(8192)), 'zero-filled')
  t.equal(check(Buffer.alloc(10)), 'zero-filled')
  t.equal(check(Buffer.from('#!/bin/sh\n'.repeat(9))), 'not-wal')
  t.equal(check(Buffer.from('28b52ffd'.repeat(20), 'hex')), 'not-wal', 'zstd')
  t.equal(check(page({ flags: 5 })), 'not-wal', 'without the long header')
  t.equal(check(page({ flags: 0x12 })), 'not-wal')
  t.equal(check(page({ timeline: 0 })), 'not-wal')
  t.equal(check(page({ pageSize: 8191 })), 'not-wal')
  t.equal(check(page({ segmentSize: 12345 })), 'not-wal')
  t.equal(check(page({}, { address: 8192n })), 'not-wal', 'a page of the middle')
  t.equal(check(page({}, { system: 1n })), 'foreign')
  t.equal(check(page({ segmentSize: mb })), 'other-size')
  t.equal(check(page({}, { address: firstLsn(4, defaultSegmentSize) })), 'other-place', 'recycled')
  t.equal(check(page({}, { address: 2n ** 64n - BigInt(defaultSegmentSize) })), 'other-place')
})

t.test('timelines', async (t) => {
  const history = parseHistory(3, '1\t0/4000028\tx\n2\t0/5000148\tx\n')
  t.equal(check(page({ timeline: 2 })), 'other-timeline')
  t.equal(check(page({ timeline: 2 }), { timeline: 3, history }), null, 'where 3 begins its first page is that of 2')
  t.equal(check(page({ timeline: 1 }), { timeline: 3, history }), 'other-timeline', 'and 1 was left before')
  t.equal(check(page({ timeline: 3 }), { timeline: 3, history }), null)
  t.equal(check(page({ timeline: 4 }), { timeline: 3, history }), 'other-timeline')
  const later = page({ timeline: 2 }, { address: firstLsn(6, defaultSegmentSize) })
  t.equal(check(later, { timeline: 3, segment: 6, history }), 'other-timeline', 'only there')
  t.equal(check(page({ timeline: 2 }), { timeline: 3 }), null, 'without the history nobody knows')
  t.equal(check(page({ timeline: 4 }), { timeline: 3 }), 'other-timeline')
  const between = parseHistory(3, '2\t0/5000000\tx\n')
  t.equal(check(page({ timeline: 2 }), { timeline: 3, history: between }), 'other-timeline', 'nothing was copied')
})

t.test('words', async (t) => {
  t.equal(describeWalPage('foreign', page()), `it is of another cluster (system identifier ${systemIdentifier})`)
  t.match(describeWalPage('other-version', page()), /\(version 15\)$/)
  t.match(describeWalPage('other-version', page({ magic: 0xd1ff })), /\(magic d1ff\)$/)
  t.match(describeWalPage('other-place', page()), /\(0\/5000000\)$/)
  t.match(describeWalPage('other-size', page()), /\(16777216 bytes\)$/)
  t.match(describeWalPage('other-timeline', page()), /\(timeline 1\)$/)
  for (const problem of Object.keys(walPageProblems) as (keyof typeof walPageProblems)[])
    t.equal(describeWalPage(problem, Buffer.alloc(0)), walPageProblems[problem])
})

t.test('any bytes, and any flipped bit of the header', async (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      if (check(Buffer.from(bytes)) === null) throw new Error('accepted')
    }),
  )
  // Not looked at: flags that may be set or not, the length of what is left of a record, and what pads it.
  const free = (bit: number) => (bit >= 128 && bit < 192) || [16, 18, 19].includes(bit)
  for (let bit = 0; bit < longHeaderSize * 8; bit++) {
    const head = page()
    head.writeUInt8(head.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3)
    const isSeen = check(head) !== null
    if (isSeen === free(bit)) t.fail(`bit ${bit}`)
  }
  t.pass()
})
