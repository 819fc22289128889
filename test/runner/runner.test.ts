import { DatabaseSync } from 'node:sqlite'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { LifeboatError } from '../../src/domain/errors.ts'
import type { Job, Run } from '../../src/runner/job.ts'
import { Runner } from '../../src/runner/runner.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { history, item, memoryDirectory, memoryLog, newRunner, puppet, thrownBy } from './support.ts'

const request = { job: 'dump', params: {}, trigger: 'api', requestedBy: 'ops' } as const
const minute = 60_000

function states(runner: Runner): string[] {
  const seen: string[] = []
  runner.onChange((run) => seen.push(run.state))
  return seen
}

await t.test('a run is queued at once, then runs, then succeeds', async (t) => {
  const { job, calls } = puppet()
  const { runner, clock, lines } = newRunner(t, [job])
  const seen = states(runner)
  const run = runner.trigger({ ...request, params: { database: 'app' } })
  t.equal(run.state, 'queued')
  t.same(seen, ['queued'])
  t.equal(calls.length, 0, 'nothing has begun when trigger returns')
  await clock.advance(0)
  t.match(calls, [{ params: { database: 'app' }, context: { runId: run.id } }])
  t.equal(runner.get(run.id)?.state, 'running')
  const verdict = runner.wait(run.id)
  await clock.advance(2500)
  calls[0]?.context.item(item('app', { backupId: 'b' }))
  calls[0]?.succeed()
  t.match(await verdict, { id: run.id, state: 'succeeded', failure: null, items: [{ backupId: 'b' }] })
  t.same(await runner.wait(run.id), await verdict, 'also when it is over')
  t.same(seen, ['queued', 'running', 'succeeded'])
  t.match(runner.jobs(), [{ runs: 1, failures: 0, lastDurationSeconds: 2.5, running: false, schedule: null }])
  t.match(
    lines.map(({ level, msg, run, job }) => ({ level, msg, run, job })),
    [
      { level: 30, msg: 'run started', run: run.id, job: 'dump' },
      { level: 30, msg: 'run succeeded', run: run.id, job: 'dump' },
    ],
  )
  t.equal(lines[1]?.durationSeconds, 2.5)
})

await t.test('unknown jobs, runs and expressions', async (t) => {
  const { job } = puppet()
  const { runner, history, clock } = newRunner(t, [job])
  const unknown = { ...request, job: 'verify' } as const
  t.match(
    thrownBy(() => runner.trigger(unknown)),
    { code: 'usage-invalid', hint: 'Jobs are: dump.' },
  )
  t.equal(runner.get('nothing'), null)
  t.match(
    thrownBy(() => runner.cancel('nothing')),
    { code: 'not-found' },
  )
  await t.rejects(runner.wait('nothing'), { code: 'not-found' })
  const make = (schedule: object) => () =>
    new Runner({
      jobs: [job],
      schedules: [{ job: 'dump', params: {}, cron: '@daily', ...schedule }],
      history,
      clock,
      log: memoryLog().log,
    })
  t.throws(make({ job: 'verify' }), { code: 'config-invalid' })
  t.throws(make({ cron: 'never' }), { code: 'config-invalid' })
})

await t.test('one at a time in a lane, first in first out; lanes are independent', async (t) => {
  const backup = puppet()
  const verify = puppet({ name: 'verify', lane: 'verify' })
  const { runner, clock } = newRunner(t, [backup.job, verify.job])
  for (const database of ['a', 'b', 'c']) runner.trigger({ ...request, params: { database } })
  runner.trigger({ ...request, job: 'verify' })
  await clock.advance(0)
  const order = () => backup.calls.map(({ params }) => params.database)
  t.same(order(), ['a'])
  t.equal(verify.calls.length, 1)
  backup.calls[0]?.fail(new Error('broken'))
  await clock.advance(0)
  t.same(order(), ['a', 'b'], 'a failure lets the next one in')
  backup.calls[1]?.succeed()
  await clock.advance(0)
  t.same(order(), ['a', 'b', 'c'])
  t.equal(clock.monotonic(), 0, 'no waiting between them')
})

