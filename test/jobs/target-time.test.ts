import t from 'tap'
import type { ValidatedConfig } from '../../src/config/validated.ts'
import { LifeboatError } from '../../src/domain/errors.ts'
import { LevelRecorder, VerdictError } from '../../src/jobs/level-recorder.ts'
import { timeForNext, withinTime } from '../../src/jobs/target-time.ts'
import { FakeClock } from '../support/fake-clock.ts'

const hour = 3_600_000
const minute = 60_000

function limits(timeoutSeconds: number, targetTimeoutSeconds: number | null = null): ValidatedConfig['verification'] {
  const level = 'data' as const
  return { level, jobs: 1, timeoutSeconds, targetTimeoutSeconds, reproofSeconds: 0, osUser: 'nobody', assertions: [] }
}

t.test('a backup may take half of what is left, the last one all of it', async (t) => {
  const twelve = limits(12 * 3600)
  t.equal(timeForNext(twelve, { spentMs: 0, isLast: false }), 6 * hour - minute / 2)
  t.equal(timeForNext(twelve, { spentMs: 6 * hour, isLast: false }), 3 * hour - minute / 2)
  t.equal(timeForNext(twelve, { spentMs: 0, isLast: true }), 12 * hour - minute, 'and yet there is time for a verdict')
  t.equal(timeForNext(twelve, { spentMs: 13 * hour, isLast: true }), 0)
  t.equal(timeForNext(limits(60), { spentMs: 0, isLast: true }), 54_000)
})

t.test('a limit that was set counts, as long as the run has the time', async (t) => {
  const set = limits(12 * 3600, 8 * 3600)
  t.equal(timeForNext(set, { spentMs: 0, isLast: false }), 8 * hour)
  t.equal(timeForNext(set, { spentMs: 0, isLast: true }), 8 * hour)
  t.equal(timeForNext(set, { spentMs: 8 * hour, isLast: true }), 4 * hour - minute)
})

t.test('what fits into the run as a whole is never given up when the shortest come first', async (t) => {
  const whole = 12 * hour - minute
  for (const shares of [[1], [1, 1], [1, 99], [5, 5, 90], [1, 1, 1, 1, 1], [1, 2, 4, 8, 16], [30, 30, 40]]) {
    const sum = shares.reduce((total, share) => total + share)
    let spentMs = 0
    for (const [index, share] of shares.entries()) {
      const needs = Math.floor((whole * share) / sum)
      const isLast = index === shares.length - 1
      t.ok(timeForNext(limits(12 * 3600), { spentMs, isLast }) >= needs, `${share} of ${shares.join()}`)
      spentMs += needs
    }
  }
})

/** A level of three looks, of which the second never ends unless it is told to. */
function begun({ first = async () => {}, cancelled = new AbortController() } = {}) {
  const clock = new FakeClock()
  const recorder = new LevelRecorder(clock)
  const ending = withinTime({ clock, ms: hour, signal: cancelled.signal }, async (signal) => {
    const endless = () => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
    await recorder.look('rows', 'rows-differ', signal, first)
    await recorder.look('amcheck', 'corruption', signal, endless)
    const refused = async () => {
      // As programs and sessions do that are given a signal that has aborted.
      throw new LifeboatError('cancelled', 'the operation was cancelled')
    }
    await recorder.look('assertions', 'assertion-failed', signal, refused)
    return recorder.result()
  })
  return { clock, ending, cancelled }
}

t.test('the look that takes too long is inconclusive, once', async (t) => {
  const { clock, ending } = begun()
  await clock.advance(hour)
  const { verdict, cause, checks } = await ending
  t.same({ verdict, cause }, { verdict: 'inconclusive', cause: 'timed-out' })
  t.match(checks, [{ name: 'amcheck', verdict: 'inconclusive', detail: /^given up after 3600 s/ }])
  t.equal(checks.length, 1)
  t.equal(clock.sleeping, 0)
})

t.test('what was found wrong before stays wrong', async (t) => {
  const first = async () => {
    throw new VerdictError('fail', 'rows-differ', 'rows', 'one is missing')
  }
  const { clock, ending } = begun({ first })
  await clock.advance(hour)
  t.match(await ending, { verdict: 'fail', cause: 'rows-differ' })
})

t.test('a cancel goes through', async (t) => {
  const { ending, cancelled, clock } = begun()
  const refused = t.rejects(ending, { code: 'cancelled', message: 'enough' })
  await clock.advance(minute)
  cancelled.abort(new LifeboatError('cancelled', 'enough'))
  await refused
  t.equal(clock.sleeping, 0)
})
