import t from 'tap'
import { reserveBytes, whileRoom } from '../../src/jobs/room.ts'
import { FakeClock } from '../support/fake-clock.ts'

/** Work that ends when it is told to, on a disk whose free bytes the test sets. */
function begun(left: { bytes: number | Error }, cancelled = new AbortController()) {
  const clock = new FakeClock()
  const free = async () => {
    if (left.bytes instanceof Error) throw left.bytes
    return left.bytes
  }
  const done = Promise.withResolvers<string>()
  const options = { clock, folder: '/work', check: 'restore', signal: cancelled.signal, free }
  const ending = whileRoom(options, (signal) => {
    signal.addEventListener('abort', () => done.reject(signal.reason))
    return done.promise
  })
  return { clock, done, ending, cancelled }
}

t.test('work is stopped before the disk is full', async (t) => {
  const left = { bytes: reserveBytes }
  const { clock, ending } = begun(left)
  const refused = t.rejects(ending, {
    verdict: 'inconclusive',
    reason: 'disk-full',
    check: 'restore',
    message: /\/work/,
  })
  await clock.advance(10_000)
  left.bytes = reserveBytes - 1
  await clock.advance(1000)
  await refused
  t.equal(clock.sleeping, 0)
})

t.test('work that ends by itself is not looked after any more', async (t) => {
  const { clock, done, ending } = begun({ bytes: 1e12 })
  await clock.advance(1000)
  done.resolve('restored')
  t.equal(await ending, 'restored')
  t.equal(clock.sleeping, 0)
})

t.test('whoever cancels is heard first, and a disk that cannot be asked stops nothing', async (t) => {
  const { clock, ending, cancelled } = begun({ bytes: new Error('gone') })
  const refused = t.rejects(ending, /enough/)
  await clock.advance(10_000)
  cancelled.abort(new Error('enough'))
  await refused
})