await t.test('an equal run is refused while it is queued or running, by name', async (t) => {
  const { job, calls } = puppet()
  const { runner, clock } = newRunner(t, [job])
  const first = runner.trigger({ ...request, params: { database: 'a', level: 1 } })
  const again = () => runner.trigger({ ...request, params: { level: 1, database: 'a' } })
  const conflict = { code: 'conflict', details: { runId: first.id } }
  t.match(thrownBy(again), conflict, 'queued')
  await clock.advance(0)
  t.match(thrownBy(again), conflict, 'running')
  calls[0]?.succeed()
  await runner.wait(first.id)
  t.not(again().id, first.id, 'over')
})

await t.test('what a job throws is the failure, whatever it is', async (t) => {
  const { job, calls } = puppet()
  const { runner, clock, lines } = newRunner(t, [job])
  const unprintable = Object.create(null)
  const thrown: [unknown, object][] = [
    [new LifeboatError('disk-full', 'no space', { hint: 'Free some.' }), { code: 'disk-full', hint: 'Free some.' }],
    [new Error('oops'), { code: 'unexpected', message: 'oops' }],
    [new LifeboatError('cancelled', 'nobody asked for it'), { code: 'cancelled' }],
    [undefined, { code: 'unexpected', message: 'undefined' }],
    ['text', { code: 'unexpected', message: 'text' }],
    [unprintable, { code: 'unexpected' }],
  ]
  for (const [index, [error, failure]] of thrown.entries()) {
    const { id } = runner.trigger(request)
    await clock.advance(0)
    calls[index]?.fail(error)
    t.match(await runner.wait(id), { state: 'failed', failure })
    t.match(lines.at(-1), { level: 50, msg: 'run failed', run: id, failure })
  }
  t.match(runner.jobs(), [{ runs: 6, failures: 6, lastSuccessAt: null }])
})

await t.test('a job that throws at once, before any promise', async (t) => {
  const { job } = puppet()
  const broken = {
    ...job,
    run: () => {
      throw new Error('at once')
    },
  }
  const { runner } = newRunner(t, [broken])
  t.match(await runner.wait(runner.trigger(request).id), { state: 'failed', failure: { message: 'at once' } })
})

await t.test('cancel: queued, running, over', async (t) => {
  const { job, calls } = puppet()
  const { runner, clock } = newRunner(t, [job])
  const [first, second, third] = ['a', 'b', 'c'].map((database) => runner.trigger({ ...request, params: { database } }))
  if (!first || !second || !third) throw new Error('three runs were triggered')
  await clock.advance(0)
  t.match(runner.cancel(second.id), { state: 'cancelled', startedAt: null, failure: { code: 'cancelled' } })
  t.match(await runner.wait(second.id), { state: 'cancelled' })
  t.match(
    thrownBy(() => runner.cancel(second.id)),
    { code: 'conflict', details: { runId: second.id } },
  )

  t.equal(runner.cancel(first.id).state, 'running', 'it has to end first')
  t.equal(calls[0]?.context.signal.aborted, true)
  t.match(calls[0]?.context.signal.reason, { code: 'cancelled' })
  t.match(await runner.wait(first.id), { state: 'cancelled', failure: { code: 'cancelled' } })
  t.match(
    thrownBy(() => runner.cancel(first.id)),
    { code: 'conflict' },
  )
  await clock.advance(0)
  t.same(
    calls.map(({ params }) => params.database),
    ['a', 'c'],
    'the cancelled one never ran',
  )
  t.match(runner.jobs(), [{ runs: 2, failures: 0 }])
  calls[1]?.succeed()
  t.match(await runner.wait(third.id), { state: 'succeeded' })
})

