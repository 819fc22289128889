import t, { type Test } from 'tap'
import { LifeboatError } from '../../src/domain/errors.ts'
import { type CollectorOptions, createCollector } from '../../src/observe/collector.ts'
import { createThrottle } from '../../src/observe/throttle.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { keptLog } from '../support/log.ts'

function collector<T>(t: Test, look: CollectorOptions<T>['look']) {
  const clock = new FakeClock()
  const { log, lines } = keptLog()
  let changes = 0
  const made = createCollector({
    name: 'disk',
    look,
    clock,
    log,
    intervalSeconds: 10,
    timeoutSeconds: 2,
    onChange: () => {
      changes++
    },
  })
  t.teardown(async () => {
    const stopped = made.stop()
    await clock.advance(1_000)
    await stopped
  })
  return { made, clock, lines, changes: () => changes }
}

await t.test('looks at the start and at each interval', async (t) => {
  let looks = 0
  const { made, clock, changes } = collector(t, async () => ++looks)
  t.same(made.state(), {
    collector: 'disk',
    success: null,
    durationSeconds: null,
    lastSuccessAt: null,
    failure: null,
    maxAgeSeconds: 36,
  })
  t.equal(made.value(), null)
  made.start()
  made.start()
  await clock.advance(0)
  t.equal(made.value(), 1)
  t.match(made.state(), { success: true, durationSeconds: 0, lastSuccessAt: clock.now(), failure: null })
  t.ok(Object.isFrozen(made.state()))
  await clock.advance(9_999)
  t.equal(looks, 1)
  await clock.advance(1)
  t.equal(made.value(), 2)
  t.equal(changes(), 2)
  await made.stop()
  await clock.advance(60_000)
  await made.refresh()
  t.equal(looks, 2, 'no look after stop')
})

await t.test('a failing look keeps the last value, and is told of once', async (t) => {
  let failure: unknown = null
  const { made, clock, lines } = collector(t, async () => {
    if (failure !== null) throw failure
    return 'seen'
  })
  await made.refresh()
  const seenAt = clock.now()
  failure = new LifeboatError('storage-failed', 'input/output error', { hint: 'Look at the disk.' })
  await clock.advance(5_000)
  await made.refresh()
  await made.refresh()
  t.equal(made.value(), 'seen')
  t.match(made.state(), {
    success: false,
    lastSuccessAt: seenAt,
    failure: { code: 'storage-failed', message: 'input/output error', hint: 'Look at the disk.' },
  })
  t.equal(lines.length, 1)
  failure = 'thrown in anger'
  await made.refresh()
  t.match(made.state().failure, { code: 'unexpected', message: 'thrown in anger' })
  failure = null
  await made.refresh()
  t.match(made.state(), { success: true, lastSuccessAt: clock.now(), failure: null })
  t.same(
    lines.map((line) => line.msg),
    ['look failed', 'look failed', 'look works again'],
  )
})

await t.test('a look that throws before its first promise fails like any other', async (t) => {
  const { made } = collector(t, () => {
    throw new LifeboatError('storage-failed', 'at once')
  })
  await made.refresh()
  t.match(made.state(), { success: false, failure: { message: 'at once' } })
})

await t.test('a look that heeds its signal is ended at its deadline', async (t) => {
  let reason: unknown
  const { made, clock } = collector(t, (signal) => {
    const { promise, reject } = Promise.withResolvers<string>()
    signal.addEventListener('abort', () => {
      reason = signal.reason
      reject(signal.reason)
    })
    return promise
  })
  const refreshed = made.refresh()
  await clock.advance(2_000)
  await refreshed
  t.match(reason, { code: 'timed-out' })
  t.match(made.state(), { success: false, durationSeconds: 2, failure: { code: 'timed-out', hint: String } })
})

