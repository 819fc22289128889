import fc from 'fast-check'
import t from 'tap'
import { longestGapSeconds, maxAgeSeconds, parseCron } from '../../src/config/schedule.ts'
import { LifeboatError } from '../../src/domain/errors.ts'

const day = 86_400

await t.test('cron expressions of five fields, in UTC', async (t) => {
  const next = (expression: string, from: string) => parseCron(expression).nextRun(new Date(from))?.toISOString()
  t.equal(next('0 2 * * *', '2026-03-29T00:30:00Z'), '2026-03-29T02:00:00.000Z', 'no clock change moves it')
  t.equal(next('0 4 * * 0', '2026-01-01T00:00:00Z'), '2026-01-04T04:00:00.000Z')
  t.equal(next('*/15 6-8 * jan mon', '2026-01-01T00:00:00Z'), '2026-01-05T06:00:00.000Z')
  t.equal(next('0 0 29 2 *', '2026-01-01T00:00:00Z'), '2028-02-29T00:00:00.000Z')
})

await t.test('everything else is refused, with a hint', async (t) => {
  const bad = [
    '',
    '   ',
    'off',
    'daily',
    '@daily',
    '0 2 * *',
    '0 2 * * * *',
    '0 0 2 * * * 2030',
    '60 2 * * *',
    '0 24 * * *',
    '0 2 0 * *',
    '0 2 32 * *',
    '0 2 * 13 *',
    '0 2 * * 8',
    '0 2 * * xyz',
    '5-1 * * * *',
    '*/0 * * * *',
    '-1 * * * *',
    '? 2 * * *',
    '0 2 ? * *',
    '2026-01-01T00:00:00Z',
    '0 0 30 2 *',
    '0 0 31 4,6,9,11 *',
    `${'1,'.repeat(500)}1 * * * *`,
    '0 2 * * $(reboot)',
  ]
  for (const expression of bad) {
    try {
      parseCron(expression)
      t.fail(expression)
    } catch (error) {
      t.ok(error instanceof LifeboatError && error.code === 'usage-invalid' && error.hint, JSON.stringify(expression))
    }
  }
  t.throws(() => parseCron('0 0 30 2 *'), { message: /never fires/ })
})

await t.test('the longest gap', async (t) => {
  const known: [string, number][] = [
    ['* * * * *', 60],
    ['*/7 * * * *', 420],
    ['0 * * * *', 3600],
    ['0 2 * * *', day],
    ['0 2,3 * * *', 23 * 3600],
    ['0 4 * * 0', 7 * day],
    ['0 2 * * 1-5', 3 * day],
    ['0 0 1 * *', 31 * day],
    ['* * * 1 *', 335 * day + 60],
    ['30 1 31 * *', 61 * day],
    ['0 0 * * fri#2', 35 * day],
    ['0 12 * * 1L', 35 * day],
    ['0 0 29 2 *', 1461 * day],
  ]
  for (const [expression, seconds] of known) t.equal(longestGapSeconds(expression), seconds, expression)
})

await t.test('no two runs in a row are further apart than the longest gap', async () => {
  const field = (min: number, max: number) =>
    fc.oneof(
      fc.constant('*'),
      fc.integer({ min, max }).map(String),
      fc.uniqueArray(fc.integer({ min, max }), { minLength: 2, maxLength: 4 }).map((list) => list.join(',')),
    )
  const expression = fc.tuple(field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 6))
  fc.assert(
    fc.property(
      expression,
      fc.date({ min: new Date('2001-01-01'), max: new Date('2001-12-31'), noInvalidDate: true }),
      (fields, from) => {
        const text = fields.join(' ')
        const runs = parseCron(text).nextRuns(20, from)
        const gap = longestGapSeconds(text) * 1000
        // A few schedules have their longest gap only around a leap day.
        return runs.every(
          (run, index) => index === 0 || run.getTime() - (runs[index - 1]?.getTime() ?? 0) <= gap + 86_400_000,
        )
      },
    ),
    { numRuns: 10 },
  )
})

await t.test('limits that follow from a schedule', async (t) => {
  t.equal(maxAgeSeconds('0 2 * * *'), 30 * 3600, 'a quarter of a day')
  t.equal(maxAgeSeconds('0 4 * * 0'), 7 * day + 12 * 3600, 'at most twelve hours')
  t.equal(maxAgeSeconds('* * * * *'), 3660, 'at least one hour')
  t.equal(maxAgeSeconds('0 */6 * * *'), 7.5 * 3600)
})