await t.test('a cancel at the very moment between queue and start', async (t) => {
  const { job, calls } = puppet()
  const { runner, clock } = newRunner(t, [job])
  const run = runner.trigger(request)
  t.equal(runner.cancel(run.id).state, 'cancelled')
  await clock.advance(minute)
  t.equal(calls.length, 0)
})

await t.test('after a cancel the job may still succeed, or fail for a reason of its own', async (t) => {
  const { job, calls } = puppet({ obeys: false })
  const { runner, clock } = newRunner(t, [job])
  const abortError = new DOMException('aborted', 'AbortError')
  const ends: [(call: (typeof calls)[number]) => void, object][] = [
    [(call) => call.succeed(), { state: 'succeeded', failure: null }],
    [
      (call) => call.fail(new LifeboatError('storage-failed', 'cannot clean up')),
      { state: 'failed', failure: { code: 'storage-failed' } },
    ],
    [(call) => call.fail(new LifeboatError('cancelled', 'by a lower layer')), { state: 'cancelled' }],
    [(call) => call.fail(abortError), { state: 'cancelled', failure: { code: 'cancelled' } }],
  ]
  for (const [index, [end, verdict]] of ends.entries()) {
    const { id } = runner.trigger(request)
    await clock.advance(0)
    runner.cancel(id)
    const call = calls[index]
    if (call) end(call)
    t.match(await runner.wait(id), verdict)
  }
})

await t.test('a timeout fails the run as timed-out, whatever the job makes of it', async (t) => {
  const { job, calls } = puppet({ timeoutSeconds: 90.5, obeys: false })
  const { runner, clock } = newRunner(t, [job])
  const { id } = runner.trigger(request)
  await clock.advance(0)
  await clock.advance(90_499)
  t.equal(calls[0]?.context.signal.aborted, false)
  await clock.advance(1)
  t.match(calls[0]?.context.signal.reason, { code: 'timed-out', message: 'dump took longer than 90.5 s', hint: String })
  calls[0]?.fail(new LifeboatError('program-failed', 'pg_dump was killed'))
  t.match(await runner.wait(id), { state: 'failed', failure: { code: 'timed-out' } })
})

await t.test('a timeout longer than any timer, and a clock that is set while it counts', async (t) => {
  const { job, calls } = puppet({ timeoutSeconds: 90 * 86_400 })
  const { runner, clock } = newRunner(t, [job])
  const { id } = runner.trigger(request)
  await clock.advance(10_000)
  clock.jump('2036-01-01T00:00:00Z')
  await clock.advance(10_000)
  t.equal(calls[0]?.context.signal.aborted, false)
  clock.jump('1999-01-01T00:00:00Z')
  await clock.advance(10_000)
  calls[0]?.succeed()
  t.equal((await runner.wait(id)).state, 'succeeded')
  t.equal(runner.jobs()[0]?.lastDurationSeconds, 30)
})

await t.test('a job that ignores its signal: verdict after the grace, lane taken until it ends', async (t) => {
  const { job, calls } = puppet({ obeys: false })
  const { runner, clock, lines, history } = newRunner(t, [job], { abortGraceMs: 5000 })
  const stuck = runner.trigger({ ...request, params: { database: 'stuck' } })
  const next = runner.trigger({ ...request, params: { database: 'next' } })
  await clock.advance(0)
  runner.cancel(stuck.id)
  await clock.advance(4999)
  t.equal(runner.get(stuck.id)?.state, 'running')
  await clock.advance(1)
  t.match(await runner.wait(stuck.id), { state: 'cancelled' })
  t.ok(lines.some(({ level, msg, run }) => level === 50 && run === stuck.id && /lane stays taken/.test(String(msg))))
  await clock.advance(10 * minute)
  t.equal(runner.get(next.id)?.state, 'queued', 'two jobs never share a lane')
  t.equal(history.claim(next.id), 'busy', 'in no process')

  calls[0]?.context.item(item('late'))
  calls[0]?.context.progress({ done: 1, total: 1, unit: 'steps' })
  calls[0]?.fail(new Error('at last'))
  await clock.advance(0)
  t.match(runner.get(stuck.id), { state: 'cancelled', items: [], progress: null }, 'the verdict stands')
  t.equal(runner.get(next.id)?.state, 'running')
  t.match(runner.jobs(), [{ runs: 1, failures: 0 }])
  calls[1]?.succeed()
  t.equal((await runner.wait(next.id)).state, 'succeeded')
})

