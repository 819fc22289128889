import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { systemClock } from '../../src/clock.ts'
import { Prefetcher } from '../../src/fetch/prefetch.ts'
import { Spool } from '../../src/fetch/spool.ts'
import { UpcomingSegments } from '../../src/fetch/upcoming.ts'
import { noSmallDisk, scratchDirectory, smallDisk } from '../support/scratch.ts'
import { segmentBytes } from '../support/wal.ts'
import { hashOf } from '../support/wal-objects.ts'
import { stamped, system, type WalRepository, walRepository } from '../support/wal-repository.ts'

const segment = (number: number, timeline = 1) =>
  `${timeline.toString(16).padStart(8, '0')}00000002${number.toString(16).padStart(8, '0')}`.toUpperCase()
const mebibyte = 1024 * 1024

async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await delay(10)
}

/** pg_control, as far as it is looked at. */
function control(state: number): Buffer {
  const bytes = Buffer.alloc(8192)
  bytes.writeBigUInt64LE(BigInt(system))
  bytes.writeUInt32LE(state, 16)
  return bytes
}

/** A prefetcher at work, and what the script does. */
async function prefetching(
  t: Test,
  places: readonly WalRepository[],
  {
    ahead = 4,
    mebibytes = 100,
    hashes = [] as readonly string[],
    base = '',
    state = 0,
    first = null as string | null,
    last = null as string | null,
  } = {},
) {
  const parent = base === '' ? await scratchDirectory(t) : base
  const [directory, dataDirectory] = [join(parent, 'spool'), join(parent, 'data')]
  await mkdir(directory, { recursive: true })
  await writeFile(join(directory, 'wanted'), '')
  await mkdir(join(dataDirectory, 'global'), { recursive: true })
  if (state > 0) await writeFile(join(dataDirectory, 'global', 'pg_control'), control(state))
  const stop = new AbortController()
  const asking = { clock: systemClock, signal: stop.signal, patienceMs: 60_000 }
  const repositories = places.map(({ repository }) => repository)
  const upcoming = new UpcomingSegments({ repositories, systemIdentifier: system, hashes, asking })
  const spool = new Spool(directory)
  const running = new Prefetcher({
    ...{ spool, upcoming, ahead, dataDirectory, first },
    fetch: { ...asking, repositories, systemIdentifier: system, hashes, missingIsEnd: false },
    ...{ maxBytes: mebibytes * mebibyte, parallel: 2, ...(last === null ? {} : { last }) },
  }).run()
  running.catch(() => {})
  t.teardown(async () => {
    stop.abort()
    await running.catch(() => {})
  })
  const read = (name: string) => readFile(join(directory, name)).catch(() => null)
  return {
    directory,
    dataDirectory,
    running,
    stop,
    spooled: async () => [...(await spool.segments())].toSorted(),
    want: (name: string, urgent = true) => writeFile(join(directory, 'wanted'), `${name}${urgent ? ' !' : ''}\n`),
    take: async (name: string) => {
      await until(async () => (await read(name)) !== null)
      const bytes = await read(name)
      await rm(join(directory, name))
      return bytes
    },
    missed: (name: string, answer = '') =>
      until(async () => (await read('missed'))?.toString() === `${name}${answer}\n`),
  }
}

t.test('what comes next is ready, what is passed by goes', async (t) => {
  const place = await walRepository(t)
  for (let number = 1; number <= 12; number += 1) await place.store(segment(number))
  await place.store(segment(20, 2))
  const { want, take, spooled, directory, missed } = await prefetching(t, [place])
  const are = (...names: readonly string[]) => until(async () => String(await spooled()) === String(names))
  await writeFile(join(directory, 'wanted'), '../../etc/passwd !\n')
  await want(segment(1))
  t.ok((await take(segment(1)))?.equals(stamped(segmentBytes(segment(1)))))
  await are(segment(2), segment(3), segment(4), segment(5))
  for (const number of [2, 3]) {
    await want(segment(number), false)
    await take(segment(number))
  }
  await are(segment(4), segment(5), segment(6), segment(7))
  await want(segment(9), false)
  await are(segment(10), segment(11), segment(12))
  await want(segment(3))
  await are(segment(3), segment(4), segment(5), segment(6), segment(7))
  await take(segment(3))
  await want(segment(3))
  await take(segment(3))
  await want(segment(20, 2))
  await take(segment(20, 2))
  await are()
  await want(segment(21, 2))
  await missed(segment(21, 2), ' 44')
  await want('00000002.history')
  await missed('00000002.history', ' 44')
  await place.store('00000002.history', Buffer.from('1\t2/13FFF28\tx\n'))
  await want('00000002.history')
  t.match(String(await take('00000002.history')), /13FFF28/)
  await place.store(segment(21, 2))
  await want(segment(21, 2))
  await take(segment(21, 2))
})

