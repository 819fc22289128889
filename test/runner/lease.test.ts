import t, { type Test } from 'tap'
import { LifeboatError } from '../../src/domain/errors.ts'
import { LeaseClaim } from '../../src/repository/lease.ts'
import { Repository } from '../../src/repository/repository.ts'
import { LeaseKeeper } from '../../src/runner/lease.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { MemoryStorage } from '../support/memory-storage.ts'
import { memoryLog } from './support.ts'

/** Keepers that share the clock and the repositories `main` and `far`. */
function keepers(t: Test) {
  const clock = new FakeClock()
  const storage = new MemoryStorage(clock)
  const far = { fails: false, isThere: true, hangs: false, isDead: false }
  const shared = { is: false }
  const begin = (holder: string) => {
    const { log, lines } = memoryLog()
    const repositories = ['main', 'far'].map((name) => {
      const place = new Repository({ name, cluster: name, storage, clock })
      const isThere = async (signal: AbortSignal) => {
        if (name === 'main') return true
        if (far.isDead) await new Promise(() => {})
        if (far.hangs) await clock.sleep(1e9, signal)
        if (far.fails) throw new LifeboatError('storage-failed', 'the disk is gone')
        return far.isThere
      }
      const claim = new LeaseClaim({ place, clock, holder: () => holder, ttlSeconds: 60, host: holder })
      return { name, claim, ttlSeconds: 60, isThere }
    })
    const keeper = new LeaseKeeper({ repositories, clock, log, isShared: () => shared.is })
    const taken: string[] = []
    keeper.onTaken((name) => taken.push(name))
    t.teardown(() => keeper.stop())
    const states = () => keeper.states().map(({ state }) => state)
    return { keeper, lines, taken, states }
  }
  const until = async (ms: number, isSo: () => boolean) => {
    for (let passed = 0; !isSo(); passed += 1000) {
      if (passed > ms) throw new Error(`not within ${ms} ms`)
      await clock.advance(1000)
    }
  }
  return { clock, storage, far, shared, begin, until }
}

