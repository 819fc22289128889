import t from 'tap'
import type { Run } from '../../src/runner/job.ts'
import { missedSlot } from '../../src/runner/missed.ts'
import { Runner } from '../../src/runner/runner.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { history, memoryLog, puppet } from './support.ts'

const daily = { cron: '0 2 * * *' }
const run = (startedAt: string, more: Partial<Run> = {}) =>
  ({ startedAt, state: 'succeeded', trigger: 'schedule', failure: null, ...more }) as Run
const cutOff = { state: 'failed', failure: { code: 'interrupted', message: 'killed' } } as const

t.test('which slots were missed', async (t) => {
  const now = new Date('2026-03-10T12:00:00Z')
  t.equal(missedSlot(daily, null, now), null, 'before the first run nothing was missed')
  t.equal(missedSlot(daily, run('2026-03-10T02:00:00Z'), now), null)
  t.equal(missedSlot(daily, run('2026-03-10T02:05:00Z', { trigger: 'cli' }), now), null, 'whoever began it')
  t.same(missedSlot(daily, run('2026-03-09T02:00:00Z'), now), {
    slot: new Date('2026-03-10T02:00:00Z'),
    because: 'nothing ran',
  })
  t.same(missedSlot(daily, run('2026-01-01T02:00:00Z'), now)?.because, 'nothing ran', 'once, however many there were')
  t.same(missedSlot(daily, run('2026-03-10T02:00:00Z', cutOff), now)?.because, 'it was cut off')
  t.equal(missedSlot(daily, run('2026-03-10T02:00:00Z', { ...cutOff, trigger: 'catch-up' }), now), null, 'not twice')
  t.equal(
    missedSlot(
      daily,
      run('2026-03-10T02:00:00Z', { state: 'failed', failure: { code: 'disk-full', message: 'x' } }),
      now,
    ),
    null,
  )
  t.equal(missedSlot(daily, run('2027-03-10T02:00:00Z'), now), null, 'a clock that was ahead')
})

t.test('made up for once, after a restart', async (t) => {
  const directory = t.testdir()
  const clock = new FakeClock(new Date('2026-03-01T01:59:00Z'))
  const schedules = [
    { job: 'dump' as const, params: { database: null }, cron: '0 2 * * *' },
    { job: 'verify' as const, params: { level: 'data' }, cron: '0 4 * * 0' },
  ]
  const start = async (catchUp: boolean) => {
    const dump = puppet()
    const verify = puppet({ name: 'verify', lane: 'verify' })
    const kept = history(directory, clock)
    const { log } = memoryLog()
    const runner = new Runner({ jobs: [dump.job, verify.job], schedules, history: kept, clock, log, catchUp })
    await runner.start()
    return { runner, dump, verify, stop: () => runner.stop().then(() => kept.close()) }
  }
  const first = await start(true)
  t.same(first.runner.list(), [], 'nothing was missed before the first run')
  first.runner.trigger({ job: 'dump', params: { database: null }, trigger: 'cli', requestedBy: 'me' })
  await new Promise((resolve) => setImmediate(resolve))
  first.dump.calls[0]?.succeed()
  await first.runner.wait(first.runner.list()[0]?.id ?? '')
  await first.stop()

  await clock.advance(3 * 86_400_000)
  const off = await start(false)
  t.equal(off.runner.list().length, 1)
  await off.stop()
  const second = await start(true)
  t.match(second.runner.list(), [{ job: 'dump', trigger: 'catch-up', requestedBy: null }, { trigger: 'cli' }])
  t.equal(second.runner.list().length, 2, 'one, although three slots have passed; and none of a job that never ran')
  await new Promise((resolve) => setImmediate(resolve))
  second.dump.calls[0]?.succeed()
  await second.runner.wait(second.runner.list()[0]?.id ?? '')
  await second.stop()
  const third = await start(true)
  t.equal(third.runner.list().length, 2)
  await third.stop()
})

t.test('a queue has an end', async (t) => {
  const clock = new FakeClock()
  const dump = puppet()
  const kept = history(t.testdir(), clock)
  const { log } = memoryLog()
  const runner = new Runner({ jobs: [dump.job], schedules: [], history: kept, clock, log, queueLimit: 16 })
  await runner.start()
  let refused = 0
  for (let number = 0; number < 10_000; number += 1) {
    try {
      runner.trigger({ job: 'dump', params: { database: `db${number}` }, trigger: 'api', requestedBy: null })
    } catch (error) {
      refused += 1
      if (refused === 1)
        t.match(error, { code: 'queue-full', message: /16 runs wait for the lane backup/, hint: /cancel/ })
    }
  }
  t.equal(refused, 10_000 - 16)
  t.equal(runner.list({ limit: 100 }).length, 16)
  t.throws(() => runner.trigger({ job: 'dump', params: { database: 'db0' }, trigger: 'api', requestedBy: null }), {
    code: 'conflict',
  })
  await runner.stop()
  kept.close()
})