await t.test('a run that stands still for ten minutes is told of, once each time', async (t) => {
  const { job, calls } = puppet({ timeoutSeconds: 86_400 })
  const { runner, clock, lines } = newRunner(t, [job])
  await runner.start()
  runner.trigger({ job: 'dump', params: {}, trigger: 'api', requestedBy: null })
  await clock.advance(0)
  const told = () => lines.filter(({ level, msg }) => level === 40 && /stands still/.test(String(msg))).length
  const progress = (done: number, message: string) =>
    calls[0]?.context.progress({ done, total: 100, unit: 'bytes', message })
  const minutes = (count: number) => clock.advance(count * 60_000 + 1000)
  await minutes(9)
  t.equal(told(), 0)
  await minutes(1)
  t.equal(told(), 1, 'nothing was ever said')
  await minutes(30)
  t.equal(told(), 1, 'once')
  progress(1, 'a')
  await minutes(9)
  progress(1, 'b')
  await minutes(9)
  progress(2, 'b')
  await minutes(9)
  t.equal(told(), 1, 'words move on as well as numbers')
  progress(2, 'b')
  await minutes(1)
  t.equal(told(), 2, 'saying the same again is no progress')
  calls[0]?.succeed()
})

await t.test(
  'progress: at once in get, each second to listeners, each 30 s in the log, seconds apart in the file',
  async (t) => {
    const { job, calls } = puppet()
    const { runner, clock, lines, history } = newRunner(t, [job])
    const { id } = runner.trigger(request)
    await clock.advance(0)
    const heard: (number | undefined)[] = []
    runner.onChange(({ progress }) => heard.push(progress?.done))
    const progress = (done: number, total: number | null = 600) =>
      calls[0]?.context.progress({ done, total, unit: 'tables' })
    t.equal(runner.jobs()[0]?.progressRatio, null, 'nothing said yet')
    progress(1)
    t.equal(runner.get(id)?.progress?.done, 1)
    t.equal(runner.list({ state: 'running' })[0]?.progress?.done, 1)
    t.equal(runner.jobs()[0]?.progressRatio, 1 / 600)
    t.equal(history.get(id)?.progress, null)
    for (let done = 2; done <= 600; done += 1) {
      progress(done)
      await clock.advance(100)
    }
    t.ok(heard.length >= 58 && heard.length <= 60, `${heard.length} in a minute`)
    t.equal(lines.filter(({ msg }) => msg === 'run goes on').length, 1)
    t.ok(Number(history.get(id)?.progress?.done) >= 540, 'a kill loses a few seconds of it')
    await clock.advance(minute)
    t.ok(heard.length <= 61, 'nothing new, nothing said')
    t.equal(heard.at(-1), 600)
    for (const [done, total, ratio] of [
      [5, null, null],
      [5, 0, null],
      [Number.NaN, 5, null],
      [7, 5, 1],
      [-1, 5, 0],
    ] as const) {
      progress(done, total)
      t.equal(runner.jobs()[0]?.progressRatio, ratio, `${done} of ${total}`)
    }
    progress(600)
    calls[0]?.succeed()
    t.equal((await runner.wait(id)).progress?.done, 600)
    t.equal(runner.jobs()[0]?.progressRatio, null)
  },
)

