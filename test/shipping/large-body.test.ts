import { readdir, readlink, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { zstdDecompressSync } from 'node:zlib'
import t, { type Test } from 'tap'
import { systemClock } from '../../src/clock.ts'
import { LifeboatError } from '../../src/domain/errors.ts'
import { Cipher } from '../../src/encryption/cipher.ts'
import { Repository } from '../../src/repository/repository.ts'
import { WalReaders } from '../../src/shipping/readers.ts'
import { Seal } from '../../src/shipping/seal.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { ageKey, encryptingFor } from '../support/age.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { untilAnswer } from '../support/until.ts'
import { segmentBytes } from '../support/wal.ts'

const name = '000000010000000000000001'
const mebibytes = 32
const question = { timeline: 1, segment: 1, segmentSize: mebibytes * 2 ** 20, checkPages: false }

/** A segment that is too large to be read as a whole, and what was read of it. */
async function large(t: Test) {
  const directory = await scratchDirectory(t)
  const path = join(directory, name)
  const bytes = segmentBytes(name, 1, mebibytes)
  await writeFile(path, bytes)
  const readers = new WalReaders({ clock: systemClock, threads: 1 })
  t.teardown(() => readers.close())
  const { signal } = new AbortController()
  const whole = await readers.whole(path, question, 1, signal)
  t.equal(whole.compressed, null, 'it is streamed')
  return { directory, path, bytes, body: () => readers.body(path, whole, 1) }
}

t.test('one frame with all of it', async (t) => {
  const { bytes, body } = await large(t)
  const { body: stream, bytes: count } = body()
  const stored = await buffer(stream as NodeJS.ReadableStream)
  t.ok(zstdDecompressSync(stored).equals(bytes))
  t.equal(count(), stored.length)
})

t.test('encrypted: the stream, and what is in memory once for all repositories', async (t) => {
  const { directory, bytes, body } = await large(t)
  const key = await ageKey(directory)
  const cipher = new Cipher(encryptingFor([key]))
  const seal = new Seal(cipher)
  const { signal } = new AbortController()
  const { body: stream, bytes: count, isEncrypted } = await seal.body(body(), signal)
  t.ok(isEncrypted)
  const stored = await buffer(stream as NodeJS.ReadableStream)
  t.equal(count(), stored.length)
  const opened = await buffer(Readable.from(cipher.open(Readable.from([stored]), signal)))
  t.ok(zstdDecompressSync(opened).equals(bytes))
  const compressed = Buffer.from('compressed')
  const [first, second] = await Promise.all([seal.bytes(compressed, signal), seal.bytes(compressed, signal)])
  t.equal(first.body, second.body, 'the very same bytes')
  t.notSame(first.body, (await seal.bytes(Buffer.from('compressed'), signal)).body)
  t.equal((await new Seal(new Cipher(encryptingFor([], key.file))).bytes(compressed, signal)).body, compressed)

  const failing = await seal.body({ body: Readable.from(fails()), bytes: () => 0 }, signal)
  await t.rejects(buffer(failing.body as NodeJS.ReadableStream), { message: 'the disk is gone' })
  const dropped = await seal.body(body(), signal)
  const left = dropped.body as Readable
  left.once('data', () => left.destroy())
  await new Promise((resolve) => left.once('close', resolve))
  const stop = new AbortController()
  const stopped = await seal.body(body(), stop.signal)
  ;(stopped.body as Readable).once('data', () => stop.abort(new LifeboatError('interrupted', 'it stops')))
  await t.rejects(buffer(stopped.body as NodeJS.ReadableStream), { code: 'interrupted' })
})

async function* fails() {
  yield Buffer.alloc(100_000, 1)
  throw new Error('the disk is gone')
}

t.test('what has changed since it was hashed is not stored', async (t) => {
  const { directory, path, bytes, body } = await large(t)
  bytes.writeUInt8(99, bytes.length - 5)
  await writeFile(path, bytes)
  const storage = new LocalStorage({ root: join(directory, 'repository') })
  const repository = new Repository({ name: 'local', cluster: 'test', storage, clock: systemClock })
  const file = { systemIdentifier: '7', name, hash: '0123456789ab' }
  await t.rejects(repository.wal.put(file, body().body), { message: /not what it was|cannot write/ })
  t.same(await repository.wal.ofSegment('7', name), [], 'nothing is visible')
  await rm(path)
  await t.rejects(repository.wal.put(file, body().body), { code: 'storage-failed' }, 'nor what has gone')
})

t.test('where it is refused no file stays open', async (t) => {
  const { directory, path, body } = await large(t)
  const storage = new LocalStorage({ root: join(directory, 'repository') })
  const fence = async () => {
    throw new LifeboatError('conflict', 'the lease is held by another one')
  }
  const repository = new Repository({ name: 'local', cluster: 'test', storage, clock: systemClock, fence })
  const file = { systemIdentifier: '7', name, hash: '0123456789ab' }
  for (let round = 0; round < 3; round += 1)
    await t.rejects(repository.wal.put(file, body().body), { code: 'conflict' })
  await untilAnswer('closed', async () => !(await openFiles()).includes(path))
  t.pass('closed')
})

async function openFiles(): Promise<readonly string[]> {
  const all = await readdir('/proc/self/fd')
  return Promise.all(all.map((one) => readlink(`/proc/self/fd/${one}`).catch(() => '')))
}
