import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { setImmediate as turn } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { systemClock } from '../../src/clock.ts'
import { type BandwidthRule, limitAt } from '../../src/domain/bandwidth.ts'
import { LimitedStorage } from '../../src/storage/limited.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { codeOf, storageContract } from '../contract/storage.ts'
import { FakeClock } from '../support/fake-clock.ts'

const kibi = 1024
const always = (direction: BandwidthRule['direction'], bytesPerSecond: number): BandwidthRule => ({
  direction,
  bytesPerSecond,
  hours: null,
})
const office = (bytesPerSecond: number, timezone = 'UTC'): BandwidthRule => ({
  ...always('upload', bytesPerSecond),
  hours: { from: 8 * 60, to: 18 * 60, timezone },
})

await storageContract(
  t,
  'LimitedStorage',
  async (t) =>
    new LimitedStorage(new LocalStorage({ root: t.testdir() }), {
      rules: [always('upload', 2 ** 40), always('download', 2 ** 40)],
      clock: systemClock,
    }),
)

await t.test('the lowest limit of the hour counts', (t) => {
  const at = (rules: readonly BandwidthRule[], time: string) => limitAt(rules, new Date(`2026-03-01T${time}:00Z`))
  const rules = [office(10), always('upload', 20)]
  t.same(
    ['07:59', '08:00', '17:59', '18:00'].map((time) => at(rules, time)),
    [20, 10, 10, 20],
  )
  t.equal(at([office(10)], '20:00'), null, 'none, none')
  const night: BandwidthRule = { ...office(5), hours: { from: 22 * 60, to: 6 * 60, timezone: 'UTC' } }
  t.same(
    ['21:59', '22:00', '00:00', '05:59', '06:00'].map((time) => at([night], time)),
    [null, 5, 5, 5, null],
  )
  const summer = new Date('2026-07-01T06:00:00Z')
  t.equal(limitAt([office(10, 'Europe/Berlin')], summer), 10, 'eight in Berlin')
  t.equal(limitAt([office(10, 'Europe/Berlin')], new Date('2026-01-15T06:00:00Z')), null, 'seven in winter')
  t.end()
})

function limited(t: Test, rules: readonly BandwidthRule[], now?: string) {
  const clock = new FakeClock(now)
  const storage = new LimitedStorage(new LocalStorage({ root: t.testdir() }), { rules, clock })
  return { clock, storage }
}

const bytes = Buffer.alloc(1024 * kibi, 'x')
const pieces = () =>
  Readable.from(Array.from({ length: 16 }, (_, index) => bytes.subarray(index * 64 * kibi, (index + 1) * 64 * kibi)))

/** Seconds of the clock until the work has ended. It is only moved while somebody waits for it. */
async function secondsOf(clock: FakeClock, work: Promise<unknown>): Promise<number> {
  let isOver = false
  const ended = work.finally(() => {
    isOver = true
  })
  ended.catch(() => {})
  const begun = clock.monotonic()
  while (!isOver) {
    if (clock.sleeping > 0) await clock.advance(10)
    else await turn()
  }
  await ended
  return (clock.monotonic() - begun) / 1000
}

await t.test('uploads keep to their limit, all of them together; downloads to theirs', async (t) => {
  const { clock, storage } = limited(t, [always('upload', 128 * kibi), always('download', 256 * kibi)])
  const one = await secondsOf(clock, storage.put('a', pieces()))
  t.ok(one > 7 && one < 8.5, `${one} s for 1 MiB at 128 KiB/s`)
  const two = await secondsOf(clock, Promise.all([storage.put('b', pieces()), storage.put('c', pieces())]))
  t.ok(two > 14.5 && two < 17, `${two} s for two at a time`)
  const read = await secondsOf(
    clock,
    storage.get('a').then(async ({ body }) => t.ok((await buffer(body)).equals(bytes))),
  )
  t.ok(read > 2.5 && read < 4.2, `${read} s to read it at 256 KiB/s`)
})

await t.test('downloads are not limited unless it is said', async (t) => {
  const { clock, storage } = limited(t, [always('upload', 32 * kibi)])
  await storage.put('k', bytes)
  t.ok((await buffer((await storage.get('k')).body)).equals(bytes))
  t.equal(clock.monotonic(), 0)
  t.equal(storage.staging, undefined, 'what programs write by themselves could not be held up')
  t.ok(limited(t, [always('download', 1)]).storage.staging)
})

await t.test('what a bucket can besides stays', (t) => {
  const lock = async () => {}
  const locks = { extend: lock, hold: lock, release: lock }
  const trials = {
    checksum: 'md5' as const,
    comparesChecksums: async () => true,
    refusesExisting: async () => true,
    lock: async () => null,
  }
  const inner = Object.assign(new LocalStorage({ root: t.testdir() }), { locks, trials })
  const storage = new LimitedStorage(inner, { rules: [always('upload', 1)], clock: new FakeClock() })
  t.equal(storage.locks, locks)
  t.equal(storage.files, inner.files, 'what takes no bytes from there is not held up')
  t.equal(storage.trials, trials)
  t.end()
})

await t.test('a limit that begins or ends within a transfer', async (t) => {
  const { clock, storage } = limited(t, [office(32 * kibi)], '2026-03-01T17:59:50Z')
  const took = await secondsOf(clock, storage.put('k', pieces()))
  t.ok(took > 9 && took < 11.5, `${took} s: ten at the limit, and the rest at once`)
})

await t.test('what is put from memory waits for nobody, and others wait for it', async (t) => {
  const { clock, storage } = limited(t, [always('upload', 128 * kibi)])
  const bulk = storage.put('bulk', pieces())
  while (clock.sleeping === 0) await turn()
  await storage.put('lease', Buffer.alloc(256 * kibi))
  t.equal(clock.monotonic(), 0)
  const took = await secondsOf(clock, bulk)
  t.ok(took > 9 && took < 10.5, `${took} s: two more for the lease`)
})

await t.test('whoever waits is cancelled at once, and so is what it reads from', async (t) => {
  const { clock, storage } = limited(t, [always('upload', 32 * kibi), always('download', 32 * kibi)])
  const stopping = new AbortController()
  const source = pieces()
  const put = codeOf(storage.put('k', source, { signal: stopping.signal }))
  while (clock.sleeping === 0) await turn()
  stopping.abort()
  t.equal(await put, 'cancelled')
  t.ok(source.destroyed)
  t.equal(await storage.head('k'), null)
  t.equal(clock.sleeping, 0)
  await storage.put('k', bytes)
  const reading = new AbortController()
  const read = codeOf(storage.get('k', { signal: reading.signal }).then(({ body }) => buffer(body)))
  while (clock.sleeping === 0) await turn()
  reading.abort()
  t.equal(await read, 'cancelled')
  t.equal(clock.sleeping, 0)
})
