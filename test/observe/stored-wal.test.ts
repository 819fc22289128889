import { chmod, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { LifeboatError } from '../../src/domain/errors.ts'
import { segmentName } from '../../src/domain/wal.ts'
import { StoredWalIndex, type StoredWalOptions } from '../../src/observe/stored-wal.ts'
import type { StoredWalState } from '../../src/observe/wal-state.ts'
import { walKey, walTimelinePrefix } from '../../src/repository/layout.ts'
import type { Repository } from '../../src/repository/repository.ts'
import { type History, openHistory } from '../../src/runner/history.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { keptLog } from '../support/log.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { directoryRepository, filledSystem, storeSegment, storeWal, strewWal } from '../support/wal-objects.ts'

const { signal } = new AbortController()
const mebibyte = 1024 * 1024
const name = (segment: number, timeline = 1, size = mebibyte) => segmentName(timeline, segment, size)
const day = 24 * 3_600_000

/** A repository, its state file, and indexes of it. */
async function place(t: Test) {
  const base = await scratchDirectory(t)
  const root = join(base, 'repository')
  const clock = new FakeClock()
  const { log, lines } = keptLog()
  const open = (): History => {
    const history = openHistory({ file: join(base, 'lifeboat.db'), clock, log })
    t.teardown(() => history.close())
    return history
  }
  const history = open()
  const repository = directoryRepository(root, { history, clock })
  const index = (options: Partial<StoredWalOptions> = {}) => {
    const made = new StoredWalIndex({ repository, records: history.wal.index, clock, log, ...options })
    t.teardown(() => made.close())
    return made
  }
  const remove = async (segment: number, timeline = 1) => {
    for (const object of await repository.wal.ofSegment(filledSystem, name(segment, timeline))) {
      await repository.wal.remove(object)
    }
  }
  const put = (segment: number, timeline = 1, fill = 1) => storeSegment(repository, name(segment, timeline), fill)
  return { base, root, clock, lines, history, open, repository, index, put, remove }
}

const system = (state: StoredWalState, id = filledSystem) => state.systems.get(id)
const ranges = (state: StoredWalState, timeline = 1, id = filledSystem) => [
  ...(system(state, id)?.coverage.segments(timeline).ranges() ?? []),
]

/** What each look that starts anew would find: what is told must be this in the end. */
async function truth(repository: Repository, id = filledSystem) {
  let [segments, partials, bytes] = [new Set<string>(), 0, 0]
  for await (const timeline of repository.wal.timelines(id)) {
    for await (const object of repository.wal.list(id, timeline)) {
      bytes += object.info.bytes
      if (object.kind === 'segment') segments = segments.add(object.name)
      else partials += 1
    }
  }
  for await (const object of repository.wal.listPlain(id)) bytes += object.info.bytes
  return { segments: segments.size, partials, bytes }
}

const strew = (root: string, file: string) => strewWal(root, file, { systemIdentifier: filledSystem })

t.test('an empty repository holds nothing', async (t) => {
  const { repository, index, put } = await place(t)
  t.match(await index().look(signal), { systems: new Map(), revision: 0 }, 'the first segment makes it')
  await put(1)
  const state = await index().look(signal)
  t.same(ranges(state), [{ first: 1, last: 1 }])
  t.match(system(state), await truth(repository))
})

t.test('what is new is found, and what is gone at the beginning', async (t) => {
  const { repository, index, put, remove } = await place(t)
  const looking = index()
  for (const segment of [3, 4, 6]) await put(segment)
  const first = await looking.look(signal)
  t.ok(first.listedAt)
  t.same(ranges(first), [
    { first: 3, last: 4 },
    { first: 6, last: 6 },
  ])
  t.equal((await looking.look(signal)).revision, first.revision, 'nothing has changed')

  await put(5)
  await put(7)
  const second = await looking.look(signal)
  t.same(ranges(second), [{ first: 3, last: 7 }], 'parallel uploads end in any order')
  t.not(second.revision, first.revision)
  t.equal(system(second)?.coverage, system(first)?.coverage, 'it is alive')

  await put(300)
  await put(1000)
  t.same(ranges(await looking.look(signal)).length, 3)
  for (const segment of [3, 4]) await remove(segment)
  const third = await looking.look(signal)
  t.same(ranges(third)[0], { first: 5, last: 7 }, 'retention takes from the beginning')
  t.match(system(third), await truth(repository))
  // Older ones, and far from the end within a gap: one gap is looked at each time.
  for (const segment of [2, 500, 501]) await put(segment)
  let grown = third
  for (let turn = 0; turn < 5; turn++) grown = await looking.look(signal)
  t.same(ranges(grown)[0], { first: 2, last: 2 })
  t.same(ranges(grown)[3], { first: 500, last: 501 })

  for (const segment of [2, 5, 6, 7, 300, 500, 501, 1000]) await remove(segment)
  const empty = await looking.look(signal)
  t.same(ranges(empty), [])
  t.match(system(empty), { segments: 0, bytes: 0, partials: 0 })
})

t.test('what some of it takes as stored', async (t) => {
  const { index, put, repository } = await place(t)
  for (const segment of [1, 2, 3, 255, 256, 257]) await put(segment)
  await storeWal(repository, filledSystem, `${name(4)}.partial.0000000000480000`, Buffer.from('a part'))
  const found = system(await index().look(signal))
  const size = new Map<number, number>()
  for await (const { name: file, info, kind } of repository.wal.list(filledSystem, 1))
    if (kind === 'segment') size.set(Number.parseInt(file.slice(16), 16), info.bytes)
  const sum = (...segments: readonly number[]) => segments.reduce((all, one) => all + (size.get(one) ?? Number.NaN), 0)
  t.equal(found?.storedBytes?.(1, 0, 1000), sum(1, 2, 3, 255, 256, 257))
  t.equal(found?.storedBytes?.(1, 256, 300), sum(256, 257), 'of a shelf, all of it, and no partial')
  t.equal(found?.storedBytes?.(1, 1, 2), Math.round(sum(1, 2, 3, 255) / 2), 'of a part the average')
  t.equal(found?.storedBytes?.(1, 100, 200), 0)
  t.equal(found?.storedBytes?.(2, 1, 2), 0)
  t.equal(found?.storedBytes?.(1, 3, 2), 0)
})

t.test('partials, histories, labels, two contents of one segment', async (t) => {
  const { root, repository, index, put, lines } = await place(t)
  const looking = index()
  await put(1)
  await looking.look(signal)
  const partial = (end: string) => `${name(2)}.partial${end}`
  await storeWal(repository, filledSystem, partial('.0000000000280000'), Buffer.from('a part'))
  await storeWal(repository, filledSystem, partial('.0000000000240000'), Buffer.from('less'))
  await storeWal(repository, filledSystem, partial(''), Buffer.from('of the server'))
  await storeWal(repository, filledSystem, '00000002.history', Buffer.from('1\t0/280000\tno reason\n'))
  await storeWal(repository, filledSystem, '00000003.history', Buffer.from('torn'))
  await storeWal(repository, filledSystem, `${name(1)}.00000028.backup`, Buffer.from('label'))
  await put(2, 2)
  const state = await looking.look(signal)
  t.match(system(state), await truth(repository))
  t.match(system(state), { segments: 2, partials: 3, contradictions: 0 })
  const { coverage } = system(state) ?? {}
  t.same(coverage?.reach({ from: { timeline: 1, lsn: 0x100000n }, target: 1 })?.end.lsn, 0x280000n)
  t.same(coverage?.reach({ from: { timeline: 1, lsn: 0x100000n } })?.end, { timeline: 2, lsn: 0x300000n })
  const told = () => lines.filter(({ msg }) => msg === 'stored timeline history cannot be used')
  t.match(told(), [{ failure: { code: 'wal-invalid' }, key: /00000003\.history$/ }])

  await rm(
    join(
      root,
      walKey('spavix', { systemIdentifier: filledSystem, name: '00000002.history', hash: null, isEncrypted: false }),
    ),
  )
  for (const object of await repository.wal.ofSegment(filledSystem, name(2))) {
    if (object.name === partial('.0000000000280000')) await repository.wal.remove(object)
  }
  await storeWal(repository, filledSystem, name(1), Buffer.from('other bytes'))
  const after = await looking.look(signal)
  t.match(system(after), { ...(await truth(repository)), contradictions: 1, partials: 2 })
  t.same(coverage?.timelines.known(), [])
  t.same(coverage?.reach({ from: { timeline: 1, lsn: 0x100000n }, target: 1 })?.end.lsn, 0x240000n)
  t.equal(told().length, 1, 'once')
})

t.test('what is noted counts at once', async (t) => {
  const { repository, index, put, remove } = await place(t)
  const looking = index()
  await put(1)
  const state = await looking.look(signal)
  const second = { ...(await put(2)), bytes: 5 }
  looking.note({ stored: [second, second] })
  t.same(ranges(state), [{ first: 1, last: 2 }], 'the coverage is alive')
  looking.note({ stored: [{ systemIdentifier: '7', name: name(4), hash: 'abcdef012345', bytes: 1 }] })
  looking.note({ stored: [{ systemIdentifier: filledSystem, name: '../etc', hash: null, bytes: 1 }] })
  looking.note({ removed: [{ systemIdentifier: filledSystem, name: name(900, 7), hash: 'abcdef012345', bytes: 1 }] })
  t.match(system(await looking.look(signal)), await truth(repository), 'and the look corrects it')
  const [first] = await repository.wal.ofSegment(filledSystem, name(1))
  if (first === undefined) throw new Error('it was stored')
  await remove(1)
  looking.note({ removed: [{ ...first, bytes: first.info.bytes }] })
  t.same(ranges(state), [{ first: 2, last: 2 }])
  t.match(system(await looking.look(signal)), await truth(repository))
})

t.test('a restart lists nothing again', async (t) => {
  const { root, repository, history, index, put, remove, clock } = await place(t)
  for (const segment of [0, 5000]) await put(segment)
  for (let segment = 1; segment < 600; segment += 1) await strew(root, name(segment))
  const looking = index()
  const before = await looking.look(signal)
  await looking.close()

  const keys: string[] = []
  const counted = {
    ...{ name: 'local', cluster: 'spavix' },
    checkPresence: (options = {}) => repository.checkPresence(options),
    isNew: async () => false,
    listBackups: () => repository.listBackups(),
    readManifest: (id: string) => repository.readManifest(id),
    wal: new Proxy(repository.wal, {
      get: (target, key) => {
        const found = Reflect.get(target, key)
        if (typeof found !== 'function') return found
        return key === 'list'
          ? async function* (...args: Parameters<typeof target.list>) {
              for await (const object of target.list(...args)) {
                keys.push(object.name)
                yield object
              }
            }
          : found.bind(target)
      },
    }),
  }
  const again = index({ repository: counted })
  const after = await again.look(signal)
  t.same(after.listedAt, before.listedAt)
  t.match(system(after), { ...(await truth(repository)), segments: 601 })
  t.same(ranges(after), ranges(before))
  t.ok(keys.length < 10, `${keys.length} objects were looked at`)

  t.test('killed in between', async (t) => {
    // It knew of these, and has not written it down.
    for (const segment of [5001, 5002]) again.note({ stored: [await put(segment)] })
    await remove(0)
    const killed = await index({ records: { ...quiet(history), save: () => {} } }).look(signal)
    t.same(ranges(killed), [
      { first: 1, last: 599 },
      { first: 5000, last: 5002 },
    ])
  })

  t.test('what vanishes amid the rest is found once a day', async (t) => {
    await remove(400)
    t.equal(ranges(await again.look(signal)).length, 2, 'not at once')
    await clock.advance(2 * day)
    let state = await again.look(signal)
    while (state.listedAt?.getTime() !== clock.now().getTime()) state = await again.look(signal)
    t.same(ranges(state)[1], { first: 401, last: 599 })
    t.match(system(state), await truth(repository))
  })
})

/** The methods, which are not the instance's own. */
const quiet = ({ wal: { index } }: History): StoredWalOptions['records'] => ({
  identity: (...args) => index.identity(...args),
  load: (...args) => index.load(...args),
  save: (...args) => index.save(...args),
})

t.test('another repository under the same name', async (t) => {
  const { base, root, repository, index, put } = await place(t)
  for (const segment of [1, 2, 3]) await put(segment)
  const looking = index()
  const before = await looking.look(signal)
  await looking.close()

  await rename(root, join(base, 'elsewhere'))
  await t.rejects(looking.look(signal), { code: 'storage-failed', message: /not the repository that it was/ })
  t.equal(ranges(before)[0]?.last, 3, 'what was known stays')
  await chmod(base, 0o755)
  await writeFile(join(base, 'unmounted'), '')
  await t.rejects(index().look(signal), { code: 'storage-failed' })

  const other = await place(t)
  await other.put(9)
  await rename(other.root, root)
  await t.rejects(looking.look(signal), { code: 'storage-failed' }, 'it is another one')
  await repository.adopt()
  for (const state of [await looking.look(signal), await index().look(signal)]) {
    t.same(ranges(state), [{ first: 9, last: 9 }])
    t.match(system(state), await truth(repository))
  }
  await looking.close()
  t.same(ranges(await index().look(signal)), [{ first: 9, last: 9 }], 'nothing of the former one was kept')
})

t.test('an upgrade to another system with segments of another size', async (t) => {
  const { repository, index, put, lines } = await place(t)
  const looking = index()
  await put(0xfff)
  await put(0x1000)
  await looking.look(signal)
  const four = (segment: number) => name(segment, 1, 4 * mebibyte)
  for (const segment of [0x3ff, 0x400]) await storeSegment(repository, four(segment), 2, 4)
  const newer = Buffer.alloc(8, 2).readBigUInt64LE().toString()
  const state = await looking.look(signal)
  t.same([...state.systems.keys()].sort(), [filledSystem, newer].sort())
  t.equal(system(state, newer)?.coverage.segmentSize, 4 * mebibyte)
  t.same(ranges(state, 1, newer), [{ first: 0x3ff, last: 0x400 }])
  t.same(ranges(state), [{ first: 0xfff, last: 0x1000 }])

  t.test('a size that no segment tells', async (t) => {
    await storeWal(repository, '77', name(1), Buffer.from('no segment'))
    await storeWal(repository, '77', name(2), await segmentOfAnother())
    t.same(system(await looking.look(signal), '77'), undefined, 'nothing is guessed')
    await looking.look(signal)
    t.equal(lines.filter(({ systemIdentifier }) => systemIdentifier === '77').length, 1)
    const told = index({ segmentSize: (id) => (id === '77' ? 4 * mebibyte : null) })
    const size = system(await told.look(signal), '77')?.coverage.segmentSize
    t.equal(size, 4 * mebibyte, 'the server knows')
  })
})

const segmentOfAnother = async () => (await import('../support/wal.ts')).segmentBytes(name(2))

t.test('a storage that fails', async (t) => {
  const { repository, index, put, clock } = await place(t)
  await put(1)
  const list = repository.storage.list.bind(repository.storage)
  repository.storage.list = () => {
    throw new LifeboatError('storage-failed', 'input/output error')
  }
  const looking = index()
  await t.rejects(looking.look(signal), { code: 'storage-failed', message: 'input/output error' })
  repository.storage.list = list
  await t.rejects(looking.look(signal), { message: 'input/output error' }, 'everything is not listed at each look')
  await clock.advance(60_000)
  const state = await looking.look(signal)
  t.same(ranges(state), [{ first: 1, last: 1 }])
  repository.storage.list = () => {
    throw new LifeboatError('storage-failed', 'input/output error')
  }
  await t.rejects(looking.look(signal), { code: 'storage-failed' })
  t.same(ranges(state), [{ first: 1, last: 1 }], 'what is known stays')
})

t.test('a folder that cannot be read', { skip: userInfo().uid === 0 && 'root reads everything' }, async (t) => {
  const { root, index, put } = await place(t)
  await put(1)
  const folder = join(root, walTimelinePrefix('spavix', filledSystem, 1))
  await chmod(folder, 0o000)
  t.teardown(() => chmod(folder, 0o700))
  await t.rejects(index().look(signal), { code: 'storage-failed' })
})

t.test('ten thousand segments, with gaps, looked at while more come', async (t) => {
  const { root, repository, index, put, clock } = await place(t)
  await put(0)
  const names = Array.from({ length: 10_000 }, (_, segment) => segment).filter((segment) => segment % 1000 !== 999)
  for (const segment of names) await strew(root, name(segment + 1))
  const looking = index()
  const first = looking.look(signal)
  for (const segment of [20_000, 20_001]) looking.note({ stored: [await put(segment)] })
  await first
  const state = await looking.lookAtAll(signal)
  t.same(ranges(state).length, 11)
  t.match(system(state), { ...(await truth(repository)), segments: 9_993 })
  // A gap that somebody else has filled is found, one after another.
  await put(5000)
  let found = state
  for (let turn = 0; turn < 13; turn++) found = await looking.look(signal)
  t.same(ranges(found).length, 10)
  await clock.advance(60_001)
  await looking.look(signal)
  await looking.close()
  const kept = await readdir(join(root, walTimelinePrefix('spavix', filledSystem, 1)))
  t.equal(kept.length, 4)
  t.same(ranges(await index().look(signal)), ranges(found))
})
