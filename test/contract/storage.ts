import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import type { Test } from 'tap'
import { LifeboatError } from '../../src/domain/errors.ts'
import type { ListOptions, Storage } from '../../src/storage/storage.ts'

/** Makes an empty storage. */
export type MakeStorage = (t: Test) => Storage | Promise<Storage>

const badKeys = [
  '',
  '/',
  '/a',
  'a/',
  'a//b',
  '.',
  '..',
  '../a',
  'a/..',
  'a/../b',
  './a',
  'a/./b',
  'a\0b',
  'a\\b',
  '\ud800',
]
const hostileKeys = [
  'a\nb',
  "a'b",
  'a"b',
  '-rf',
  'a b',
  '..a',
  'a..',
  '...',
  '.hidden',
  'ü/名/😀',
  '$(x)',
  '*',
  '%2e%2e',
  'a:b',
]

/** Every sentence of the contract in src/storage/storage.ts, for one implementation of it. */
export async function storageContract(t: Test, name: string, makeStorage: MakeStorage): Promise<void> {
  await t.test(`${name} keeps the storage contract`, async (t) => {
    await t.test('put, get, head', (t) => putGetHead(t, makeStorage))
    await t.test('keys', (t) => keys(t, makeStorage))
    await t.test('put if absent', (t) => ifAbsent(t, makeStorage))
    await t.test('failed puts', (t) => failedPuts(t, makeStorage))
    await t.test('ranges', (t) => ranges(t, makeStorage))
    await t.test('list', (t) => listing(t, makeStorage))
    await t.test('remove', (t) => removing(t, makeStorage))
    await t.test('signals', (t) => signals(t, makeStorage))
  })
}

/** The code of the failure that a promise must end with. */
export async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work
    return 'none'
  } catch (error) {
    return error instanceof LifeboatError ? error.code : `not a LifeboatError: ${String(error)}`
  }
}

/** What a listing yields: keys, and common prefixes. */
export async function listed(storage: Storage, prefix: string, options: ListOptions = {}): Promise<string[]> {
  const found: string[] = []
  for await (const item of storage.list(prefix, options)) found.push('key' in item ? item.key : item.prefix)
  return found
}

async function read(storage: Storage, key: string): Promise<string> {
  return (await buffer((await storage.get(key)).body)).toString()
}

function bytes(count: number): Buffer {
  const made = Buffer.alloc(count)
  for (let index = 0; index < count; index += 997) made[index] = index % 251
  return made
}

async function putGetHead(t: Test, makeStorage: MakeStorage): Promise<void> {
  const storage = await makeStorage(t)
  t.equal(await storage.head('a/b'), null, 'nothing there yet')
  t.equal(await codeOf(storage.get('a/b')), 'object-missing')
  // Sizes around the buffers and chunks of implementations.
  for (const size of [0, 1, 65_536, 262_144, 262_145, 1_048_576, 1_048_577, 3_500_001]) {
    const body = bytes(size)
    const info = await storage.put(`sized/${size}`, Readable.from(chunksOf(body, 70_000)))
    t.match(info, { key: `sized/${size}`, bytes: size, modified: Date, version: /./ })
    t.same(await storage.head(`sized/${size}`), info, `head of ${size} says what put said`)
    t.ok(
      (await buffer((await storage.get(`sized/${size}`)).body)).equals(body),
      `${size} bytes come back from a stream`,
    )
    await storage.put(`whole/${size}`, body)
    t.ok(
      (await buffer((await storage.get(`whole/${size}`)).body)).equals(body),
      `${size} bytes come back from a buffer`,
    )
  }
  const before = await storage.put('a/b', Buffer.from('old'))
  const { body: opened, info } = await storage.get('a/b')
  const after = await storage.put('a/b', Buffer.from('new'))
  t.not(after.version, before.version, 'other bytes of the same length have another version')
  t.same(info, before, 'what is read is told with it')
  t.equal(await read(storage, 'a/b'), 'new', 'put replaces')
  t.equal((await buffer(opened)).toString(), 'old', 'what was opened before stays whole')
}

function chunksOf(body: Buffer, size: number): Buffer[] {
  const chunks: Buffer[] = []
  for (let from = 0; from < body.length; from += size) chunks.push(body.subarray(from, from + size))
  return chunks
}

