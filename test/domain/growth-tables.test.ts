import fc from 'fast-check'
import t from 'tap'
import type { TableFingerprint } from '../../src/domain/fingerprint.ts'
import { compareGrowth, describeChange } from '../../src/domain/growth-tables.ts'
import { fingerprintOf } from '../support/fingerprint.ts'

const table = (name: string, rows: number | null, bytes: number, schema = 'public'): TableFingerprint => ({
  schema,
  name,
  bytes,
  method: rows === null ? 'unknown' : 'full',
  ...(rows === null ? {} : { whole: { rows, hash: '1' } }),
})

t.test('which tables', async (t) => {
  const before = fingerprintOf([
    table('users', 10, 8192),
    table('orders', 1_000_000, 80_000_000),
    table('old', 5, 8192),
    table('big', null, 9e7),
  ])
  const after = fingerprintOf([
    table('users', 10, 8192),
    table('orders', 10, 80_000_000),
    table('Odd\n"x"', 5, 16_384),
    table('big', null, 9e7),
  ])
  const { tables, rowsRatio, differing } = compareGrowth(before, after)
  t.same(tables, [
    {
      table: 'public.orders',
      change: 'changed',
      rowsBefore: 1_000_000,
      rowsAfter: 10,
      bytesBefore: 80_000_000,
      bytesAfter: 80_000_000,
    },
    {
      table: 'public."Odd\\n\\"x\\""',
      change: 'new',
      rowsBefore: null,
      rowsAfter: 5,
      bytesBefore: null,
      bytesAfter: 16_384,
    },
    { table: 'public.old', change: 'dropped', rowsBefore: 5, rowsAfter: null, bytesBefore: 8192, bytesAfter: null },
  ])
  t.equal(rowsRatio, null, 'more than half of the bytes were not counted')
  t.equal(differing, 3)
  t.same(compareGrowth(before, before).tables, [])
})

t.test('one of a hundred', async (t) => {
  const many = fingerprintOf(Array.from({ length: 100 }, (_, number) => table(`t${number}`, number, number * 8192)))
  const { tables, differing } = compareGrowth(fingerprintOf([]), many)
  t.equal(tables.length, 10)
  t.equal(tables[0]?.table, 'public.t99')
  t.equal(differing, 100, 'an empty table is new as well')
})

t.test('rows', async (t) => {
  const ratio = (before: readonly TableFingerprint[], after: readonly TableFingerprint[]) =>
    compareGrowth(fingerprintOf(before), fingerprintOf(after)).rowsRatio
  t.equal(ratio([table('a', 10, 8192)], [table('a', 5, 8192)]), 0.5)
  t.equal(ratio([table('a', 10, 8192), table('b', 10, 8192)], [table('a', 10, 8192)]), 0.5, 'a dropped table')
  t.equal(ratio([table('a', 10, 8192)], []), 0)
  t.equal(ratio([], []), 1)
  t.equal(ratio([], [table('a', 10, 8192)]), null, 'there is no ratio to nothing')
  t.equal(ratio([table('a', 10, 8192), table('b', null, 8000)], [table('a', 5, 8192), table('b', null, 8000)]), 0.5)
  t.equal(ratio([table('a', 10, 8192), table('b', null, 9e9)], [table('a', 5, 8192), table('b', null, 9e9)]), null)
  t.equal(ratio([table('a', 10, 1, 'a'), table('a', 10, 1, 'b')], [table('a', 10, 1, 'a')]), 0.5, 'schemas are apart')
})

t.test('large objects', async (t) => {
  const hashed = fingerprintOf([], { largeObjects: { rows: 7, hash: '1' }, objects: { 'large object': 7 } })
  const unread = fingerprintOf([], { objects: { 'large object': 2 } })
  const [change] = compareGrowth(hashed, unread).tables
  t.match(change, { table: 'large objects', rowsBefore: 7, rowsAfter: 2, bytesBefore: null, bytesAfter: null })
  t.same(compareGrowth(hashed, hashed).tables, [])
})

t.test('a damaged fingerprint is not known, and nothing breaks', async (t) => {
  const whole = table('a', 10, 8192)
  for (const value of [null, 'x', -1, 0.5, {}]) {
    const damaged = { ...whole, bytes: value, whole: { rows: value } } as unknown as TableFingerprint
    const { tables, rowsRatio } = compareGrowth(fingerprintOf([whole]), fingerprintOf([damaged]))
    t.same([tables, rowsRatio], [[], null], JSON.stringify(value))
  }
})

t.test('in words', async (t) => {
  const words = (before: TableFingerprint | null, after: TableFingerprint | null) =>
    compareGrowth(
      fingerprintOf(before === null ? [] : [before]),
      fingerprintOf(after === null ? [] : [after]),
    ).tables.map(describeChange)
  t.same(words(table('a', 1_000_000, 8192), table('a', 10, 8192)), ['public.a (1,000,000 to 10 rows)'])
  t.same(words(table('a', 9, 80_000), table('a', 8, 0)), ['public.a (9 to 8 rows, 80,000 to 0 bytes)'])
  t.same(words(table('a', null, 80_000), table('a', 0, 0)), ['public.a (80,000 to 0 bytes)'])
  t.same(words(null, table('a', 5, 8192)), ['public.a (new, 5 rows)'])
  t.same(words(table('a', 5, 8192), null), ['public.a (dropped, had 5 rows)'])
  t.same(words(table('a', null, 8192), null), ['public.a (dropped, had 8,192 bytes)'])
})

t.test('of any two databases', async (t) => {
  const tables = fc.uniqueArray(
    fc
      .record({
        name: fc.oneof(fc.constantFrom('a', 'b', 'c', 'd'), fc.string({ minLength: 1 })),
        rows: fc.option(fc.nat(1000), { freq: 8 }),
        bytes: fc.nat(1_000_000),
      })
      .map(({ name, rows, bytes }) => table(name, rows, bytes)),
    { selector: ({ name }) => name, maxLength: 9 },
  )
  fc.assert(
    fc.property(tables, tables, (one, other) => {
      const [there, back] = [
        compareGrowth(fingerprintOf(one), fingerprintOf(other)),
        compareGrowth(fingerprintOf(other), fingerprintOf(one)),
      ]
      const mirrored = { new: 'dropped', dropped: 'new', changed: 'changed' } as const
      t.same(
        back.tables.map(({ table: name, change, rowsBefore, rowsAfter, bytesBefore, bytesAfter }) => ({
          table: name,
          change: mirrored[change],
          rowsBefore: rowsAfter,
          rowsAfter: rowsBefore,
          bytesBefore: bytesAfter,
          bytesAfter: bytesBefore,
        })),
        there.tables,
        'the way back is the way there',
      )
      if (there.rowsRatio && back.rowsRatio) t.ok(Math.abs(there.rowsRatio * back.rowsRatio - 1) < 1e-9)
      t.same(compareGrowth(fingerprintOf(one.toReversed()), fingerprintOf(other)), there, 'their order does not matter')
      t.same(compareGrowth(fingerprintOf(one), fingerprintOf(one)).tables, [])
      t.notMatch(there.tables.map(describeChange).join(''), /[\r\n]|null|undefined|NaN/)
    }),
  )
})
