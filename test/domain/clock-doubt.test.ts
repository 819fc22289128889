import fc from 'fast-check'
import t from 'tap'
import { clockDoubt, longestSilenceMs } from '../../src/domain/clock-doubt.ts'

const dayMs = 86_400_000
const day = (days: number) => new Date(Date.UTC(2026, 5, 1) + days * dayMs)
const none = () => []

t.test('a clock that goes on', async (t) => {
  t.equal(clockDoubt(day(0), none, day(0)), null)
  t.equal(clockDoubt(day(0), none, day(8)), null, 'a week without a sign, and a day')
  t.equal(clockDoubt(day(0), none, new Date(day(0).getTime() - 300_000)), null, 'clocks are set right by minutes')
  t.equal(
    clockDoubt(day(0), () => t.fail('not asked for nothing') as never, day(1)),
    null,
  )
})

t.test('a clock that jumps', async (t) => {
  const hour = new Date(day(0).getTime() - 3_600_000)
  t.match(clockDoubt(day(0), none, hour), { cause: 'clock-back', hint: /--confirm-clock/ })
  const year = clockDoubt(day(0), none, day(365))
  t.match(year, { cause: 'clock-forward', message: /by 365 days/, hint: /--confirm-clock/ })
  const since = [0, 364.5, 365].map(day)
  t.match(
    clockDoubt(day(0), () => since, day(365)),
    { cause: 'clock-forward' },
    'backups by the wrong clock prove nothing',
  )
  const daily = () => Array.from({ length: 40 }, (_, index) => day(index - 5))
  t.equal(clockDoubt(day(0), daily, day(34)), null, 'others have taken backups all the time: it has passed')
  t.match(clockDoubt(day(0), daily, day(60)), { cause: 'clock-forward' })
})

t.test('nothing was noted yet', async (t) => {
  t.equal(clockDoubt(null, none, day(0)), null, 'and nothing can be lost')
  t.equal(
    clockDoubt(null, () => [day(-1), day(-30)], day(0)),
    null,
  )
  t.match(
    clockDoubt(null, () => [day(-30)], day(0)),
    { cause: 'clock-forward' },
  )
  t.equal(
    clockDoubt(null, () => [day(30)], day(0)),
    null,
    'what is ahead is kept anyhow',
  )
})

t.test('a hole is found wherever it is, and only a hole', async (t) => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 12 * 24 }), { maxLength: 30 }), (hours) => {
      let at = day(0).getTime()
      const moments = hours.map((step) => {
        at += step * 3_600_000
        return new Date(at)
      })
      const now = moments.at(-1) ?? day(0)
      const hasHole = hours.some((step) => step * 3_600_000 > longestSilenceMs)
      const span = now.getTime() - day(0).getTime()
      const doubt = clockDoubt(day(0), () => moments.toReversed(), now)
      if ((doubt !== null) !== (hasHole && span > longestSilenceMs)) throw new Error(JSON.stringify(doubt))
    }),
  )
  t.pass()
})