t.test('one keeps it, another stands by and takes over', async (t) => {
  const { clock, begin, until } = keepers(t)
  const [one, two] = [begin('one'), begin('two')]
  t.same(one.states(), ['unknown', 'unknown'])
  t.equal(one.keeper.standby(null), null, 'what is not known keeps nobody from trying')
  await one.keeper.start(5000)
  await two.keeper.start(5000)
  t.same(one.states(), ['held', 'held'])
  t.same(one.taken, ['main', 'far'])
  t.same(two.states(), ['waiting', 'waiting'])
  t.match(two.keeper.standby(null), { code: 'conflict', message: /main and far is held by one / })
  t.match(two.keeper.standby('far'), { message: /on the repository far is held/ })
  t.equal(two.keeper.standby('other'), null)
  t.match(two.lines, [{ repository: 'main', msg: /^standing by: .* held by one \(process \d+, since 2026/ }, {}])
  for (let minute = 0; minute < 10; minute += 1) {
    await clock.advance(60_000)
    t.equal(one.keeper.isHeld('main'), true)
    t.same(two.states(), ['waiting', 'waiting'])
  }
  t.equal(two.lines.length, 2, 'said once')
  await t.rejects(two.keeper.fence('main'), { code: 'conflict' })
  await one.keeper.fence('main')

  await one.keeper.stop()
  await one.keeper.stop()
  await until(21_000, () => two.states().join() === 'held,held')
  t.same(two.taken, ['main', 'far'])
  t.equal(two.keeper.standby(null), null)
  t.equal(one.keeper.isHeld('main'), false)
})

t.test('one that is killed is succeeded within its time to live', async (t) => {
  const { begin, until, clock } = keepers(t)
  const one = begin('one')
  // Its process ends without a word.
  await one.keeper.fence('main')
  const two = begin('two')
  await two.keeper.start(5000)
  t.same(two.states(), ['waiting', 'held'])
  t.equal(two.keeper.standby(null), null, 'one of the two it may write to')
  const begun = clock.monotonic()
  await until(61_000, () => two.states().join() === 'held,held')
  t.ok(clock.monotonic() - begun >= 60_000)
  await t.rejects(one.keeper.fence('main'), { code: 'conflict' })
})

t.test('a repository that is not there, fails or hangs', async (t) => {
  const { far, begin, until, clock } = keepers(t)
  Object.assign(far, { isThere: false })
  const { keeper, states, lines, taken } = begin('one')
  await keeper.start(5000)
  t.same(states(), ['held', 'unknown'])
  t.match(keeper.states()[1], { failure: null })
  Object.assign(far, { isThere: true, fails: true })
  await until(21_000, () => keeper.states()[1]?.failure?.code === 'storage-failed')
  Object.assign(far, { fails: false })
  await until(21_000, () => states()[1] === 'held')
  t.same(taken, ['main', 'far'])

  Object.assign(far, { fails: true })
  await clock.advance(39_000)
  t.same(states(), ['held', 'held'], 'a look that fails loses nothing')
  await until(30_000, () => states()[1] === 'unknown')
  t.match(lines.at(-1), { repository: 'far', msg: 'the lease on the repository cannot be looked at' })
  Object.assign(far, { fails: false, hangs: true })
  await clock.advance(200_000)
  t.same(states(), ['held', 'unknown'], 'the other one is kept all the while')
  t.match(keeper.states()[1], { failure: { message: 'the repository far does not answer' } })
  Object.assign(far, { hangs: false })
  await until(100_000, () => states()[1] === 'held')
})

t.test('a start does not wait for one that hangs', async (t) => {
  const { far, begin, clock } = keepers(t)
  far.hangs = true
  const { keeper, states } = begin('one')
  const started = keeper.start(5000)
  await clock.advance(0)
  while (states()[0] !== 'held') await clock.advance(0)
  await clock.advance(5000)
  await started
  t.same(states(), ['held', 'unknown'])
})

t.test('a command waits only for as long as the holder may be dead', async (t) => {
  const { begin, clock, until } = keepers(t)
  const [one, command] = [begin('one'), begin('command')]
  await one.keeper.start(5000)
  const words: string[] = []
  const { signal } = new AbortController()
  let isKnown = false
  const known = command.keeper
    .acquire(null, signal, (said) => words.push(said))
    .then(() => {
      isKnown = true
    })
  await until(30_000, () => isKnown)
  await known
  t.match(command.keeper.standby(null), { code: 'conflict', message: /held by one/ })
  t.match(words, [/^waiting for the lease on main: it is held by one /, /on far/])

  const dead = begin('dead')
  await one.keeper.stop()
  await dead.keeper.fence('main')
  const patient = begin('patient')
  let got = false
  const acquired = patient.keeper
    .acquire('main', signal, () => {})
    .then(() => {
      got = true
    })
  await until(62_000, () => got)
  await acquired
  t.same(patient.states(), ['held', 'unknown'])
  await clock.advance(120_000)
  t.equal(patient.keeper.isHeld('main'), true, 'it is kept')

  const stopped = new AbortController()
  const waiting = begin('waiting').keeper.acquire('main', stopped.signal, () => {})
  await clock.advance(0)
  stopped.abort(new LifeboatError('cancelled', 'enough'))
  await t.rejects(waiting, { code: 'cancelled' })
})

t.test('a command does not wait for one that hangs', async (t) => {
  const { far, begin, until } = keepers(t)
  far.hangs = true
  const { keeper, states } = begin('one')
  let isOver = false
  const acquired = keeper
    .acquire(null, new AbortController().signal, () => {}, 5000)
    .then(() => {
      isOver = true
    })
  await until(6000, () => isOver)
  await acquired
  t.same(states(), ['held', 'unknown'])
})

t.test('of several repositories those of others are left out', async (t) => {
  const { far, begin } = keepers(t)
  const one = begin('one')
  await one.keeper.fence('main')
  const two = begin('two')
  await two.keeper.start(5000)
  t.same(two.states(), ['waiting', 'held'])
  const both = [{ name: 'main' }, { name: 'far' }]
  t.same(two.keeper.writable(both), [{ name: 'far' }])
  t.same(two.keeper.writable(both.slice(0, 1)), [])
  t.match(two.keeper.leftOut(null), [{ message: /main is held by one/ }])
  t.same(two.keeper.leftOut('far'), [])
  Object.assign(far, { isThere: false })
  t.same(two.keeper.writable(both), [{ name: 'far' }])
})

t.test(
  'one that stands by goes on to while the repository does not answer, for as long as a lease lasts',
  async (t) => {
    const { far, begin, clock, until } = keepers(t)
    const [one, two] = [begin('one'), begin('two')]
    await one.keeper.start(5000)
    await two.keeper.start(5000)
    Object.assign(far, { fails: true })
    await clock.advance(50_000)
    t.match(two.keeper.standby('far'), { code: 'conflict' })
    await until(60_000, () => two.states()[1] === 'unknown')
    t.match(two.keeper.states()[1], { failure: { message: 'the disk is gone' } })
  },
)

t.test('the fence takes no lease where the repository is another one', async (t) => {
  const { far, begin, storage } = keepers(t)
  Object.assign(far, { fails: true })
  await t.rejects(begin('one').keeper.fence('far'), { code: 'storage-failed' })
  for await (const item of storage.list('far/')) t.fail(JSON.stringify(item))
})

t.test('a full disk takes nobody what is theirs', async (t) => {
  const { begin, storage, clock } = keepers(t)
  const [one, two] = [begin('one'), begin('two')]
  await one.keeper.start(5000)
  await two.keeper.start(5000)
  storage.put = async () => {
    throw new LifeboatError('disk-full', 'no space is left')
  }
  await clock.advance(200_000)
  t.equal(one.keeper.isHeld('main'), false, 'it cannot be renewed')
  t.equal(await one.keeper.owns('main'), true, 'nor taken by others: what makes room is allowed')
  await one.keeper.fence('main')
  t.equal(await two.keeper.owns('main'), false)
})

t.test('a disk that hangs keeps nobody from ending', async (t) => {
  const { far, begin, clock } = keepers(t)
  const { keeper } = begin('one')
  await keeper.start(5000)
  far.isDead = true
  await clock.advance(21_000) // a look has begun, and will not end
  let isOver = false
  const stopped = keeper.stop().then(() => {
    isOver = true
  })
  for (let second = 0; second < 20 && !isOver; second += 1) await clock.advance(1000)
  t.equal(isOver, true)
  await stopped
})

t.test('nothing is given back under the hands of a command', async (t) => {
  const { begin, shared } = keepers(t)
  const [one, two] = [begin('one'), begin('two')]
  await one.keeper.start(5000)
  shared.is = true
  await one.keeper.stop()
  await two.keeper.start(5000)
  t.same(two.states(), ['waiting', 'waiting'])
})

t.test('who stood still learns at once that its lease is lost', async (t) => {
  const { far, begin, clock } = keepers(t)
  const [one, two] = [begin('one'), begin('two')]
  await one.keeper.fence('main') // and then stands still
  await two.keeper.start(5000)
  await clock.advance(61_000)
  t.same(two.states(), ['held', 'held'])
  t.same(one.states(), ['unknown', 'unknown'])
  t.equal(one.keeper.standby(null), null)
  await one.keeper.settle(5000)
  t.match(one.keeper.standby(null), { code: 'conflict' })
  await one.keeper.settle(5000)
  far.isDead = true
  const three = begin('three')
  let isOver = false
  const settled = three.keeper.settle(5000).then(() => {
    isOver = true
  })
  for (let second = 0; second < 6 && !isOver; second += 1) await clock.advance(1000)
  t.equal(isOver, true, 'one that does not answer is not waited for')
  await settled
  t.same(three.states(), ['waiting', 'unknown'])
})