await t.test('wait: its signal ends the waiting, not the run', async (t) => {
  const { job, calls } = puppet()
  const { runner, clock } = newRunner(t, [job])
  const { id } = runner.trigger(request)
  await clock.advance(0)
  const controller = new AbortController()
  const reason = new Error('the client went away')
  const waiting = runner.wait(id, controller.signal)
  controller.abort(reason)
  await t.rejects(waiting, reason)
  await t.rejects(runner.wait(id, controller.signal), reason, 'aborted before')
  t.equal(runner.get(id)?.state, 'running')
  const others = [runner.wait(id), runner.wait(id, new AbortController().signal)]
  calls[0]?.succeed()
  for (const run of await Promise.all(others)) t.equal(run.state, 'succeeded')
})

await t.test('a listener that throws disturbs nobody; one that left hears nothing', async (t) => {
  const { job, calls } = puppet()
  const { runner, clock, lines } = newRunner(t, [job])
  const seen = states(runner)
  runner.onChange(() => {
    throw new Error('bad listener')
  })
  let heard = 0
  const leave = runner.onChange(() => {
    heard += 1
  })
  const { id } = runner.trigger(request)
  leave()
  await clock.advance(0)
  calls[0]?.succeed()
  await runner.wait(id)
  t.same(seen, ['queued', 'running', 'succeeded'])
  t.equal(heard, 1)
  t.equal(lines.filter(({ msg }) => msg === 'listener of run changes failed').length, 3)
})

await t.test('stop: queued and running runs are interrupted, new ones refused', async (t) => {
  const { job, calls } = puppet()
  const { runner, clock } = newRunner(t, [job])
  await runner.start()
  const [first, second] = [
    runner.trigger({ ...request, params: { n: 1 } }),
    runner.trigger({ ...request, params: { n: 2 } }),
  ]
  await clock.advance(0)
  const stopped = runner.stop()
  t.equal(runner.stop(), stopped)
  await stopped
  t.match(calls[0]?.context.signal.reason, { code: 'interrupted' })
  for (const { id } of [first, second]) t.match(runner.get(id), { state: 'failed', failure: { code: 'interrupted' } })
  t.equal(calls.length, 1)
  t.match(
    thrownBy(() => runner.trigger(request)),
    { code: 'interrupted' },
  )
  t.equal(clock.sleeping, 0, 'nothing is left')
})

await t.test('stop: a deaf job costs the grace, no more', async (t) => {
  const { job } = puppet({ obeys: false })
  const { runner, clock } = newRunner(t, [job], { abortGraceMs: 5000 })
  const { id } = runner.trigger(request)
  const queued = runner.trigger({ ...request, params: { behind: true } })
  await clock.advance(0)
  let isStopped = false
  const stopped = runner.stop().then(() => {
    isStopped = true
  })
  await clock.advance(4999)
  t.notOk(isStopped)
  await clock.advance(1)
  await stopped
  for (const one of [id, queued.id]) t.match(runner.get(one), { state: 'failed', failure: { code: 'interrupted' } })
})

/** Keeps everybody else from writing until the returned function is called. */
function lock(directory: string): () => void {
  const db = new DatabaseSync(`${directory}/lifeboat.db`)
  db.exec('begin immediate')
  return () => db.close()
}

function lockable(t: Test, options: { schedule?: string; obeys?: boolean } = {}) {
  const { job, calls } = puppet({ obeys: options.obeys ?? true })
  const directory = t.testdir({})
  const clock = new FakeClock()
  const { log, lines } = memoryLog()
  const store = history(directory, clock, { busyTimeoutMs: 0 })
  const schedules = options.schedule === undefined ? [] : [{ job: job.name, params: {}, cron: options.schedule }]
  const runner = new Runner({ jobs: [job], schedules, history: store, clock, log })
  t.teardown(async () => {
    await runner.stop()
    store.close()
  })
  return { runner, calls, clock, lines, history: store, lock: () => lock(directory) }
}

