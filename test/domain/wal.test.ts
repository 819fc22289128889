import { deepStrictEqual } from 'node:assert'
import fc from 'fast-check'
import t from 'tap'
import { parseLsn } from '../../src/domain/lsn.ts'
import {
  defaultSegmentSize,
  firstLsn,
  historyName,
  isSegmentSize,
  parseWalName,
  segmentAt,
  segmentBefore,
  segmentName,
  type WalFile,
  walFileKind,
  walName,
} from '../../src/domain/wal.ts'

const mb = 1024 * 1024
const sizes = Array.from({ length: 11 }, (_, power) => mb * 2 ** power)
const lsn = (text: string) => parseLsn(text) as bigint

t.test('sizes', async (t) => {
  for (const size of sizes) t.ok(isSegmentSize(size), `${size}`)
  for (const size of [0, -mb, mb / 2, 3 * mb, mb + 1, 2048 * mb, 2 ** 33, Number.NaN, 1.5]) {
    t.notOk(isSegmentSize(size), `${size}`)
    t.throws(() => segmentName(1, 1, size), { code: 'usage-invalid', hint: /wal_segment_size/ })
  }
})

t.test('as PostgreSQL says it', async (t) => {
  // select pg_walfile_name(lsn) of PostgreSQL 15 and 17, by the segment size that initdb was given.
  const said: readonly (readonly [size: number, place: string, name: string])[] = [
    [16, '0/1000028', '000000010000000000000001'],
    [16, '0/FFFFFFFF', '0000000100000000000000FF'],
    [16, '1/1', '000000010000000100000000'],
    [16, '16/B374D848', '0000000100000016000000B3'],
    [1, '0/FFF00028', '000000010000000000000FFF'],
    [1, '1/28', '000000010000000100000000'],
    [1024, '0/C0000028', '000000010000000000000003'],
    [1024, 'A/40000028', '000000010000000A00000001'],
    [64, 'FFFFFFFF/FFFFFFFE', '00000001FFFFFFFF0000003F'],
  ]
  for (const [size, place, name] of said) {
    const segment = segmentAt(lsn(place), size * mb)
    t.equal(segmentName(1, segment, size * mb), name, `${place} with ${size} MB`)
    t.same(parseWalName(name, size * mb), { kind: 'segment', timeline: 1, segment })
  }
  t.equal(segmentBefore(lsn('0/2000000'), defaultSegmentSize), 1, 'what ends at a boundary ends in the one before')
  t.equal(segmentBefore(lsn('0/2000001'), defaultSegmentSize), 2)
  t.equal(segmentBefore(0n, defaultSegmentSize), -1)
})

t.test('next and previous, over the boundary of a log', async (t) => {
  for (const size of sizes) {
    const perLog = 2 ** 32 / size
    const last = parseWalName(`0000000700000009${(perLog - 1).toString(16).toUpperCase().padStart(8, '0')}`, size)
    if (last?.kind !== 'segment') return t.fail('a segment')
    const next = segmentName(7, last.segment + 1, size)
    t.equal(next, '000000070000000A00000000')
    t.match(parseWalName(next, size), { segment: last.segment + 1 })
    t.equal(firstLsn(last.segment + 1, size), lsn('A/0'))
    t.equal(parseWalName(`0000000700000009${perLog.toString(16).toUpperCase().padStart(8, '0')}`, size), null)
  }
  t.throws(() => segmentName(1, -1, mb), { code: 'usage-invalid' })
  t.throws(() => segmentName(1, 2 ** 44, mb), { code: 'usage-invalid' })
  t.equal(segmentName(1, 2 ** 44 - 1, mb), '00000001FFFFFFFF00000FFF')
  for (const timeline of [0, -1, 1.5, 2 ** 32, Number.NaN]) {
    t.throws(() => segmentName(timeline, 1, mb), { code: 'usage-invalid' })
    t.throws(() => historyName(timeline), { code: 'usage-invalid' })
  }
})

