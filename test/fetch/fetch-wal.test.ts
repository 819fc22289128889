import { chmod, mkdir, readdir, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { zstdCompressSync } from 'node:zlib'
import t, { type Test } from 'tap'
import { systemClock } from '../../src/clock.ts'
import type { LifeboatError } from '../../src/domain/errors.ts'
import { Cipher } from '../../src/encryption/cipher.ts'
import { type FetchOptions, fetchWal, holePauseMs } from '../../src/fetch/fetch-wal.ts'
import { chooseSystem } from '../../src/fetch/system.ts'
import { UpcomingSegments } from '../../src/fetch/upcoming.ts'
import { Repository } from '../../src/repository/repository.ts'
import { ageKey, encryptingFor } from '../support/age.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { MemoryStorage } from '../support/memory-storage.ts'
import { noSmallDisk, scratchDirectory, smallDisk } from '../support/scratch.ts'
import { segmentBytes } from '../support/wal.ts'
import { hashOf } from '../support/wal-objects.ts'
import { stamped, system, targetDirectory, WalRepository, walRepository } from '../support/wal-repository.ts'

const segment = (number: number, timeline = 1) =>
  `${timeline.toString(16).padStart(8, '0')}00000002${number.toString(16).padStart(8, '0')}`.toUpperCase()
const content = (name: string, fill = 1) => stamped(segmentBytes(name, fill))

/** Two repositories, the first of which is marked as one, and what is fetched from them. */
async function ground(t: Test) {
  const [first, second] = [await walRepository(t, 'first'), await walRepository(t, 'second')]
  const directory = await targetDirectory(t)
  const target = join(directory, 'RECOVERYXLOG')
  const get = async (name: string, options: Partial<FetchOptions> = {}) => {
    const found = await fetchWal(name, target, {
      repositories: [first.repository, second.repository],
      systemIdentifier: system,
      hashes: [],
      missingIsEnd: false,
      clock: systemClock,
      signal: new AbortController().signal,
      patienceMs: 60_000,
      ...options,
    })
    const bytes = await readFile(target).catch(() => null)
    await rm(target, { force: true })
    t.equal(bytes !== null, found, 'it is there when it says so')
    return bytes
  }
  const refuses = async (name: string, error: object, options: Partial<FetchOptions> = {}) => {
    t.match(await get(name, options).catch((failure: unknown) => failure), error, `${name} is refused`)
    t.same(await readdir(directory), [], 'nothing is left')
  }
  for (const place of [first, second]) await place.store(segment(1))
  return { first, second, target, directory, get, refuses }
}

t.test('the first repository that has it whole', async (t) => {
  const { first, second, get, refuses } = await ground(t)
  const two = content(segment(2))
  await second.store(segment(2), two)
  t.ok((await get(segment(2)))?.equals(two), 'only the second has it')
  const path = await first.store(segment(2), two)
  await truncate(path, 100)
  t.ok((await get(segment(2)))?.equals(two), 'the first has half of it')
  await rm(path)
  const flipped = Buffer.from(two)
  flipped.writeUInt8(9, 500_000)
  await writeFile(path, zstdCompressSync(flipped))
  t.ok((await get(segment(2)))?.equals(two), 'a bit has flipped in the first')
  await writeFile(second.pathOf(segment(2), hashOf(two)), '')
  await refuses(segment(2), { code: 'wal-invalid', message: /first: .*content is not.*; second: .*/ })
  await writeFile(path, zstdCompressSync(Buffer.concat([two, Buffer.alloc(1)])))
  await refuses(segment(2), { code: 'wal-invalid', message: /longer than a segment/ })
  await writeFile(path, zstdCompressSync(two.subarray(0, 500_000)))
  await refuses(segment(2), { code: 'wal-invalid' })
  await writeFile(path, Buffer.concat([zstdCompressSync(two), Buffer.from('more')]))
  t.ok((await get(segment(2)))?.equals(two), 'what follows the frame takes nothing from what its hash proves')
  const frames = [two.subarray(0, 300_000), two.subarray(300_000)].map((part) => zstdCompressSync(part))
  await writeFile(path, Buffer.concat(frames))
  // Node.js reads no more than the first: ours are never in two.
  await refuses(segment(2), { code: 'wal-invalid', message: /not that of its hash/ })
})

t.test('what is stored under the right hash and is no such segment', async (t) => {
  const { first, get, refuses } = await ground(t)
  const wrong: readonly (readonly [Buffer, RegExp])[] = [
    [content(segment(3)), /another part of the WAL/],
    [stamped(segmentBytes(segment(2)), '7500000000000000002'), /of another cluster \(system identifier/],
    [Buffer.alloc(1024 * 1024), /does not begin with a page of WAL/],
    [Buffer.alloc(10), /too short/],
    [stamped(segmentBytes(segment(2), 1, 2)).subarray(0, 1024 * 1024), /another part|instead of/],
  ]
  for (const [bytes, message] of wrong) {
    const path = await first.store(segment(2), bytes)
    await refuses(segment(2), { code: 'wal-invalid', message })
    await rm(path)
  }
  const large = stamped(segmentBytes(segment(2), 1, 2))
  await first.store(segment(2), large)
  t.ok((await get(segment(2)))?.equals(large), 'segments of another size')
})

t.test('two contents under one name', async (t) => {
  const { first, second, get, refuses } = await ground(t)
  const [one, other] = [content(segment(2), 1), content(segment(2), 2)]
  await first.store(segment(2), one)
  const path = await first.store(segment(2), other)
  await second.store(segment(2), one)
  await refuses(segment(2), { code: 'conflict', message: /2 contents/, hint: /--hash=/ })
  t.ok((await get(segment(2), { hashes: [hashOf(other)] }))?.equals(other))
  await refuses(segment(2), { code: 'conflict' }, { hashes: [hashOf(one), hashOf(other)] })
  await refuses(segment(2), { code: 'conflict' }, { hashes: ['aaaaaaaaaaaa'] })
  await rm(first.pathOf(segment(2), hashOf(one)))
  await writeFile(path, 'damaged')
  await refuses(segment(2), { code: 'conflict' }, {})
  t.ok((await get(segment(1), { hashes: ['aaaaaaaaaaaa'] })) !== null, 'where there is one, nothing is to choose')
})

t.test('encrypted', { timeout: 60_000 }, async (t) => {
  const { first, second, directory, get, refuses } = await ground(t)
  const keys = await scratchDirectory(t)
  const [key, old, other] = [await ageKey(keys), await ageKey(keys, 'old'), await ageKey(keys, 'other')]
  const cipher = new Cipher(encryptingFor([key, old]))
  const opening = (file: string | null) => {
    const opener = new Cipher(encryptingFor([other], file))
    const repositories = [first, second].map(
      ({ root }, index) => new WalRepository(root, `${index}`, opener).repository,
    )
    return { repositories }
  }
  first.cipher = cipher
  const [two, three] = [content(segment(2)), content(segment(3))]
  const path = await first.store(segment(2), two)
  await second.store(segment(3), three)
  t.match(path, /\.zst\.age$/)
  for (const one of [key, old]) t.ok((await get(segment(2), opening(one.file)))?.equals(two), 'either key opens it')
  t.ok((await get(segment(3), opening(null)))?.equals(three), 'what is plain needs none')

  // Never `false`, which PostgreSQL takes for the end of the WAL: also of the newest one, and whatever --missing-is-end says.
  for (const missingIsEnd of [false, true]) {
    for (const [file, code] of [
      [null, 'identity-missing'],
      [other.file, 'identity-mismatch'],
    ] as const) {
      await refuses(
        segment(2),
        { code, message: /^cannot get .*: 0: .*identit/, hint: /identityFile/ },
        { ...opening(file), missingIsEnd },
      )
      await first.store(segment(9), content(segment(9)))
      await refuses(segment(9), { code }, { ...opening(file), missingIsEnd })
    }
  }
  // Nor is a hole filled by what cannot be read: the timeline goes on after it.
  await refuses(segment(5), { code: 'object-missing', message: /that is a hole/ }, opening(null))
  await refuses(segment(2), { code: 'config-invalid' }, opening(join(keys, 'none')))

  const whole = await readFile(path)
  const flipped = (at: number) => Buffer.from(whole.map((byte, index) => (index === at ? byte ^ 1 : byte)))
  const damaged = [
    Buffer.alloc(0),
    whole.subarray(0, 10),
    whole.subarray(0, 150),
    whole.subarray(0, -30),
    whole.subarray(0, -1),
    flipped(3),
    flipped(40),
    flipped(whole.length - 20),
    zstdCompressSync(two),
    Buffer.concat([whole, whole]),
  ]
  for (const bytes of damaged) {
    await writeFile(path, bytes)
    await refuses(segment(2), { code: 'wal-invalid' }, opening(key.file))
  }
  const message = new RegExp(`its header is damaged, since the identity that does not open it opens ${segment(9)}`)
  await writeFile(path, flipped(40))
  await refuses(segment(2), { code: 'wal-invalid', message }, opening(key.file))
  await refuses(segment(2), { code: 'identity-mismatch' }, opening(other.file))
  // Since the keys were changed it opens nothing.
  await writeFile(path, whole)
  first.cipher = new Cipher(encryptingFor([other]))
  const between = [segment(11), segment(12)]
  const paths = await Promise.all(between.map((name) => first.store(name, content(name))))
  for (const name of between) await refuses(name, { code: 'identity-mismatch' }, opening(key.file))
  for (const one of paths) await rm(one)
  first.cipher = cipher
  const lie = await cipher.seal(zstdCompressSync(content(segment(2), 2)), new AbortController().signal)
  await writeFile(path, lie)
  await refuses(segment(2), { code: 'wal-invalid', message: /not that of its hash/ }, opening(key.file))

  await second.store(segment(2), two)
  t.ok((await get(segment(2), opening(null)))?.equals(two), 'another repository has it plain')
  await writeFile(path, whole)
  const twin = first.pathOf(segment(2), hashOf(two))
  await writeFile(twin, zstdCompressSync(two).subarray(0, -20))
  await rm(second.pathOf(segment(2), hashOf(two)))
  t.ok((await get(segment(2), opening(key.file)))?.equals(two), 'of the same twice: the plain one is torn')
  await writeFile(path, lie)
  await writeFile(twin, zstdCompressSync(two))
  t.ok((await get(segment(2), opening(null)))?.equals(two), 'the encrypted one is torn')

  const asking = { clock: systemClock, signal: new AbortController().signal, patienceMs: 60_000 }
  const upcoming = new UpcomingSegments({ ...opening(key.file), systemIdentifier: system, hashes: [], asking })
  t.same(
    (await upcoming.from(segment(2), 3)).map(({ name, sources }) => `${name} ${sources.length}`),
    [`${segment(2)} 2`, `${segment(3)} 1`, `${segment(9)} 1`],
  )

  const part = `${segment(10)}.partial.0000000200A01000`
  await first.store(part, content(segment(10)).subarray(0, 4096))
  t.equal((await get(segment(10), opening(key.file)))?.length, 2 ** 20, 'the end of a stream')
  await refuses(segment(10), { code: 'identity-missing' }, opening(null))
  t.same(await readdir(directory), [])
})

t.test('the end, and holes', async (t) => {
  const { first, second, get, refuses } = await ground(t)
  t.equal(await get(segment(2)), null, 'the end')
  await second.store(segment(4))
  await refuses(segment(2), { code: 'object-missing', message: /a hole: second has 000000010000000200000004/ })
  t.equal(await get(segment(2), { missingIsEnd: true }), null)
  t.equal(await get(segment(5)), null)
  t.equal(await get(segment(2, 2)), null, 'another timeline')

  // Timeline 2 left timeline 1 in segment 5, timeline 4 left timeline 2 in segment 8.
  await first.store('00000002.history', Buffer.from('1\t2/5FFF28\tno recovery target specified\n'))
  t.equal(await get(segment(5)), null, 'it was left within this one')
  await first.store(segment(5, 2), forked(segment(5, 2)))
  t.ok((await get(segment(5, 2))) !== null)
  t.equal(await get(segment(5)), null, 'the file of the next timeline is not given')
  await second.store('00000004.history', Buffer.from('1\t2/5FFF28\tx\n\n2\t2/8FFF28\tno recovery target specified\n'))
  await refuses(segment(6, 2), { message: /00000004\.history, which tells that this timeline went on to 2\/8FFF28/ })
  t.equal(await get(segment(8, 2)), null)
  await refuses('00000003.history', {
    code: 'object-missing',
    message: /second has 00000004\.history: name the timeline/,
  })
  t.equal(await get('00000003.history', { missingIsEnd: true }), null)
  t.equal(await get('00000005.history'), null)
  t.equal(await get('00000001.history'), null, 'the first timeline has none')
  t.match(String(await get('00000004.history')), /2\/8FFF28/)
  t.equal(await get(`${segment(1)}.00000028.backup`), null)
  t.match(await get(segment(9), { systemIdentifier: '7' }).catch((error: LifeboatError) => error), {
    code: 'object-missing',
    message: /of this cluster \(system identifier 7\) no WAL is stored, but of 7500000000000000001/,
  })
})

t.test('a hole that fills in a moment is none', async (t) => {
  const { first, get, refuses } = await ground(t)
  await first.store(segment(3))
  let pauses = 0
  const sleep = async (ms: number, signal?: AbortSignal) => {
    if (ms !== holePauseMs) return systemClock.sleep(ms, signal)
    pauses += 1
    await first.store(segment(2))
  }
  const clock = { now: () => systemClock.now(), monotonic: () => systemClock.monotonic(), sleep }
  t.equal(await get(segment(4), { clock }), null)
  t.ok((await get(segment(1), { clock })) !== null)
  t.equal(pauses, 0, 'neither at the end nor for what is there')
  t.ok((await get(segment(2), { clock })) !== null)
  t.equal(pauses, 1)
  await first.store(segment(6))
  await refuses(segment(5), { code: 'object-missing' }, { clock })
  t.equal(pauses, 2, 'one that stays is one')
})

t.test('a torn history is none', async (t) => {
  const { first, second, get, refuses } = await ground(t)
  const path = await first.store('00000002.history', Buffer.from('1\t2/5F'))
  await refuses('00000002.history', { code: 'wal-invalid', message: /first: .*ends within/ })
  const whole = Buffer.from('1\t2/5FFF28\tx\n')
  await second.store('00000002.history', whole)
  t.ok((await get('00000002.history'))?.equals(whole))
  await refuses(segment(4), { code: 'wal-invalid' })
  await writeFile(path, '')
  t.ok((await get('00000002.history'))?.equals(whole))
})

t.test('partials', async (t) => {
  const { first, second, get, refuses } = await ground(t)
  const name = segment(2)
  const whole = content(name)
  const upTo = (bytes: number) =>
    `${name}.partial.${(2n * 2n ** 32n + 2n * 1048576n + BigInt(bytes)).toString(16).toUpperCase().padStart(16, '0')}`
  await first.store(upTo(100_000), whole.subarray(0, 100_000))
  await second.store(upTo(300_000), Buffer.concat([whole.subarray(0, 300_000), Buffer.alloc(9, 7)]))
  const padded = (bytes: number) => Buffer.concat([whole.subarray(0, bytes), Buffer.alloc(whole.length - bytes)])
  t.ok((await get(name))?.equals(padded(300_000)), 'the longest, and zeros')
  t.equal(await get(`${name}.partial`), null, 'which is not what the server made')
  await first.store(`${name}.partial`, content(name, 4))
  t.ok((await get(`${name}.partial`))?.equals(content(name, 4)), 'that is given to who asks for it')
  t.ok((await get(name))?.equals(padded(300_000)))
  for (const bad of [upTo(100_000), `${name}.part`]) await refuses(bad, { code: 'usage-invalid' })

  const later = await first.store(segment(3))
  await refuses(name, { code: 'object-missing', message: /hole/ })
  t.ok((await get(name, { missingIsEnd: true }))?.equals(padded(300_000)), 'up to where there is no hole')
  await rm(later)
  const path = await second.store(upTo(400_000), whole.subarray(0, 390_000))
  await refuses(name, { code: 'wal-invalid', message: /390000 bytes instead of 400000/ })
  await rm(path)
  await rename(second.root, `${second.root}-aside`)
  await refuses(name, { code: 'storage-failed', message: /second/ })
  await rename(`${second.root}-aside`, second.root)
  await second.store(name, whole)
  t.ok((await get(name))?.equals(whole), 'the whole one, if there is one')
})

t.test('a repository that cannot be asked is no proof that a file is missing', async (t) => {
  const { second, get, refuses } = await ground(t)
  for (const name of [segment(2), '00000002.history', `${segment(1)}.00000028.backup`, `${segment(2)}.partial`]) {
    t.equal(await get(name), null)
    await rename(second.root, `${second.root}-aside`)
    await refuses(name, { code: 'storage-failed', message: /second: there is no repository/, hint: /mounted/ })
    await mkdir(second.root)
    await refuses(name, { code: 'storage-failed' }, {})
    await rm(second.root, { recursive: true })
    await rename(`${second.root}-aside`, second.root)
  }
  if (process.getuid?.() === 0) return
  await chmod(second.root, 0)
  await refuses(segment(2), { code: 'storage-failed' })
  await chmod(second.root, 0o700)
})

t.test('a repository that hangs', async (t) => {
  const { get } = await ground(t)
  const clock = new FakeClock()
  const place = (name: string, storage: MemoryStorage) => new Repository({ name, cluster: 'spavix', storage, clock })
  const repositories = [place('hanging', new HangingStorage(clock)), place('second', new MemoryStorage(clock))]
  const bytes = content(segment(1))
  const file = { systemIdentifier: system, name: segment(1), hash: hashOf(bytes) }
  await repositories[1]?.wal.put(file, zstdCompressSync(bytes))
  const one = get(segment(1), { repositories, clock, patienceMs: 5_000 })
  await clock.advance(1_000)
  t.ok((await one)?.equals(bytes), 'the next one, which has answered, is taken after a second')
  const none = get(segment(2), { repositories, clock, patienceMs: 5_000 })
  none.catch(() => {})
  await clock.advance(5_000)
  await t.rejects(none, { code: 'timed-out', message: /hanging: it has not answered for 5 s/ })
})

t.test('no room for it', async (t) => {
  const { first } = await ground(t)
  const disk = await smallDisk(t, 512 * 1024)
  if (disk === null) return t.pass(noSmallDisk)
  const options = { repositories: [first.repository], systemIdentifier: system, hashes: [], missingIsEnd: false }
  const asking = { clock: systemClock, signal: new AbortController().signal, patienceMs: 60_000 }
  const random = stamped(Buffer.concat([segmentBytes(segment(3)).subarray(0, 48), Buffer.alloc(1048576 - 48, 'x')]))
  await first.store(segment(3), random)
  await t.rejects(fetchWal(segment(3), join(disk.directory, 'x'), { ...options, ...asking }), { code: 'disk-full' })
  t.same(await readdir(disk.directory), [])
  await mkdir(join(disk.directory, 'taken'))
  await t.rejects(fetchWal(segment(1), join(disk.directory, 'no', 'x'), { ...options, ...asking }), {
    code: 'storage-failed',
    message: /cannot write/,
  })
})

t.test('whose WAL it is', async (t) => {
  const { first, second, directory } = await ground(t)
  const repositories = [first.repository, second.repository]
  const choose = (given: string | null = null, dataDirectory = directory) =>
    chooseSystem(given, {
      ...{ repositories, dataDirectory, clock: systemClock },
      ...{ signal: new AbortController().signal, patienceMs: 60_000 },
    })
  t.equal(await choose(), system, 'the only one that is stored')
  t.equal(await choose('7'), '7')
  for (const bad of ['', '0', '-1', '1x', '../1', '1'.repeat(21)])
    await t.rejects(choose(bad), { code: 'usage-invalid' }, JSON.stringify(bad))
  await second.store(segment(1), stamped(segmentBytes(segment(1)), '7500000000000000002'), '7500000000000000002')
  await t.rejects(choose(), { code: 'usage-invalid', message: /several clusters is stored: 75\d+1, 75\d+2/ })
  await mkdir(join(directory, 'global'))
  const control = Buffer.alloc(8192)
  await writeFile(join(directory, 'global', 'pg_control'), control)
  await t.rejects(choose(), { code: 'usage-invalid' }, 'zeros are no identifier')
  control.writeBigUInt64LE(7500000000000000002n)
  await writeFile(join(directory, 'global', 'pg_control'), control)
  t.equal(await choose(), '7500000000000000002')
})

/** The first segment of a timeline begins with a page of its parent's. */
function forked(name: string): Buffer {
  const bytes = content(name)
  bytes.writeUInt32LE(1, 4)
  return bytes
}

class HangingStorage extends MemoryStorage {
  override async *list(): AsyncGenerator<never> {
    yield await new Promise<never>(() => {})
  }
}
