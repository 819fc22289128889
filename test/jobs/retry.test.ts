import t from 'tap'
import { LifeboatError } from '../../src/domain/errors.ts'
import { withRetries } from '../../src/jobs/retry.ts'
import type { FailedAttempt } from '../../src/runner/job.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { keptLog } from '../support/log.ts'
import { startCluster } from '../support/postgres.ts'
import { startSidecar } from '../support/sidecar.ts'

const passing = () => new LifeboatError('server-unreachable', 'connection refused')

t.test('again, a little later, and not for ever', async (t) => {
  const { log, lines } = keptLog()
  const slept: number[] = []
  const clock = Object.assign(new FakeClock(), {
    sleep: async (ms: number, signal?: AbortSignal) => {
      signal?.throwIfAborted()
      slept.push(ms)
    },
  })
  const { signal } = new AbortController()
  const options = { retries: 3, delayMs: 1000, clock, random: () => 0.5, signal, log, what: 'storing' }
  const told: string[] = []
  let attempts = 0
  const third = async () => {
    attempts += 1
    if (attempts < 3) throw passing()
    return 'done'
  }
  const noted: FailedAttempt[] = []
  const telling = {
    ...options,
    onWait: (words: string) => told.push(words),
    onRetry: (attempt: FailedAttempt) => noted.push(attempt),
  }
  t.equal(await withRetries(telling, third), 'done')
  const failedAt = clock.now().toISOString()
  const failure = { code: 'server-unreachable', message: 'connection refused' }
  const attempt = { what: 'storing', failedAt, failure, reason: 'the server did not answer' }
  t.same(noted, [
    { ...attempt, waitSeconds: 0.5 },
    { ...attempt, waitSeconds: 1 },
  ])
  t.same(slept, [500, 1000], 'twice as long each time, of which a random part')
  t.match(told[0], /^storing failed, since the server did not answer: attempt 2 of 4 in \d+ s$/)
  t.equal(lines.length, 2)

  slept.length = 0
  await t.rejects(
    withRetries(options, () => Promise.reject(passing())),
    { code: 'server-unreachable' },
  )
  t.same(slept, [500, 1000, 2000])
  slept.length = 0
  await t.rejects(
    withRetries(options, () => Promise.reject(new LifeboatError('disk-full', 'no'))),
    { code: 'disk-full' },
  )
  t.same(slept, [], 'what will fail again is not tried again')
  await t.rejects(
    withRetries({ ...options, retries: 20, delayMs: 300_000, random: () => 1 }, () => Promise.reject(passing())),
  )
  t.equal(Math.max(...slept), 300_000, 'at most five minutes')

  const stop = new AbortController()
  const cancelled = withRetries({ ...options, signal: stop.signal }, () => {
    stop.abort(new LifeboatError('cancelled', 'enough'))
    return Promise.reject(passing())
  })
  await t.rejects(cancelled, { code: 'server-unreachable' }, 'a run that is cancelled waits for nothing')
})

t.test('a server that starts up while the dump is due', { timeout: 60_000 }, async (t) => {
  const cluster = await startCluster(t)
  await cluster.createDatabase('app', 'create table a (i int); insert into a select generate_series(1, 100)')
  const sidecar = await startSidecar(t, cluster, {
    databases: ['app'],
    yaml: { runner: { retries: 10, retryDelay: '1s' } },
  })
  await cluster.server.stop()
  const { id, ended } = sidecar.begin('dump')
  while (
    !sidecar.lines.some(({ msg }) => /looking at the server failed, since .*: attempt 2 of 11/.test(String(msg)))
  ) {
    await new Promise((resolve) => setImmediate(resolve))
  }
  await cluster.server.start()
  t.match(
    await ended,
    { id, state: 'succeeded', items: [{ outcome: 'succeeded', database: 'app' }] },
    'one verdict, and one item',
  )
})
