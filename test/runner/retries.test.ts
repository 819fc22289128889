import { DatabaseSync } from 'node:sqlite'
import t from 'tap'
import type { FailedAttempt } from '../../src/runner/job.ts'
import { history, memoryDirectory, newRunner, puppet } from './support.ts'

const attempt = (n: number): FailedAttempt => ({
  what: `dumping ${n}`,
  failedAt: '2026-03-01T00:00:00.000Z',
  failure: { code: 'server-unreachable', message: 'connection refused' },
  reason: 'the server did not answer',
  waitSeconds: n,
})

t.test('failed attempts show at once, to other processes too, and are bounded', async (t) => {
  const dump = puppet()
  const directory = memoryDirectory(t)
  const { runner, clock } = newRunner(t, [dump.job], {}, directory)
  const { id } = runner.trigger({ job: 'dump', params: {}, trigger: 'api', requestedBy: null })
  await clock.advance(0)
  t.match(runner.get(id), { retries: 0, attempts: [] })
  const told: number[] = []
  runner.onChange((run) => told.push(run.retries))
  dump.calls[0]?.context.retried(attempt(1))
  t.same(told, [1])
  const other = history(directory, clock)
  t.teardown(() => other.close())
  t.match(other.get(id), { state: 'running', retries: 1, attempts: [attempt(1)] })
  for (let n = 2; n <= 120; n += 1) dump.calls[0]?.context.retried(attempt(n))
  dump.calls[0]?.succeed()
  const run = await runner.wait(id)
  t.equal(run.retries, 120)
  t.same(
    run.attempts.map(({ waitSeconds }) => waitSeconds),
    Array.from({ length: 50 }, (_, index) => index + 71),
    'the newest, oldest first',
  )
  dump.calls[0]?.context.retried(attempt(121))
  t.equal(runner.get(id)?.retries, 120, 'not after the verdict')
})

t.test('a state file that is locked just then loses none', async (t) => {
  const dump = puppet()
  const directory = t.testdir()
  const { runner, clock } = newRunner(t, [dump.job], {}, directory)
  const { id } = runner.trigger({ job: 'dump', params: {}, trigger: 'api', requestedBy: null })
  await clock.advance(0)
  const locker = new DatabaseSync(`${directory}/lifeboat.db`)
  locker.exec('begin immediate')
  dump.calls[0]?.context.retried(attempt(1))
  locker.exec('rollback')
  locker.close()
  t.match(runner.get(id), { retries: 0 })
  dump.calls[0]?.succeed()
  t.match(await runner.wait(id), { state: 'succeeded', retries: 1, attempts: [attempt(1)] })
})
