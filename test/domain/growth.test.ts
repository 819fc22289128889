import fc from 'fast-check'
import t from 'tap'
import type { Fingerprint, TableFingerprint } from '../../src/domain/fingerprint.ts'
import { baselineOf, deviationOf, explainGrowth, type Measured, totalRows } from '../../src/domain/growth.ts'

const bounds = { shrinkBelow: 0.7, growAbove: 1.5 }
const day = (number: number, value: number): Measured => ({ at: new Date(Date.UTC(2026, 0, 1 + number, 2)), value })
/** Newest last; the newest is held against the others. */
const judge = (values: readonly number[]) => {
  const all = values.map((value, number) => day(number, value)).reverse()
  return deviationOf(all[0] as Measured, all.slice(1), bounds)
}

t.test('what is usual', async (t) => {
  t.equal(judge([100]), null, 'nothing is usual yet')
  t.equal(judge([100, 100, 10]), null, 'two are no baseline')
  t.match(judge([100, 101, 99, 100]), { ratio: 1, of: 3, sameWeekday: false, isUnusual: false })
  t.match(judge([100, 101, 99, 10]), { ratio: 0.1, isUnusual: true })
  t.match(judge([100, 101, 99, 200]), { ratio: 2, isUnusual: true })
  t.match(judge([100, 101, 1, 99, 100, 102]), { isUnusual: false }, 'one bad night does not move a median')
  const growing = Array.from({ length: 60 }, (_, number) => 100 * 1.02 ** number)
  t.match(judge(growing), { isUnusual: false }, 'slow growth')
})

t.test('rhythms', async (t) => {
  const weekly = Array.from({ length: 57 }, (_, number) => (number % 7 === 3 ? 1000 : 100))
  t.match(judge(weekly), { ratio: 1, sameWeekday: true, isUnusual: false })
  const onTheLargeDay = weekly.slice(0, 53)
  t.match(judge(onTheLargeDay), { ratio: 1, sameWeekday: true }, 'a large day against large days')
  t.match(
    judge([...onTheLargeDay.slice(0, -1), 100]),
    { ratio: 0.1, isUnusual: true },
    'and a small one stands out there',
  )
  const swinging = [100, 10, 100, 12, 90, 11, 100, 10, 95, 12, 100, 11]
  t.match(judge(swinging), { isUnusual: false }, 'swings that are usual')
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 1e12 }), { minLength: 4, maxLength: 80 }),
      fc.double({ min: 0.01, max: 100, noNaN: true }),
      (values, factor) => {
        const [plain, scaled] = [judge(values), judge(values.map((value) => value * factor))]
        if (plain === null || scaled === null) return plain === scaled
        return Math.abs(plain.ratio - scaled.ratio) <= 1e-9 * plain.ratio && plain.of === scaled.of
      },
    ),
  )
  const baseline = baselineOf(
    day(100, 1),
    Array.from({ length: 100 }, (_, number) => day(99 - number, 5)),
  )
  t.match(baseline, { value: 5, of: 4, sameWeekday: true }, 'four weeks at most')
  t.equal(baselineOf(day(9, 1), [day(8, 0), day(7, 0), day(6, 0)]), null, 'nothing can be compared with nothing')
})

t.test('which tables', async (t) => {
  const table = (name: string, rows: number | null, bytes: number): TableFingerprint => ({
    schema: 'public',
    name,
    bytes,
    method: rows === null ? 'unknown' : 'full',
    ...(rows === null ? {} : { whole: { rows, hash: '1' } }),
  })
  const print = (...tables: TableFingerprint[]) => ({ tables }) as unknown as Fingerprint
  const before = print(
    table('users', 10, 8192),
    table('orders', 1_000_000, 80_000_000),
    table('old', 5, 8192),
    table('big', null, 5e9),
  )
  const after = print(
    table('users', 10, 8192),
    table('orders', 10, 80_000_000),
    table('Odd\n"x"', 5, 16_384),
    table('big', null, 5e9),
  )
  t.same(explainGrowth(before, after), [
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
  t.same(explainGrowth(before, before), [])
  t.equal(totalRows(before), null, 'a table that was not counted')
  t.equal(totalRows(print(table('a', 1, 1), table('b', 2, 1))), 3)
  const many = print(...Array.from({ length: 100 }, (_, number) => table(`t${number}`, number, number * 8192)))
  t.equal(explainGrowth(print(), many).length, 10)
})
