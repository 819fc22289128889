import { deepStrictEqual } from 'node:assert'
import fc from 'fast-check'
import t from 'tap'
import { type SegmentRange, SegmentSet } from '../../src/domain/segment-set.ts'

/** The same, slowly. */
function ranges(members: ReadonlySet<number>, from = 0, to = Number.MAX_SAFE_INTEGER): SegmentRange[] {
  const made: { first: number; last: number }[] = []
  for (const one of [...members].filter((member) => from <= member && member <= to).sort((a, b) => a - b)) {
    const last = made.at(-1)
    if (last !== undefined && last.last === one - 1) last.last = one
    else made.push({ first: one, last: one })
  }
  return made
}

t.test('ranges', async (t) => {
  const set = new SegmentSet()
  t.same(
    [set.size, set.first, set.last, set.upTo(9), set.rangeAt(0), [...set.ranges()]],
    [0, null, null, null, null, []],
  )
  t.same([...set.gaps(3, 5)], [{ first: 3, last: 5 }])
  for (const segment of [7, 5, 6, 9]) t.equal(set.add(segment), true)
  t.equal(set.add(6), false, 'once')
  t.same(
    [...set.ranges()],
    [
      { first: 5, last: 7 },
      { first: 9, last: 9 },
    ],
  )
  t.same(
    [...set.gaps(4, 12)],
    [
      { first: 4, last: 4 },
      { first: 8, last: 8 },
      { first: 10, last: 12 },
    ],
  )
  t.same([...set.gaps(5, 7)], [])
  t.same([set.upTo(4), set.upTo(6), set.upTo(8), set.upTo(99)], [null, 6, 7, 9])
  t.same(set.rangeAt(6), { first: 5, last: 7 })
  t.equal(set.remove(6), true)
  t.equal(set.remove(6), false)
  t.same(
    [...set.ranges()],
    [
      { first: 5, last: 5 },
      { first: 7, last: 7 },
      { first: 9, last: 9 },
    ],
  )
  t.equal(set.addRange(0, 2 ** 44), 2 ** 44 + 1 - 3)
  t.same([...set.ranges(3, 4)], [{ first: 3, last: 4 }], 'cut to what was asked for')
  for (const [first, last] of [
    [-1, 1],
    [2, 1],
    [0.5, 1],
    [0, 2 ** 53],
  ] as const)
    t.throws(() => set.addRange(first, last), RangeError)
})

t.test('whatever is added and removed, in any order', async (t) => {
  const steps = fc.array(
    fc.tuple(fc.constantFrom('add', 'add', 'range', 'remove'), fc.nat({ max: 60 }), fc.nat({ max: 12 })),
    { maxLength: 80 },
  )
  fc.assert(
    fc.property(steps, fc.nat({ max: 80 }), fc.nat({ max: 80 }), (all, from, to) => {
      const [set, members] = [new SegmentSet(), new Set<number>()]
      for (const [what, segment, length] of all) {
        const before = members.size
        if (what === 'remove') deepStrictEqual(set.remove(segment), members.delete(segment))
        else {
          const last = what === 'add' ? segment : segment + length
          for (let one = segment; one <= last; one++) members.add(one)
          deepStrictEqual(set.addRange(segment, last), members.size - before)
        }
        deepStrictEqual(set.size, members.size)
      }
      deepStrictEqual([...set.ranges()], ranges(members))
      deepStrictEqual([...set.ranges(from, to)], ranges(members, from, to))
      const missing = new Set(Array.from({ length: 81 }, (_, one) => one).filter((one) => !members.has(one)))
      deepStrictEqual([...set.gaps(from, to)], ranges(missing, from, to))
      deepStrictEqual(
        set.rangeAt(from),
        ranges(members).find(({ first, last }) => first <= from && from <= last) ?? null,
      )
      deepStrictEqual(set.upTo(from), [...members].filter((one) => one <= from).sort((a, b) => b - a)[0] ?? null)
      deepStrictEqual([...new SegmentSet(set.ranges()).ranges()], ranges(members))
    }),
    { numRuns: 2000 },
  )
  t.pass()
})

/** 0 to count - 1, each once, without any order. */
const shuffled = (count: number) => Array.from({ length: count }, (_, index) => (index * 7_368_787) % count)

t.test('a million segments, in the worst orders', async (t) => {
  const count = 1_000_000
  const orders: Readonly<Record<string, (index: number) => number>> = {
    'in order': (index) => index,
    backwards: (index) => count - 1 - index,
    'the even ones, then the odd ones': (index) => (index < count / 2 ? index * 2 : (index - count / 2) * 2 + 1),
  }
  for (const [name, order] of Object.entries(orders)) {
    const set = new SegmentSet()
    for (let index = 0; index < count; index++) set.add(order(index))
    t.same([...set.ranges()], [{ first: 0, last: count - 1 }], name)
    t.equal(set.size, count)
  }
  const set = new SegmentSet()
  for (const segment of shuffled(count)) set.add(segment * 2)
  t.equal(set.size, count)
  let gaps = 0
  for (const { first, last } of set.gaps(0, 2 * count - 2)) gaps += last - first + 1
  t.equal(gaps, count - 1, 'with a gap after each')
  t.same(set.rangeAt(1_234_568), { first: 1_234_568, last: 1_234_568 })
  for (const segment of shuffled(count)) set.add(segment * 2 + 1)
  t.same([...set.ranges()], [{ first: 0, last: 2 * count - 1 }])
  for (const segment of shuffled(count)) set.remove(segment * 2)
  t.equal(set.size, count)
  for (const segment of shuffled(count)) set.remove(segment * 2 + 1)
  t.same([set.size, set.first, [...set.ranges()]], [0, null, []])
})
