import { mkdir, mkdtemp, readFile, rm, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { LeaseClaim, readLease } from '../../src/repository/lease.ts'
import { Repository } from '../../src/repository/repository.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { MemoryStorage } from '../support/memory-storage.ts'
import { scratchDirectory } from '../support/scratch.ts'

const ttlSeconds = 60

/** Lifeboats on one directory, each with a clock of its own, as on machines of their own. */
async function shared(t: Test, directory?: string) {
  const root = directory ?? (await scratchDirectory(t))
  const place = (clock: FakeClock) =>
    new Repository({ name: 'main', cluster: 'c', storage: new LocalStorage({ root, clock }), clock })
  const lifeboat = (holder: string, now = '2026-03-01T00:00:00Z', host = holder, pid = 1) => {
    const clock = new FakeClock(now)
    const claim = new LeaseClaim({ place: place(clock), clock, holder: () => holder, ttlSeconds, host, pid })
    return { clock, claim, look: () => claim.look() }
  }
  return { root, lifeboat, read: () => readLease(place(new FakeClock())), folder: join(root, 'c', 'leases') }
}

t.test('one has it, the other waits, and takes over', async (t) => {
  const { lifeboat, read } = await shared(t)
  // Clocks that are years apart decide nothing.
  const [one, two] = [lifeboat('one', '2031-01-01T00:00:00Z'), lifeboat('two')]
  t.equal(await read(), null)
  t.match(await one.look(), { state: 'held', since: new Date('2031-01-01T00:00:00Z') })
  t.equal(one.claim.isHeld, true)
  t.match(await two.look(), { state: 'waiting', holder: { host: 'one' }, isAlive: false, lapsesInMs: 60_000 })
  await t.rejects(two.claim.assertHeld(), { code: 'conflict', message: /the repository main is held by one / })

  for (const { clock } of [one, two]) await clock.advance(40_000)
  await one.look()
  t.match(await two.look(), { state: 'waiting', isAlive: true, lapsesInMs: 60_000 }, 'a renewal begins the wait anew')
  await two.clock.advance(59_999)
  t.match(await two.look(), { state: 'waiting', lapsesInMs: 1 })
  two.clock.jump('2025-01-01T00:00:00Z')
  await two.clock.advance(1)
  t.match(await two.look(), { state: 'held', since: two.clock.now() })
  t.match(await read(), { token: 2, lease: { host: 'two', released: false } })

  // The first one stood still all the while: it does not know, and finds out before it does anything.
  t.equal(one.claim.isHeld, true)
  await t.rejects(one.claim.assertHeld(), { code: 'conflict', details: { holder: { host: 'two' } } })
  t.equal(one.claim.isHeld, false)
  t.match(await one.look(), { state: 'waiting', holder: { host: 'two' } })
})

t.test('nobody may believe in a lease longer than others wait for it', async (t) => {
  const { lifeboat } = await shared(t)
  const one = lifeboat('one')
  await one.look()
  await one.clock.advance(59_999)
  t.equal(one.claim.isHeld, true)
  await one.clock.advance(1)
  t.equal(one.claim.isHeld, false)
  t.match(await one.look(), { state: 'held' }, 'nobody has taken it')
})

t.test('given back, it is free at once', async (t) => {
  const { lifeboat, read } = await shared(t)
  const [one, two] = [lifeboat('one'), lifeboat('two')]
  await one.look()
  await two.look()
  await two.claim.release()
  t.match(await read(), { token: 1, lease: { host: 'one', released: false } }, 'only by who has it')
  await one.claim.release()
  t.match(await read(), { token: 1, lease: { released: true } })
  await t.rejects(one.claim.assertHeld(), { code: 'conflict' })
  t.match(await two.look(), { state: 'held' })
  await one.claim.release()
  t.match(await read(), { token: 2, lease: { host: 'two', released: false } })
})

t.test('processes of one state directory are one holder', async (t) => {
  const { lifeboat, read } = await shared(t)
  const [killed, next] = [lifeboat('same'), lifeboat('same')]
  await killed.look()
  t.match(await next.look(), { state: 'held' }, 'a restart waits for nobody')
  await next.claim.assertHeld()
  t.match(await read(), { token: 1 })
  const copy = lifeboat('same', '2026-03-01T00:00:00Z', 'another machine')
  t.match(
    await copy.look(),
    { state: 'waiting' },
    'a state directory that was copied to another machine is another one',
  )
})

t.test('what cannot be understood is held by somebody, until it has lapsed', async (t) => {
  const { lifeboat, folder, read } = await shared(t)
  const [one, two] = [lifeboat('one'), lifeboat('two')]
  await one.look()
  const file = join(folder, '00000000000000000001.json')
  for (const text of ['', '{}', '{"formatVersion":2}', 'x'.repeat(70_000)]) {
    await writeFile(file, text)
    t.match(await read(), { token: 1, lease: null })
    t.match(await two.look(), { state: 'waiting', holder: null, lapsesInMs: 60_000 })
    await t.rejects(one.claim.assertHeld(), { code: 'conflict', message: /cannot be understood/ })
  }
  for (const name of ['1.json', 'x', '99999999999999999999.json', '00000000000000000000.json'])
    await writeFile(join(folder, name), '')
  t.match(await read(), { token: 1 }, 'other names are none of ours')
  await two.clock.advance(60_000)
  t.match(await two.look(), { state: 'held' })
  await rm(folder, { recursive: true })
  await t.rejects(two.claim.assertHeld(), { code: 'conflict' }, 'somebody has removed it')
  t.match(await two.look(), { state: 'held' })
})

t.test('what has the name of the next lease, and is none, is stepped over', async (t) => {
  const { lifeboat, folder, read } = await shared(t)
  const one = lifeboat('one')
  await mkdir(join(folder, '00000000000000000001.json'), { recursive: true })
  await symlink('nowhere', join(folder, '00000000000000000002.json'))
  t.match(await one.look(), { state: 'held' })
  t.equal((await read())?.token, 3)
  await writeFile(join(folder, '00009007199254740991.json'), '')
  t.match(await one.look(), { state: 'waiting', holder: null })
  await one.clock.advance(60_000)
  await t.rejects(one.look(), { code: 'storage-failed', hint: /c\/leases\// }, 'there is no higher one: it is said')
})

t.test('only what is stored tells that a holder lives', async (t) => {
  const { lifeboat, folder } = await shared(t)
  const [one, two] = [lifeboat('one'), lifeboat('two')]
  await one.look()
  await two.look()
  const file = join(folder, '00000000000000000001.json')
  // As on file systems whose inodes are others at each look.
  const text = await readFile(file)
  await rm(file)
  await writeFile(file, text)
  await utimes(file, 1, 1)
  await two.clock.advance(30_000)
  t.match(await two.look(), { state: 'waiting', isAlive: false, lapsesInMs: 30_000 })
  await one.look() // by a clock that stands still
  t.match(await two.look(), { state: 'waiting', isAlive: true, lapsesInMs: 60_000 })
})

t.test('who stands still while it looks has not seen the lease stand still', async (t) => {
  const root = await scratchDirectory(t)
  const clock = new FakeClock()
  const storage = new LocalStorage({ root, clock })
  let stopMs = 0
  const slow = new Proxy(storage, {
    get: (target, key) => {
      if (key !== 'get') {
        const member: unknown = Reflect.get(target, key)
        return typeof member === 'function' ? (member.bind(target) as unknown) : member
      }
      return async (...args: Parameters<LocalStorage['get']>) => {
        const found = await target.get(...args)
        await clock.advance(stopMs)
        return found
      }
    },
  })
  const claim = (holder: string, through: LocalStorage) => {
    const place = new Repository({ name: 'main', cluster: 'c', storage: through, clock })
    return new LeaseClaim({ place, clock, holder: () => holder, ttlSeconds, host: holder })
  }
  const [one, two] = [claim('one', storage), claim('two', slow)]
  await one.look()
  await two.look()
  await clock.advance(59_000)
  stopMs = 600_000
  t.match(await two.look(), { state: 'waiting', lapsesInMs: 1000 }, 'what it has read is ten minutes old')
  stopMs = 0
  await one.look()
  t.match(await two.look(), { state: 'waiting', isAlive: true })
})

t.test('a renewal lists once, unless it came so late that another one may have it', async (t) => {
  const clock = new FakeClock()
  const lists: string[] = []
  let meanwhile = async () => {}
  class Slow extends MemoryStorage {
    override list(...args: Parameters<MemoryStorage['list']>) {
      lists.push(args[0])
      return super.list(...args)
    }
    override async put(...args: Parameters<MemoryStorage['put']>) {
      const before = meanwhile
      meanwhile = async () => {}
      await before()
      return super.put(...args)
    }
  }
  const storage = new Slow(clock)
  const claim = (holder: string) =>
    new LeaseClaim({ place: { name: 'main', cluster: 'c', storage }, clock, holder: () => holder, ttlSeconds })
  const [one, two] = [claim('one'), claim('two')]
  await one.look()
  t.match(await two.look(), { state: 'waiting' })
  lists.length = 0
  t.match(await one.look(), { state: 'held' })
  t.equal(lists.length, 1)
  t.match(await two.look(), { state: 'waiting' })
  meanwhile = async () => {
    await clock.advance(60_000)
    t.match(await two.look(), { state: 'held' })
  }
  t.match(await one.look(), { state: 'waiting' }, 'it was put, and is not believed in')
  t.equal(one.isHeld, false)
  await two.assertHeld()
})

t.test('where a server replaces what it was asked not to', async (t) => {
  const clock = new FakeClock()
  let race: (() => Promise<unknown>) | null = null
  /** As Ceph 16 in a bucket that keeps versions. */
  class Replacing extends MemoryStorage {
    override async put(...[key, body]: Parameters<MemoryStorage['put']>) {
      const other = race
      race = null
      const put = await super.put(key, body)
      await other?.()
      return put
    }
  }
  const storage = new Replacing(clock)
  const claim = (holder: string) =>
    new LeaseClaim({ place: { name: 'main', cluster: 'c', storage }, clock, holder: () => holder, ttlSeconds })
  const [one, two] = [claim('one'), claim('two')]
  race = async () => {
    const other = { ...(await readLease({ cluster: 'c', storage }))?.lease, holder: 'two' }
    await storage.put('c/leases/00000000000000000001.json', Buffer.from(JSON.stringify(other)))
  }
  t.match(await one.look(), { state: 'waiting' }, 'the later put counts')
  t.equal(one.isHeld, false)
  await two.assertHeld()
  await t.rejects(one.assertHeld(), { code: 'conflict' })
})

t.test('a command beside the sidecar does not give its lease back', async (t) => {
  const { lifeboat, read } = await shared(t)
  const [sidecar, command] = [lifeboat('same', undefined, 'host', 10), lifeboat('same', undefined, 'host', 20)]
  await sidecar.claim.look({ isKeeper: true })
  await command.look()
  t.match(await read(), { lease: { pid: 10, renewals: 1 } })
  await command.claim.release()
  t.match(await read(), { token: 1, lease: { released: false } })
  await sidecar.claim.assertHeld()
  const next = lifeboat('same', undefined, 'host', 30)
  await next.claim.look({ isKeeper: true })
  await sidecar.claim.release()
  t.match(await read(), { lease: { pid: 30, released: false } })
  await next.claim.release()
  t.match(await read(), { token: 1, lease: { released: true } })
})

t.test('a hostile time to live keeps nobody waiting for ever', async (t) => {
  const { lifeboat, folder } = await shared(t)
  const [one, two] = [lifeboat('one'), lifeboat('two')]
  await one.look()
  const lease = { ...(await readText(folder)), ttlSeconds: 1e9 }
  await writeFile(join(folder, '00000000000000000001.json'), JSON.stringify(lease))
  t.match(await two.look(), { state: 'waiting', holder: null, lapsesInMs: 60_000 })
})

async function readText(folder: string): Promise<object> {
  return JSON.parse(await readFile(join(folder, '00000000000000000001.json'), 'utf8')) as object
}

t.test('all at once', async (t) => {
  const { lifeboat, read } = await shared(t)
  const many = Array.from({ length: 12 }, (_, index) => lifeboat(`lifeboat ${index}`))
  const states = await Promise.all(many.map(({ look }) => look()))
  t.equal(states.filter(({ state }) => state === 'held').length, 1)
  const fences = await Promise.allSettled(many.map(({ claim }) => claim.assertHeld()))
  t.equal(fences.filter(({ status }) => status === 'fulfilled').length, 1)
  t.ok(await read())
})

/** What happens to three lifeboats, one thing after another: any may stand still, be cut off or come back. */
const happening = fc.oneof(
  { weight: 5, arbitrary: fc.record({ does: fc.constant('look' as const), who: fc.nat(2) }) },
  { weight: 1, arbitrary: fc.record({ does: fc.constant('release' as const), who: fc.nat(2) }) },
  { weight: 3, arbitrary: fc.record({ does: fc.constant('wait' as const), ms: fc.integer({ min: 1, max: 70_000 }) }) },
)

t.test('whatever happens, at most one may write', async (t) => {
  const root = await mkdtemp('/dev/shm/lifeboat-test-')
  t.teardown(() => rm(root, { recursive: true, force: true }))
  const storage = new LocalStorage({ root })
  let [runs, now] = [0, 0]
  const clock = { now: () => new Date(now), monotonic: () => now, sleep: async () => {} }
  const property = fc.asyncProperty(fc.array(happening, { maxLength: 40 }), async (happenings) => {
    runs += 1
    const place = new Repository({ name: 'main', cluster: `c${runs}`, storage, clock })
    const all = ['one', 'two', 'three'].map(
      (name) => new LeaseClaim({ place, clock, holder: () => name, ttlSeconds, host: name }),
    )
    let highest = 0
    for (const one of happenings) {
      if (one.does === 'wait') now += one.ms
      else if (one.does === 'look') await all[one.who]?.look()
      else await all[one.who]?.release()
      const believers = all.filter(({ isHeld }) => isHeld).length // before they look
      const token = (await readLease(place))?.token ?? 0
      const open = await Promise.allSettled(all.map((claim) => claim.assertHeld()))
      const may = open.filter(({ status }) => status === 'fulfilled').length
      if (token < highest || may > 1 || believers > 1) return false
      highest = token
    }
    return true
  })
  await fc.assert(property, { numRuns: 60 })
})