await t.test('a hung look is left behind: others do not pile up, nor wait for ever', async (t) => {
  const hung: { resolve: (value: string) => void }[] = []
  let hang = false
  const { made, clock } = collector(t, () => {
    if (!hang) return Promise.resolve('fresh')
    const { promise, resolve } = Promise.withResolvers<string>()
    hung.push({ resolve })
    return promise
  })
  made.start()
  await clock.advance(0)
  hang = true
  await clock.advance(10_000 + 2_000)
  t.match(made.state(), { success: false, failure: { code: 'timed-out' } })
  t.equal(made.value(), 'fresh')

  await made.refresh()
  t.equal(hung.length, 1, 'a request meanwhile answers at once, without another look')
  await clock.advance(10_000)
  t.equal(hung.length, 1, 'nor does the next interval look')
  await clock.advance(20_000)
  t.equal(hung.length, 2, 'but after a pause one is tried')
  const before = hung.length
  await clock.advance(24 * 3_600_000)
  t.ok(hung.length - before <= 32, `ever more seldom: ${hung.length - before} in a day, not 8640`)
  t.ok(hung.length - before >= 20, 'down to once an hour')

  hung[0]?.resolve('late')
  await clock.advance(0)
  t.equal(made.value(), 'fresh', 'what a look found after its deadline is dropped')
  t.equal(made.state().success, false)
  for (const one of hung) one.resolve('late')
  hang = false
  await clock.advance(10_000)
  t.equal(made.value(), 'fresh')
  t.match(made.state(), { success: true, failure: null }, 'all come back: the next interval looks again')
})

await t.test('requests during a look share the one that follows it', async (t) => {
  const looks: ((value: number) => void)[] = []
  const { made, clock } = collector(t, () => {
    const { promise, resolve } = Promise.withResolvers<number>()
    looks.push(resolve)
    return promise
  })
  const first = made.refresh()
  await clock.advance(0)
  const [second, third] = [made.refresh(), made.refresh()]
  looks[0]?.(1)
  await first
  t.equal(made.value(), 1)
  await clock.advance(0)
  t.equal(looks.length, 2)
  looks[1]?.(2)
  await Promise.all([second, third])
  t.equal(made.value(), 2, 'they saw what happened after they asked')
  await clock.advance(0)
  t.equal(looks.length, 2)
})

await t.test('stop ends a look, waits for one that heeds, not for one that hangs', async (t) => {
  let ended = false
  const heeding = collector(t, async (signal) => {
    const { promise, reject } = Promise.withResolvers<string>()
    signal.addEventListener('abort', () => setImmediate(() => reject(signal.reason)))
    try {
      return await promise
    } finally {
      ended = true
    }
  })
  heeding.made.start()
  await heeding.clock.advance(0)
  await heeding.made.stop()
  t.ok(ended)
  t.equal(heeding.made.state().success, null, 'a look that was stopped has not failed')
  t.same(heeding.lines, [])

  const hanging = collector(t, () => new Promise(() => {}))
  hanging.made.start()
  await hanging.clock.advance(0)
  const stopped = hanging.made.stop()
  await hanging.clock.advance(1_000)
  await stopped
  await hanging.clock.advance(10_000)
  t.equal(hanging.changes(), 0)
})

await t.test('a throttle folds many requests into few', async (t) => {
  const clock = new FakeClock()
  const runs: number[] = []
  const throttle = createThrottle({ clock, delayMs: 0, spacingMs: 200, action: () => runs.push(clock.monotonic()) })
  throttle.request()
  t.same(runs, [0], 'the first at once')
  for (let ms = 0; ms < 1_000; ms += 10) {
    throttle.request()
    await clock.advance(10)
  }
  t.same(runs, [0, 200, 400, 600, 800, 1_000])
  throttle.flush()
  t.equal(runs.length, 6, 'nothing is waiting')
  throttle.request()
  throttle.flush()
  t.equal(runs.length, 7, 'what waits runs now')
  await clock.advance(500)
  t.equal(runs.length, 7, 'and not once more')
  throttle.request()
  throttle.request()
  t.equal(runs.length, 8)
  throttle.stop()
  throttle.request()
  throttle.flush()
  await clock.advance(500)
  t.equal(runs.length, 8)
})

await t.test('a throttle with a delay lets a burst gather', async (t) => {
  const clock = new FakeClock()
  let runs = 0
  const throttle = createThrottle({ clock, delayMs: 50, spacingMs: 1_000, action: () => runs++ })
  throttle.request()
  throttle.request()
  await clock.advance(49)
  t.equal(runs, 0)
  await clock.advance(1)
  t.equal(runs, 1)
  throttle.request()
  await clock.advance(999)
  t.equal(runs, 1)
  await clock.advance(1)
  t.equal(runs, 2)
})