async function keys(t: Test, makeStorage: MakeStorage): Promise<void> {
  const storage = await makeStorage(t)
  for (const key of badKeys) {
    const shown = JSON.stringify(key)
    t.equal(await codeOf(storage.put(key, Buffer.from('x'))), 'usage-invalid', `put ${shown}`)
    t.equal(await codeOf(storage.get(key)), 'usage-invalid', `get ${shown}`)
    t.equal(await codeOf(storage.head(key)), 'usage-invalid', `head ${shown}`)
    t.equal(await codeOf(storage.remove(key)), 'usage-invalid', `remove ${shown}`)
  }
  for (const prefix of ['/', '/a', 'a//', '../', './', 'a/../b', 'a\0', 'a\\', '\ud800']) {
    t.equal(await codeOf(listed(storage, prefix)), 'usage-invalid', `list ${JSON.stringify(prefix)}`)
  }
  t.same(await listed(storage, ''), [], 'nothing was stored')
  for (const key of hostileKeys) {
    await storage.put(key, Buffer.from(key))
    t.equal(await read(storage, key), key, `${JSON.stringify(key)} is a key like any other`)
  }
  t.same(await listed(storage, ''), inByteOrder(hostileKeys))
  for (const key of hostileKeys) await storage.remove(key)
  t.same(await listed(storage, ''), [])
}

function inByteOrder(texts: readonly string[]): string[] {
  return [...texts].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
}

async function ifAbsent(t: Test, makeStorage: MakeStorage): Promise<void> {
  const storage = await makeStorage(t)
  const first = await storage.put('k', Buffer.from('first'), { ifAbsent: true })
  const second = Readable.from([Buffer.from('second')])
  t.equal(await codeOf(storage.put('k', second, { ifAbsent: true })), 'object-exists')
  t.ok(second.destroyed, 'the body is not left hanging')
  t.equal(await read(storage, 'k'), 'first')
  t.same(await storage.head('k'), first, 'it was not touched')
  const racers = Array.from({ length: 20 }, (_, index) =>
    storage.put('race', Buffer.from(`${index}`), { ifAbsent: true }),
  )
  const results = await Promise.allSettled(racers)
  const winners = results.flatMap((result, index) => (result.status === 'fulfilled' ? [`${index}`] : []))
  t.equal(winners.length, 1, 'one of twenty wins')
  t.equal(await read(storage, 'race'), winners[0])
  const losers = await Promise.all(racers.map(codeOf))
  t.equal(losers.filter((code) => code === 'object-exists').length, 19, 'the others are told why')
}

async function failedPuts(t: Test, makeStorage: MakeStorage): Promise<void> {
  const storage = await makeStorage(t)
  await storage.put('kept', Buffer.from('kept'))
  const cause = new Error('the source broke')
  const breaking = (): Readable =>
    Readable.from(
      (async function* () {
        yield Buffer.alloc(2_000_000)
        throw cause
      })(),
    )
  for (const key of ['kept', 'new/one']) {
    const failure = await storage.put(key, breaking()).catch((error: unknown) => error)
    t.match(failure, { code: 'storage-failed', cause }, 'an error of the source is the cause')
  }
  const ours = new LifeboatError('program-failed', 'pg_dump failed')
  const failing = new Readable({ read: () => {} })
  failing.destroy(ours)
  t.equal(await storage.put('new/two', failing).catch((error: unknown) => error), ours, 'our own comes through')
  const ended = new Readable({ read: () => {} })
  ended.destroy()
  t.equal(await codeOf(storage.put('new/three', ended)), 'storage-failed', 'a destroyed stream is not an empty one')
  t.equal(await codeOf(storage.put('new/four', Readable.from([{ not: 'bytes' }]))), 'usage-invalid')
  t.equal(await read(storage, 'kept'), 'kept', 'a former object stays')
  t.same(await listed(storage, ''), ['kept'], 'nothing else is visible')
}

async function ranges(t: Test, makeStorage: MakeStorage): Promise<void> {
  const storage = await makeStorage(t)
  const large = bytes(900_000)
  await storage.put('large', large)
  await storage.put('empty', Buffer.alloc(0))
  for (const [start, end] of [
    [0, 0],
    [5, 9],
    [0, 899_999],
    [899_999, 899_999],
    [100, 700_000],
    [899_998, 5_000_000],
  ] as const) {
    const found = await buffer((await storage.get('large', { start, end })).body)
    t.ok(found.equals(large.subarray(start, end + 1)), `bytes ${start} to ${end}, both included`)
  }
  t.ok(
    (await buffer((await storage.get('large', { start: 600_000 })).body)).equals(large.subarray(600_000)),
    'to the end',
  )
  t.equal((await buffer((await storage.get('large', { end: 9 })).body)).length, 10, 'from the start')
  t.equal((await buffer((await storage.get('empty')).body)).length, 0)
  for (const range of [
    { start: 900_000 },
    { start: 5, end: 4 },
    { start: -1 },
    { start: 0.5 },
    { start: Number.NaN },
    { end: -1 },
  ]) {
    t.equal(await codeOf(storage.get('large', range)), 'usage-invalid', JSON.stringify(range))
  }
}