t.test('what the recovery begins with is ready before it is asked for', async (t) => {
  const place = await walRepository(t)
  for (const number of [1, 2, 3]) await place.store(segment(number))
  const { want, spooled, missed } = await prefetching(t, [place], { first: segment(2) })
  await until(async () => String(await spooled()) === String([segment(2), segment(3)]))
  await want('00000002.history')
  await missed('00000002.history', ' 44')
  t.same(await spooled(), [segment(2), segment(3)])
})

t.test('the last segment is there once more when PostgreSQL has learnt that it is the last', async (t) => {
  const place = await walRepository(t)
  for (const number of [1, 2]) await place.store(segment(number))
  const { want, take, spooled, missed } = await prefetching(t, [place])
  await want(segment(1))
  for (const number of [1, 2]) {
    await take(segment(number))
    await want(segment(number), false)
  }
  const isThere = async () => String(await spooled()) === segment(2)
  await until(isThere)
  await want(segment(3))
  await missed(segment(3), ' 44')
  t.ok(await isThere(), 'also after the look for what is nowhere')
})

t.test('so is the last one that is needed, of which PostgreSQL has read ahead', async (t) => {
  const place = await walRepository(t)
  for (const number of [1, 2, 3, 4]) await place.store(segment(number))
  const { want, take, spooled } = await prefetching(t, [place], { last: segment(2) })
  await want(segment(1))
  await take(segment(1))
  for (const number of [2, 3]) {
    await take(segment(number))
    await want(segment(number), false)
  }
  await until(async () => String(await spooled()) === String([segment(2), segment(4)]))
  await take(segment(2))
  await want(segment(2), false)
  await take(segment(4))
  await want(segment(4), false)
  await delay(300)
  t.same(await spooled(), [], 'and not for a third time')
})

t.test('it comes before those that nobody may ask for', async (t) => {
  const place = await walRepository(t)
  for (const number of [1, 2, 3]) await place.store(segment(number))
  const { want, take, spooled } = await prefetching(t, [place], { last: segment(2), mebibytes: 1 })
  await want(segment(1))
  for (const number of [1, 2]) {
    await take(segment(number))
    await want(segment(number), false)
    await until(async () => (await spooled()).length > 0)
    t.same(await spooled(), [segment(2)], `with room for one, after ${number}`)
  }
  await take(segment(2))
  await want(segment(2), false)
  await until(async () => String(await spooled()) === segment(3))
})

t.test('and once more when all is replayed once more', async (t) => {
  const place = await walRepository(t)
  for (const number of [1, 2]) await place.store(segment(number))
  const { want, take, spooled } = await prefetching(t, [place], { last: segment(2) })
  for (const _ of ['to a moment', 'to the last record']) {
    await want(segment(1))
    for (const number of [1, 2, 2]) {
      await take(segment(number))
      await want(segment(number), false)
    }
    t.same(await spooled(), [])
  }
})

t.test('the last one that is needed is on another timeline, and it goes on', async (t) => {
  const place = await walRepository(t)
  for (const number of [1, 2, 3]) await place.store(segment(number))
  for (const number of [2, 3, 4]) await place.store(segment(number, 2))
  const { want, take, spooled } = await prefetching(t, [place], { last: segment(2, 2) })
  const are = (...names: readonly string[]) => until(async () => String(await spooled()) === String(names))
  await want(segment(1))
  await take(segment(1))
  await want(segment(1), false)
  await are(segment(2), segment(3))
  await want(segment(2, 2))
  t.ok((await take(segment(2, 2)))?.equals(stamped(segmentBytes(segment(2, 2)))))
  await want(segment(2, 2), false)
  await are(segment(2, 2), segment(3, 2), segment(4, 2))
  for (const number of [3, 4]) {
    await take(segment(number, 2))
    await want(segment(number, 2), false)
  }
  await place.store(segment(5, 2))
  await want(segment(5, 2))
  await take(segment(5, 2))
  await want(segment(5, 2), false)
  await are(segment(2, 2))
  await want(segment(3))
  await take(segment(3))
  await are()
})

t.test('each request is seen once, also one that is just being written', async (t) => {
  const directory = await scratchDirectory(t)
  const path = join(directory, 'wanted')
  await writeFile(path, '')
  const spool = new Spool(directory)
  const stamps = new Map<string, Set<string>>()
  for (let number = 1; number <= 250; number += 1) {
    const name = `${number.toString(16).padStart(8, '0').toUpperCase()}.history`
    const seen = new Set<string>()
    stamps.set(name, seen)
    let isWritten = false
    const writing = writeFile(path, `${name} !\n`).then(() => {
      isWritten = true
    })
    for (let last = false; !last || seen.size === 0; ) {
      last = isWritten
      const wanted = await spool.wanted()
      if (wanted !== null) stamps.get(wanted.name)?.add(wanted.stamp)
    }
    await writing
  }
  t.same(
    [...stamps].filter(([, { size }]) => size !== 1),
    [],
  )
})

