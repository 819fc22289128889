import t from 'tap'
import { nextRun, ScheduleTimer } from '../../src/runner/schedule.ts'
import { FakeClock } from '../support/fake-clock.ts'

// The clocks of New York go from 01:59 to 03:00 on 8 March 2026, and from 01:59 back to 01:00 on 1 November.
process.env.TZ = 'America/New_York'

await t.test('nextRun counts in UTC, whatever the time zone of the process', async (t) => {
  t.equal(new Date('2026-01-01T00:00:00Z').getHours(), 19, 'the time zone is not UTC')
  const next = (cron: string, after: string) => nextRun(cron, new Date(after))?.toISOString()
  t.equal(next('0 2 * * *', '2026-03-01T00:00:00Z'), '2026-03-01T02:00:00.000Z')
  t.equal(next('0 2 * * *', '2026-03-01T02:00:00Z'), '2026-03-02T02:00:00.000Z', 'strictly after')
  t.equal(next('0 2 * * *', '2026-03-01T01:59:59.999Z'), '2026-03-01T02:00:00.000Z')
  t.equal(next('30 2 * * *', '2026-03-08T00:00:00Z'), '2026-03-08T02:30:00.000Z', 'an hour that New York skips')
  t.equal(next('30 6 * * *', '2026-03-08T06:30:00Z'), '2026-03-09T06:30:00.000Z')
  t.equal(next('*/30 * * * *', '2026-11-01T05:30:00Z'), '2026-11-01T06:00:00.000Z', 'an hour that New York repeats')
  t.equal(next('0 4 * * 0', '2026-03-02T00:00:00Z'), '2026-03-08T04:00:00.000Z', 'Sunday of UTC')
  t.equal(next('0 0 29 2 *', '2026-03-01T00:00:00Z'), '2028-02-29T00:00:00.000Z')
  t.equal(next('@daily', '2026-03-01T00:00:00Z'), '2026-03-02T00:00:00.000Z')
  t.equal(next('  0 2 * * *\n', '2026-03-01T00:00:00Z'), '2026-03-01T02:00:00.000Z')
  t.equal(next('0 0 30 2 *', '2026-03-01T00:00:00Z'), undefined, 'never')
})

await t.test('what is not a cron expression is refused with a hint', async (t) => {
  const wrong = [
    '',
    ' ',
    'daily',
    '@fortnightly',
    '* * * *',
    '0 0 2 * * *',
    '60 * * * *',
    '2026-01-01T00:00:00',
    '0 2 * * * ; rm -rf /',
    '0\u00002 * * *',
    'x '.repeat(10_000),
  ]
  for (const expression of wrong) {
    t.throws(
      () => nextRun(expression, new Date(0)),
      { name: 'LifeboatError', code: 'config-invalid', hint: /five fields/ },
      JSON.stringify(expression.slice(0, 40)),
    )
  }
})

/** Starts a timer and notes at which moments it fired. */
function armed(t: { teardown(handler: () => Promise<void>): void }, cron: string, from: string) {
  const clock = new FakeClock(from)
  const controller = new AbortController()
  const timer = new ScheduleTimer(cron, clock)
  const fired: string[] = []
  const running = timer.run(() => fired.push(clock.now().toISOString()), controller.signal)
  const stop = async () => {
    controller.abort()
    await running
  }
  t.teardown(stop)
  return { clock, timer, fired, stop }
}

const hour = 3_600_000

await t.test('fires at each slot, to the moment', async (t) => {
  const { clock, timer, fired, stop } = armed(t, '0 2 * * *', '2026-03-07T12:34:56.789Z')
  t.equal(timer.next?.toISOString(), '2026-03-08T02:00:00.000Z')
  await clock.advance(72 * hour)
  t.same(fired, ['2026-03-08T02:00:00.000Z', '2026-03-09T02:00:00.000Z', '2026-03-10T02:00:00.000Z'])
  await stop()
  t.equal(timer.next, null)
  t.equal(clock.sleeping, 0, 'disarmed')
})

await t.test('a schedule that never comes sleeps on', async (t) => {
  const { clock, timer, fired } = armed(t, '0 0 30 2 *', '2026-03-01T00:00:00Z')
  await clock.advance(hour)
  t.equal(timer.next, null)
  t.same(fired, [])
})

await t.test('the clock set forward over slots: one late run, then on from there', async (t) => {
  const { clock, fired } = armed(t, '0 2 * * *', '2026-03-01T01:00:00Z')
  await clock.advance(10_000)
  clock.jump('2026-03-04T12:00:00Z')
  await clock.advance(60_000)
  t.equal(fired.length, 1)
  t.ok(fired[0] !== undefined && fired[0] < '2026-03-04T12:01:00.001Z', 'within a minute')
  await clock.advance(24 * hour)
  t.same(fired.slice(1), ['2026-03-05T02:00:00.000Z'])
})

await t.test('the clock set back: no slot runs twice, and the schedule goes on', async (t) => {
  const { clock, fired } = armed(t, '0 * * * *', '2026-03-01T00:30:00Z')
  await clock.advance(3 * hour)
  t.same(fired, ['2026-03-01T01:00:00.000Z', '2026-03-01T02:00:00.000Z', '2026-03-01T03:00:00.000Z'])
  clock.jump('2026-03-01T00:59:59Z')
  await clock.advance(2.5 * hour)
  t.equal(fired.length, 3, 'those three have run')
  await clock.advance(hour)
  t.same(fired.slice(3), ['2026-03-01T04:00:00.000Z'])
})

await t.test('set back by a second just after a slot', async (t) => {
  const { clock, fired } = armed(t, '0 2 * * *', '2026-03-01T01:59:00Z')
  await clock.advance(60_000)
  clock.jump('2026-03-01T01:59:59Z')
  await clock.advance(hour)
  t.same(fired, ['2026-03-01T02:00:00.000Z'])
})

await t.test('a clock that was a year ahead does not silence the schedule when it is put right', async (t) => {
  const { clock, timer, fired } = armed(t, '0 2 * * *', '2026-03-01T01:00:00Z')
  clock.jump('2027-03-01T01:00:00Z')
  await clock.advance(2 * hour)
  t.equal(fired.length, 2, 'the slot that was jumped over, and the first of the new year')
  clock.jump('2026-03-01T03:00:00Z')
  await clock.advance(60_000)
  t.equal(timer.next?.toISOString(), '2026-03-02T02:00:00.000Z')
})