async function listing(t: Test, makeStorage: MakeStorage): Promise<void> {
  const storage = await makeStorage(t)
  t.same(await listed(storage, ''), [], 'an empty storage')
  t.same(await listed(storage, 'no/such/'), [])
  // `-` and `.` sort before the slash, `0` after it; U+E000 before U+10000, though not in UTF-16.
  const all = [
    'a',
    'a-b',
    'a.b',
    'a/x',
    'a/y/z',
    'a/y0',
    'a0',
    'b/c',
    'b/.h',
    'B',
    'é',
    '\ue000',
    '😀',
    'z/\uffff',
    'z/😀',
  ]
  for (const key of all) await storage.put(key === 'a' ? 'aa' : key, Buffer.from(key))
  const keysInOrder = inByteOrder(all.map((key) => (key === 'a' ? 'aa' : key)))
  t.same(await listed(storage, ''), keysInOrder, 'byte order')
  for (const prefix of ['a', 'a/', 'a/y', 'a/y/', 'b/.', 'b/c', 'b/cc', 'z/', 'é', 'q']) {
    const expected = keysInOrder.filter((key) => key.startsWith(prefix))
    t.same(await listed(storage, prefix), expected, `prefix ${prefix}`)
  }
  for (const startAfter of ['', 'a', 'a/x', 'a/y/', 'a/y/z', 'a0', 'b', 'z/\uffff', '\u{10ffff}']) {
    const rest = keysInOrder.filter((key) => Buffer.compare(Buffer.from(key), Buffer.from(startAfter)) > 0)
    t.same(await listed(storage, '', { startAfter }), rest, `after ${startAfter}`)
    const folded = [...new Set(rest.map((key) => (key.includes('/') ? key.slice(0, key.indexOf('/') + 1) : key)))]
    t.same(await listed(storage, '', { startAfter, delimiter: '/' }), folded, `folded after ${startAfter}`)
  }
  t.same(await listed(storage, 'a/', { delimiter: '/' }), ['a/x', 'a/y/', 'a/y0'], 'folded below a prefix')
  t.same(await listed(storage, 'a/y', { delimiter: '/' }), ['a/y/', 'a/y0'], 'folded below a part of a name')
  for await (const item of storage.list('b/c')) t.same(item, await storage.head('b/c'), 'the same as head')
  for await (const item of storage.list('')) {
    if ('key' in item) await storage.remove(item.key)
  }
  t.same(await listed(storage, ''), [], 'removing while listing is fine')
}

async function removing(t: Test, makeStorage: MakeStorage): Promise<void> {
  const storage = await makeStorage(t)
  await storage.remove('not/there')
  await storage.put('a/b/c', Buffer.from('c'))
  await storage.put('a/d', Buffer.from('d'))
  await storage.remove('a/b')
  t.same(await listed(storage, ''), ['a/b/c', 'a/d'], 'a folder is not an object')
  await storage.remove('a/b/c')
  await storage.remove('a/b/c')
  t.same(await listed(storage, '', { delimiter: '/' }), ['a/'])
  t.same(await listed(storage, 'a/', { delimiter: '/' }), ['a/d'], 'the empty folder is gone')
  // Removing the last object of a folder takes the folder away under whoever writes into it.
  await Promise.all(
    Array.from({ length: 120 }, async (_, index) => {
      const ifAbsent = index % 3 === 0
      await storage.put(`busy/${index % 2}/x${index}`, Buffer.from('x'), { ifAbsent })
      await storage.remove(`busy/${index % 2}/x${index}`)
    }),
  )
  t.same(await listed(storage, ''), ['a/d'])
}

async function signals(t: Test, makeStorage: MakeStorage): Promise<void> {
  const storage = await makeStorage(t)
  await storage.put('big', Buffer.alloc(3_000_000))
  const signal = AbortSignal.abort()
  t.equal(await codeOf(storage.put('k', Buffer.from('x'), { signal })), 'cancelled')
  t.equal(await codeOf(storage.get('big', { signal })), 'cancelled')
  t.equal(await codeOf(storage.head('big', { signal })), 'cancelled')
  t.equal(await codeOf(storage.remove('big', { signal })), 'cancelled')
  t.equal(await codeOf(listed(storage, '', { signal })), 'cancelled')

  const putting = new AbortController()
  // A source that falls silent: nothing but the signal can end this.
  const silent = new Readable({ read: () => {} })
  silent.push(Buffer.alloc(100_000))
  const put = storage.put('silent', silent, { signal: putting.signal })
  const reason = new LifeboatError('timed-out', 'too slow')
  putting.abort(reason)
  t.equal(await put.catch((error: unknown) => error), reason, 'our own reason comes through')
  t.ok(silent.destroyed, 'the source is told')

  const getting = new AbortController()
  const { body: stream } = await storage.get('big', { signal: getting.signal })
  getting.abort()
  t.equal(await codeOf(buffer(stream)), 'cancelled', 'a stream that is being read')
  t.same(await listed(storage, ''), ['big'])
}