await t.test('a state file that cannot be written delays the verdict, and changes nothing about it', async (t) => {
  const { runner, calls, clock, lines, lock } = lockable(t)
  const { id } = runner.trigger(request)
  await clock.advance(0)
  const unlock = lock()
  calls[0]?.context.item(item('app'))
  calls[0]?.context.progress({ done: 1, total: 1, unit: 'steps' })
  await clock.advance(10_000)
  calls[0]?.succeed()
  await clock.advance(10_000)
  t.equal(runner.get(id)?.state, 'running', 'not known yet')
  t.ok(lines.some(({ level, msg }) => level === 50 && msg === 'run history cannot be written'))
  unlock()
  await clock.advance(1000)
  t.match(await runner.wait(id), { state: 'succeeded', items: [{ database: 'app' }], progress: { done: 1 } })
  t.equal(runner.jobs()[0]?.lastDurationSeconds, 10)
  t.equal(runner.trigger(request).state, 'queued', 'the lane is free')
})

await t.test('a state file that cannot be written when the runner stops: no verdict is made up', async (t) => {
  const { runner, calls, clock, history, lock } = lockable(t)
  const running = runner.trigger(request)
  const queued = runner.trigger({ ...request, params: { n: 2 } })
  await clock.advance(0)
  const verdicts = Promise.allSettled([runner.wait(running.id), runner.wait(queued.id)])
  const unlock = lock()
  await runner.stop()
  t.match(await verdicts, [
    { status: 'rejected', reason: { code: 'interrupted' } },
    { status: 'rejected', reason: { code: 'interrupted' } },
  ])
  unlock()
  await clock.advance(minute)
  t.equal(calls.length, 1)
  t.equal(history.get(running.id)?.state, 'running', 'the next start finds and fails it')
  t.equal(history.get(queued.id)?.state, 'queued')
})

await t.test('a trigger while the state file is locked says so; a scheduled one is tried again', async (t) => {
  const { runner, calls, clock, lock } = lockable(t, { schedule: '0 2 * * *' })
  await runner.start()
  const unlock = lock()
  t.match(
    thrownBy(() => runner.trigger(request)),
    { code: 'storage-failed', hint: /fuser/ },
  )
  await clock.advance(2 * 60 * minute + 45_000)
  t.equal(calls.length, 0)
  unlock()
  await clock.advance(minute)
  t.equal(calls.length, 1, 'a night without a backup is worse than a late one')
  calls[0]?.succeed()
  await clock.advance(60 * minute)
  t.equal(calls.length, 1, 'and once only')
})

await t.test('schedules: armed by start, shown in jobs, skipped while the run before is not over', async (t) => {
  const dump = puppet()
  const verify = puppet({ name: 'verify', lane: 'verify' })
  const schedules = [
    { job: 'dump', params: {}, cron: '*/10 * * * *' },
    { job: 'verify', params: { level: 'artifact' }, cron: '25 * * * *' },
    { job: 'verify', params: { level: 'data' }, cron: '15 * * * *' },
  ] as const
  const { runner, clock, lines } = newRunner(t, [dump.job, verify.job], { schedules })
  t.match(runner.jobs(), [{ schedule: '*/10 * * * *', nextRunAt: null }, {}], 'not armed yet')
  await runner.start()
  t.match(runner.jobs(), [
    { job: 'dump', schedule: '*/10 * * * *', nextRunAt: new Date('2026-03-01T00:10:00Z') },
    { job: 'verify', schedule: '15 * * * *', nextRunAt: new Date('2026-03-01T00:15:00Z') },
  ])
  await clock.advance(11 * minute)
  t.match(runner.list(), [
    { job: 'dump', trigger: 'schedule', requestedBy: null, requestedAt: '2026-03-01T00:10:00.000Z' },
  ])
  await clock.advance(16 * minute)
  t.equal(runner.list({ job: 'dump' }).length, 1)
  const skipped = lines.filter(({ level, msg }) => level === 40 && /skipped/.test(String(msg)))
  t.match(skipped, [{ job: 'dump', cron: '*/10 * * * *' }])
  t.same(
    verify.calls.map(({ params }) => params.level),
    ['data'],
    'the other one waits for its lane',
  )
  t.match(runner.list({ job: 'verify' }), [{ state: 'queued', params: { level: 'artifact' } }, { state: 'running' }])
  dump.calls[0]?.succeed()
  await clock.advance(4 * minute)
  t.equal(dump.calls.length, 2)
  await runner.stop()
  t.match(runner.jobs(), [{ nextRunAt: null }, { nextRunAt: null }])
  await clock.advance(60 * minute)
  t.equal(dump.calls.length, 2)
})

