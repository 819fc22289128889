import fc from 'fast-check'
import t from 'tap'
import { baselineOf, deviationOf, isUnusual, median, type Sized } from '../../src/domain/growth.ts'

const bounds = { shrinkBelow: 0.7, growAbove: 1.5 }
/** A backup of that day, at two o'clock unless said otherwise. */
const day = (number: number, storedBytes: number, hours = 2, sourceBytes: number | null = null): Sized => ({
  consistentAt: new Date(Date.UTC(2026, 0, 1 + number, 0, hours * 60)),
  storedBytes,
  sourceBytes,
})
/** Newest last; the newest is held against the others. */
const judgeAll = (backups: readonly Sized[]) =>
  deviationOf(backups.at(-1) as Sized, backups.slice(0, -1).reverse(), bounds)
/** One for each night. */
const judge = (values: readonly number[]) => judgeAll(values.map((value, number) => day(number, value)))
const bytes = fc.integer({ min: 1, max: 1e12 })
const history = fc.array(bytes, { minLength: 3, maxLength: 80 })

t.test('what is usual', async (t) => {
  t.equal(judge([100]), null, 'nothing is usual yet')
  t.equal(judge([100, 100, 10]), null, 'two are no baseline')
  t.match(judge([100, 101, 99, 100]), { ratio: 1, backups: { length: 3 }, sameWeekday: false, isUnusual: false })
  t.match(judge([100, 101, 99, 10]), { ratio: 0.1, isUnusual: true })
  t.match(judge([100, 101, 99, 0]), { ratio: 0, isUnusual: true }, 'nothing at all')
  t.match(judge([100, 101, 99, 200]), { ratio: 2, isUnusual: true })
  t.match(judge([100, 101, 1, 99, 100, 102]), { isUnusual: false }, 'one bad night does not move a median')
  t.match(judge(Array.from({ length: 60 }, (_, number) => 100 * 1.02 ** number)), { isUnusual: false }, 'slow growth')
  t.equal(judge([0, 0, 0, 1]), null, 'nothing can be compared with nothing')
  t.match(judge(Array.from({ length: 100 }, () => 5)), { storedBytes: 5, backups: { length: 4 }, sameWeekday: true })
  t.match(judge([...Array(20)].map(() => 5)), { backups: { length: 14 }, sameWeekday: false }, 'two weeks of nights')
  t.match(judgeAll([0, 1, 2, 3].map((minutes) => day(0, 7, 2 + minutes / 60))), { ratio: 1, backups: { length: 3 } })
})

t.test('the size of the database', async (t) => {
  const all = (sizes: readonly (number | null)[]) => judgeAll(sizes.map((size, number) => day(number, 5, 2, size)))
  t.match(all([100, 110, 90, 50]), { sourceRatio: 0.5, ratio: 1, isUnusual: false }, 'bloat that was removed')
  t.match(all([100, 110, 90, null]), { sourceRatio: null })
  t.match(all([100, null, 90, 50]), { sourceRatio: null }, 'two are no baseline')
  t.match(all([0, 0, 0, 50]), { sourceRatio: null })
})

t.test('rhythms', async (t) => {
  const weekly = Array.from({ length: 57 }, (_, number) => (number % 7 === 3 ? 1000 : 100))
  t.match(judge(weekly), { ratio: 1, sameWeekday: true, isUnusual: false })
  const onTheLargeDay = weekly.slice(0, 53)
  t.match(judge(onTheLargeDay), { ratio: 1, sameWeekday: true }, 'a large day against large days')
  const tooSmall = [...onTheLargeDay.slice(0, -1), 100]
  t.match(judge(tooSmall), { ratio: 0.1, isUnusual: true }, 'and a small one stands out there')
  t.match(judge(weekly.slice(0, 11)), { ratio: 10, sameWeekday: false, isUnusual: false }, 'the second large day')
  t.match(judge(weekly.slice(0, 4)), { ratio: 10, isUnusual: true }, 'but not the first')
  const swinging = [100, 10, 100, 12, 90, 11, 100, 10, 95, 12, 100, 11]
  t.match(judge(swinging), { isUnusual: false }, 'swings that are usual')
  // Filled all day, emptied at night.
  const hourly = (days: number) =>
    Array.from({ length: days * 24 }, (_, hour) => day(0, 100 + 100 * (hour % 24), hour)).flat()
  for (const hours of [4 * 24 + 1, 40 * 24 + 1, 40 * 24 + 15])
    t.match(judgeAll(hourly(50).slice(0, hours)), { ratio: 1, isUnusual: false }, `${hours} hours`)
  t.match(judgeAll(hourly(2).slice(0, 25)), { isUnusual: false }, 'the second midnight')
  t.match(judgeAll([...hourly(40), day(40, 10, 0)]), { ratio: 0.1, isUnusual: true })
})

