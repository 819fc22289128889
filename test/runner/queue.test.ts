import t from 'tap'
import { LifeboatError } from '../../src/domain/errors.ts'
import { memoryDirectory, newRunner, puppet, thrownBy } from './support.ts'

const request = { job: 'dump', trigger: 'api', requestedBy: 'me' } as const

t.test('so many may wait in a lane, and no more', async (t) => {
  const dump = puppet()
  const verify = puppet({ name: 'verify', lane: 'verify' })
  const { runner, clock } = newRunner(t, [dump.job, verify.job], { queueLimit: 2 }, memoryDirectory(t))
  const trigger = (n: number) => runner.trigger({ ...request, params: { n } })
  trigger(0)
  await clock.advance(0)
  const waiting = [1, 2].map(trigger)
  const full = { code: 'queue-full', message: /2 runs wait for the lane backup/, hint: /cancel/ }
  t.throws(() => trigger(3), full)
  t.throws(
    () => trigger(1),
    { code: 'conflict', details: { runId: waiting[0]?.id } },
    'an equal one is told which it is',
  )
  t.equal(runner.list().length, 3, 'what is refused leaves nothing')
  t.match(
    runner.trigger({ ...request, job: 'verify', params: {} }),
    { state: 'queued' },
    'another lane is another queue',
  )
  runner.cancel(waiting[1]?.id ?? '')
  trigger(3)
  t.throws(() => trigger(4), full)
  dump.calls[0]?.succeed()
  await clock.advance(0)
  trigger(4)
})

t.test('10,000 triggers in one process', async (t) => {
  const { job } = puppet()
  const { runner, clock } = newRunner(t, [job], { queueLimit: 16 }, memoryDirectory(t))
  const codes = new Map<string, number>()
  for (let n = 0; n < 10_000; n += 1) {
    const params = { n: n % 2 === 0 ? 0 : n }
    const error = thrownBy(() => runner.trigger({ ...request, params }))
    const code = error === undefined ? 'queued' : error instanceof LifeboatError ? error.code : 'unknown'
    codes.set(code, (codes.get(code) ?? 0) + 1)
  }
  t.same(Object.fromEntries(codes), { queued: 16, conflict: 4999, 'queue-full': 4985 })
  t.equal(runner.list({ limit: 1000 }).length, 16)
  await clock.advance(0)
})