await t.test('a thousand triggers in one second', async (t) => {
  const done: Run[] = []
  const job = { name: 'dump', lane: 'backup', timeoutSeconds: 60, run: async () => undefined } as const
  const { runner, clock } = newRunner(t, [job], {}, memoryDirectory(t))
  runner.onChange((run) => {
    if (run.finishedAt !== null) done.push(run)
  })
  const ids = Array.from({ length: 1000 }, (_, n) => runner.trigger({ ...request, params: { n } }).id)
  t.equal(new Set(ids).size, 1000)
  t.ok(ids.every((id) => /^20260301T000000Z-dump-[0-9a-f]{6}$/.test(id)))
  const verdicts = await Promise.all(ids.map((id) => runner.wait(id)))
  t.ok(verdicts.every(({ state }) => state === 'succeeded'))
  t.same(
    done.map(({ id }) => id),
    ids,
    'in order, each once',
  )
  t.match(runner.jobs(), [{ runs: 1000, failures: 0, running: false }])
  await clock.advance(0)
})

await t.test('a thousand equal triggers: one run, the others are told its id', async (t) => {
  const { job, calls } = puppet()
  const { runner, clock } = newRunner(t, [job])
  const { id } = runner.trigger(request)
  const told = Array.from({ length: 999 }, () => thrownBy(() => runner.trigger(request)))
  t.ok(told.every((error) => error instanceof LifeboatError && error.details?.runId === id))
  await clock.advance(0)
  t.equal(calls.length, 1)
  t.equal(runner.list().length, 1)
})

await t.test('whatever happens to runs, each gets one verdict, and one lane holds one run', async (t) => {
  const step = fc.oneof(
    fc.record({ do: fc.constant('trigger'), n: fc.nat(5) }),
    fc.record({ do: fc.constantFrom('cancel', 'succeed', 'fail'), n: fc.nat(9) }),
    fc.record({ do: fc.constant('advance'), n: fc.nat(8000) }),
  )
  const directory = memoryDirectory(t)
  let round = 0
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), fc.boolean(), async (steps, obeys) => {
      round += 1
      const { job, calls } = puppet({ timeoutSeconds: 5, obeys })
      const clock = new FakeClock()
      const store = history(`${directory}/${round}`, clock)
      let [running, most] = [0, 0]
      const counted: Job = {
        ...job,
        async run(params, context) {
          running += 1
          most = Math.max(most, running)
          await job.run(params, context).finally(() => {
            running -= 1
          })
        },
      }
      const { log } = memoryLog()
      const runner = new Runner({ jobs: [counted], schedules: [], history: store, clock, log, abortGraceMs: 2000 })
      const verdicts: string[] = []
      const triggered: string[] = []
      runner.onChange((run) => {
        if (run.finishedAt !== null) verdicts.push(run.id)
      })
      for (const { do: what, n } of steps) {
        if (what === 'trigger') thrownBy(() => triggered.push(runner.trigger({ ...request, params: { n } }).id))
        else if (what === 'cancel') thrownBy(() => runner.cancel(triggered[n] ?? ''))
        else if (what === 'succeed') calls[n]?.succeed()
        else if (what === 'fail') calls[n]?.fail(new Error('broken'))
        else await clock.advance(n)
      }
      const stopped = runner.stop()
      await clock.advance(2000)
      await stopped
      const { runs } = runner.jobs()[0] ?? { runs: 0 }
      store.close()
      const isOneEach = verdicts.toSorted().join() === triggered.toSorted().join()
      return most <= 1 && runs === triggered.length && isOneEach
    }),
    { numRuns: 60 },
  )
})