t.test('it goes away under a fetch that was given up', async (t) => {
  const directory = join(await scratchDirectory(t), 'spool')
  await mkdir(directory)
  let [isOver, written] = [false, 0]
  const write = async (writer: number) => {
    for (let number = 0; !isOver; number += 1) {
      const path = join(directory, `${writer}-${number}.part`)
      isOver = await writeFile(path, '').then(
        () => ++written > 2000,
        () => true, // it is gone
      )
    }
  }
  const writing = Promise.all([write(1), write(2), write(3)])
  await until(async () => written > 50)
  await new Spool(directory).destroy()
  await writing
  t.notOk(await readdir(directory).catch(() => null))
})

t.test('what it cannot give it says', async (t) => {
  const [first, second] = [await walRepository(t, 'first'), await walRepository(t, 'second')]
  for (const number of [1, 2, 4]) await first.store(segment(number))
  await writeFile(await first.store(segment(3)), 'damaged')
  await first.store(segment(5), stamped(segmentBytes(segment(5), 7)))
  await first.store(segment(5))
  await second.store(segment(4))
  await writeFile(first.pathOf(segment(4), hashOf(stamped(segmentBytes(segment(4))))), '')
  const { want, take, missed } = await prefetching(t, [first, second])
  await want(segment(1))
  await take(segment(1))
  await want(segment(3))
  await missed(segment(3))
  await want(segment(4))
  t.ok((await take(segment(4)))?.equals(stamped(segmentBytes(segment(4)))), 'from the other repository')
  await want(segment(5))
  await missed(segment(5))
})

t.test('it stays within its bounds', async (t) => {
  const place = await walRepository(t)
  for (let number = 1; number <= 9; number += 1) await place.store(segment(number))
  const bound = await prefetching(t, [place], { ahead: 8, mebibytes: 3 })
  await bound.want(segment(1), false)
  await until(async () => (await bound.spooled()).length === 3)
  await bound.want(segment(1))
  await bound.take(segment(1))
  t.same(await bound.spooled(), [segment(2), segment(3), segment(4)])

  const disk = await smallDisk(t, 2.5 * mebibyte)
  if (disk === null) return t.pass(noSmallDisk)
  const full = await prefetching(t, [place], { base: disk.directory })
  // While the next one is on its way there may be no room to ask.
  const want = (number: number) =>
    until(() =>
      full.want(segment(number)).then(
        () => true,
        () => false,
      ),
    )
  await want(1)
  await full.take(segment(1))
  await want(3)
  // What is on its way ahead may have taken the last room: then it says so, or ends where there is none to say it. Either
  // way the script fetches the file by itself.
  const answered = ['missed', segment(3)]
  let hasEnded = false
  full.running
    .catch(() => {})
    .finally(() => {
      hasEnded = true
    })
  await until(async () => hasEnded || (await readdir(full.directory)).some((name) => answered.includes(name)))
  t.pass('nobody waits for what has no room')
})

t.test('how it ends', async (t) => {
  const place = await walRepository(t)
  await place.store(segment(1))
  await place.store(segment(2))
  const takeBoth = async ({ want, take }: Awaited<ReturnType<typeof prefetching>>) => {
    for (const number of [1, 2]) {
      await want(segment(number))
      await take(segment(number))
    }
  }
  const fresh = await prefetching(t, [place], { state: 6 })
  await takeBoth(fresh)
  t.ok((await readdir(fresh.directory)).length > 0, 'a copy has the state of the server that it was taken from')
  const one = await prefetching(t, [place], { state: 5 })
  await takeBoth(one)
  await writeFile(join(one.dataDirectory, 'global', 'pg_control'), control(6))
  await one.running
  await t.rejects(readdir(one.directory), { code: 'ENOENT' }, 'the spool goes with the recovery')

  const other = await prefetching(t, [place])
  await other.want(segment(1))
  await other.take(segment(1))
  // The next one may be on its way there.
  await rm(other.directory, { recursive: true, force: true, maxRetries: 10 })
  await other.running
})

t.test('one at a time, and nothing of killed ones', async (t) => {
  const parent = await scratchDirectory(t)
  const own = await mkdtemp(join(parent, '00000000000000ab-boot'))
  await writeFile(join(own, `${segment(1)}.part`), 'half')
  for (const name of ['00000000000000ab-former', '00000000000000cd-former', 'other']) await mkdir(join(parent, name))
  const spool = new Spool(own)
  const lock = await spool.lock()
  t.not(lock, null)
  t.equal(await new Spool(own).lock(), null)
  t.not(await new Spool(parent).lock(), null)
  lock?.release()
  await spool.tidy(new Date(Date.now() + 1_800_000))
  t.equal((await readdir(parent)).length, 4)
  await spool.tidy(new Date(Date.now() + 7_200_000))
  t.same((await readdir(parent)).toSorted(), [basename(own), '00000000000000cd-former', 'other'])
  t.same(await readdir(own), [])
})
