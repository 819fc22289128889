import t from 'tap'
import { FakeClock } from './fake-clock.ts'

await t.test('time stands still until it is advanced', async (t) => {
  const clock = new FakeClock('2026-01-01T00:00:00Z')
  t.equal(clock.now().toISOString(), '2026-01-01T00:00:00.000Z')
  await clock.advance(1500)
  t.equal(clock.now().toISOString(), '2026-01-01T00:00:01.500Z')
  t.equal(clock.monotonic(), 1500)
})

await t.test('sleepers wake in order of their due times, each seeing its own', async (t) => {
  const clock = new FakeClock()
  const woken: [string, number][] = []
  const sleep = async (name: string, ms: number) => {
    await clock.sleep(ms)
    woken.push([name, clock.monotonic()])
  }
  const all = [sleep('late', 300), sleep('soon', 100), sleep('also soon', 100), sleep('never', 1001), sleep('now', 0)]
  t.equal(clock.sleeping, 5)
  await clock.advance(1000)
  t.same(woken, [
    ['now', 0],
    ['soon', 100],
    ['also soon', 100],
    ['late', 300],
  ])
  t.equal(clock.sleeping, 1)
  await clock.advance(1)
  await Promise.all(all)
})

await t.test('a sleeper that sleeps again wakes again within one advance', async (t) => {
  const clock = new FakeClock()
  let laps = 0
  const loop = async () => {
    while (laps < 10) {
      await clock.sleep(60_000)
      laps += 1
    }
  }
  const done = loop()
  await clock.advance(10 * 60_000)
  t.equal(laps, 10)
  await done
})

await t.test('sleep rejects with the reason of its signal, before and during', async (t) => {
  const clock = new FakeClock()
  const reason = new Error('enough')
  await t.rejects(clock.sleep(10, AbortSignal.abort(reason)), reason)
  const controller = new AbortController()
  const sleeping = clock.sleep(10, controller.signal)
  controller.abort(reason)
  await t.rejects(sleeping, reason)
  t.equal(clock.sleeping, 0)
})

await t.test('a jump moves the wall clock alone', async (t) => {
  const clock = new FakeClock('2026-01-01T00:00:00Z')
  const sleeping = clock.sleep(10)
  clock.jump('2025-01-01T00:00:00Z')
  t.equal(clock.now().toISOString(), '2025-01-01T00:00:00.000Z')
  t.equal(clock.monotonic(), 0)
  t.equal(clock.sleeping, 1)
  await clock.advance(10)
  await sleeping
})