t.test('what a directory holds', async (t) => {
  const files: Readonly<Record<string, WalFile>> = {
    '000000010000000000000003': { kind: 'segment', timeline: 1, segment: 3 },
    '000000010000000000000003.partial': { kind: 'partial', timeline: 1, segment: 3, end: null },
    '000000010000000000000003.partial.0000000003000060': {
      kind: 'partial',
      timeline: 1,
      segment: 3,
      end: lsn('0/3000060'),
    },
    '000000010000000000000003.00000028.backup': { kind: 'label', timeline: 1, segment: 3, start: lsn('0/3000028') },
    '0000000A.history': { kind: 'history', timeline: 10 },
    'FFFFFFFF.history': { kind: 'history', timeline: 2 ** 32 - 1 },
  }
  for (const [name, file] of Object.entries(files)) {
    t.same(parseWalName(name, defaultSegmentSize), file, name)
    t.equal(walName(file, defaultSegmentSize), name)
    t.equal(walFileKind(name), file.kind)
  }
  const foreign = [
    '',
    'archive_status',
    'summaries',
    'xlogtemp.4711',
    'RECOVERYXLOG',
    'RECOVERYHISTORY',
    '00000001.History',
    '1.history',
    '00000000.history',
    '00000002.history.tmp',
    '00000002.history\n',
    '000000010000000000000003\n',
    '\n000000010000000000000003',
    '00000001000000000000000a',
    '00000001000000000000003',
    '0000000100000000000000030',
    '000000000000000000000003',
    '000000010000000000000003.gz',
    '000000010000000000000003.gz.partial',
    '000000010000000000000003.tmp',
    '.000000010000000000000003',
    '000000010000000000000003.partial.tmp',
    '000000010000000000000003.partial.60',
    '000000010000000000000003.28.backup',
    '000000010000000000000003.00000028.backup.gz',
    '0000000100000000000000G3',
    '００000001000000000000000３',
  ]
  for (const name of foreign) {
    t.equal(parseWalName(name, defaultSegmentSize), null, JSON.stringify(name))
    t.equal(walFileKind(name), null, JSON.stringify(name))
  }
  const outside = [
    '000000010000000000000100',
    '000000010000000000000003.01000000.backup',
    '000000010000000000000003.partial.0000000003000000',
    '000000010000000000000003.partial.0000000004000000',
    '000000010000000000000003.partial.0000000005000060',
  ]
  for (const name of outside) t.equal(parseWalName(name, defaultSegmentSize), null, `${name} with 16 MB`)
  t.match(parseWalName('000000010000000000000100', mb), { segment: 256 }, 'with 1 MB it is one')
  for (const end of [lsn('0/3000000'), lsn('0/4000000')])
    t.throws(() => walName({ kind: 'partial', timeline: 1, segment: 3, end }, defaultSegmentSize), {
      code: 'usage-invalid',
    })
  for (const start of [lsn('0/2FFFFFF'), lsn('0/4000000')])
    t.throws(() => walName({ kind: 'label', timeline: 1, segment: 3, start }, defaultSegmentSize), {
      code: 'usage-invalid',
    })
})

t.test('there and back, whatever the size', async (t) => {
  const timelines = fc.integer({ min: 1, max: 2 ** 32 - 1 })
  const files = fc.constantFrom(...sizes).chain((size) =>
    fc.record({
      size: fc.constant(size),
      segment: fc.maxSafeNat().map((n) => n % (2 ** 64 / size)),
      timeline: timelines,
      offset: fc.nat({ max: size - 1 }),
    }),
  )
  fc.assert(
    fc.property(files, ({ size, segment, timeline, offset }) => {
      const place = firstLsn(segment, size) + BigInt(offset)
      const all: WalFile[] = [
        { kind: 'segment', timeline, segment },
        { kind: 'partial', timeline, segment, end: null },
        { kind: 'label', timeline, segment, start: place },
        { kind: 'history', timeline },
        ...(offset > 0 ? [{ kind: 'partial', timeline, segment, end: place } as const] : []),
      ]
      for (const file of all) {
        const name = walName(file, size)
        deepStrictEqual(parseWalName(name, size), file)
        if (walFileKind(name) !== file.kind) throw new Error(name)
      }
      if (segmentAt(place, size) !== segment) throw new Error('the place is in it')
      if (segmentBefore(place + 1n, size) !== segment) throw new Error('and the byte after is after it')
    }),
  )
  t.pass()
})