t.test('nights that begin a little before or after midnight are still one for each day', async (t) => {
  const nights = Array.from({ length: 10 }, (_, number) => day(number, number + 1, number % 2 === 0 ? 0.1 : -0.1))
  t.same(baselineOf(nights[9] as Sized, nights.slice(0, 9).reverse())?.backups, nights.slice(0, 9).reverse())
})

t.test('weeks of long ago are not those of today', async (t) => {
  const ofLongAgo = [0, 7, 14].map((number) => day(number, 1))
  const ofLate = [76, 75, 74].map((number) => day(number, 100))
  t.match(baselineOf(day(77, 100), [...ofLate, ...ofLongAgo.toReversed()]), { storedBytes: 50.5, sameWeekday: false })
})

t.test('what is dated later tells nothing of the days before', async (t) => {
  const newest = day(9, 10)
  const ahead = [day(400, 10), day(401, 10), day(402, 10)]
  const before = [day(8, 100), day(7, 100), day(6, 100)]
  t.match(deviationOf(newest, [...ahead, ...before], bounds), { ratio: 0.1, backups: before, isUnusual: true })
})

t.test('a median', async (t) => {
  t.equal(median([3, 1, 2]), 2)
  t.equal(median([4, 1, 2, 3]), 2.5)
  t.ok(Number.isNaN(median([])))
})

t.test('of the history of any database', async (t) => {
  const ofNights = (name: string, holds: (nights: readonly number[], value: number) => boolean) =>
    t.test(name, async () => fc.assert(fc.property(history, bytes, holds), { numRuns: 300 }))

  await ofNights('what is far below all that was before is told of', (nights, value) => {
    const newest = Math.min(...nights) * (value / 1e12) * 0.69
    return judge([...nights, newest])?.isUnusual === true
  })
  await ofNights('what is far above all that was before is told of', (nights, value) => {
    const newest = Math.max(...nights) * (1.51 + value)
    return judge([...nights, newest])?.isUnusual === true
  })
  await ofNights('units do not matter', (nights, value) => {
    const [plain, scaled] = [judge(nights), judge(nights.map((one) => one * 2 ** (value % 20)))]
    return plain?.ratio === scaled?.ratio && plain?.isUnusual === scaled?.isUnusual
  })
  await ofNights('the time of the day does not matter, nor does the time zone', (nights, value) => {
    const hours = (value % 2400) / 100
    const moved = judgeAll(nights.map((one, number) => day(number, one, hours)))
    return moved?.ratio === judge(nights)?.ratio && moved?.sameWeekday === judge(nights)?.sameWeekday
  })
  await ofNights('backups at other hours do not matter', (nights, value) => {
    const all = nights.flatMap((one, number) => [day(number, one), day(number, value, 5), day(number, value, 20)])
    const [alone, among] = [judge(nights), judgeAll(all.slice(0, -2))]
    return nights.length < 4 || (alone?.ratio === among?.ratio && alone?.isUnusual === among?.isUnusual)
  })
  await ofNights('a week that comes again is never told of', (week, value) => {
    const nights = Array.from(
      { length: 22 + (value % 14) },
      (_, number) => week[number % Math.min(7, week.length)] ?? 1,
    )
    return week.length < 7 || judge(nights)?.isUnusual === false
  })
  await ofNights('a change that stays is told of for a week at most', (nights, value) => {
    const usual = nights.map(() => 1000)
    const changed = Array.from({ length: 30 }, () => 1 + (value % 5000))
    const told = changed.filter((_, index) => judge([...usual, ...changed.slice(0, index + 1)])?.isUnusual)
    return told.length <= 7
  })
})

t.test('beyond what was seen before', async (t) => {
  t.notOk(isUnusual(0.8, [0.8, 0.8, 0.8], [], bounds), 'within the limits')
  t.ok(isUnusual(0.5, [0.5, 0.5, 0.5], [], bounds))
  t.notOk(isUnusual(0.5, [0.5, 0.5, 0.95], [], bounds), 'nearly as small as one before')
  t.ok(isUnusual(0.5, [0.5, 0.5, 0.5, 0.5, 0.95], [], bounds), 'a single one of five')
  t.notOk(isUnusual(0.5, [0.5, 0.5, 0.5], [0.2, 1], bounds), 'a precedent')
  t.ok(isUnusual(0.5, [0.5, 0.5, 0.5], [0.2], bounds))
  t.notOk(isUnusual(0.5, [], [], bounds), 'nothing is usual yet')
})
