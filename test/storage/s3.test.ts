import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer, request as httpRequest } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import {
  CreateMultipartUploadCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  PutObjectCommand,
  UploadPartCommand,
} from '@aws-sdk/client-s3'
import t, { type Test } from 'tap'
import { systemClock } from '../../src/clock.ts'
import { eachPiece } from '../../src/domain/lender.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { S3Storage } from '../../src/storage/s3.ts'
import { BufferPool } from '../../src/storage/s3-parts.ts'
import { S3Requests } from '../../src/storage/s3-requests.ts'
import type { S3Settings } from '../../src/storage/s3-settings.ts'
import { upload } from '../../src/storage/s3-upload.ts'
import { digestBody, saveBody } from '../../src/storage/save.ts'
import { codeOf, listed, storageContract } from '../contract/storage.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { cannotHaveS3, type S3Server, startS3 } from '../support/s3.ts'
import { uploadTraits } from './s3-uploads.ts'

const skip = await cannotHaveS3()
const mebi = 1024 * 1024
const large = randomBytes(17 * mebi + 123)

await t.test('a real S3 server', { skip }, async (t) => {
  const server = await startS3(t)
  await storageContract(
    t,
    'S3Storage',
    async () => new S3Storage({ settings: await server.bucket({ prefix: 'some where/ü+%/' }) }),
  )
  await t.test('objects of several parts', (t) => severalParts(t, server))
  await t.test('several parts, if absent', (t) => severalIfAbsent(t, server))
  await t.test('an upload that fails leaves nothing', (t) => failedUpload(t, server))
  await t.test('the body is asked for no more than the buffers hold', (t) => backPressure(t, server))
  await t.test('the reader is not run ahead of by more than the ranges hold', (t) => readAhead(t, server))
  await t.test('bytes that are lent', (t) => lent(t, server))
  await t.test('uploads that nobody goes on with', (t) => abandoned(t, server))
  await t.test('more objects than a page', (t) => pages(t, server))
  await t.test('what others put there', (t) => foreign(t, server))
  await t.test('storage class, encryption and what is noted of an object', (t) => stored(t, server))
  await uploadTraits(t, server)
})

function streamOf(bytes: Buffer, chunk = 100_001): Readable {
  const chunks: Buffer[] = []
  for (let from = 0; from < bytes.length; from += chunk) chunks.push(bytes.subarray(from, from + chunk))
  return Readable.from(chunks)
}

async function uploads(server: S3Server, settings: S3Settings): Promise<number> {
  const page = await server.client.send(new ListMultipartUploadsCommand({ Bucket: settings.bucket }))
  return page.Uploads?.length ?? 0
}

async function severalParts(t: Test, server: S3Server): Promise<void> {
  const settings = await server.bucket()
  const storage = new S3Storage({ settings })
  for (const [name, body] of [
    ['stream', streamOf(large)],
    ['buffer', large],
  ] as const) {
    const info = await storage.put(name, body)
    t.match(info, { bytes: large.length, version: /-4$/ }, 'four parts')
    t.same(await storage.head(name), info)
    const { body: found } = await storage.get(name)
    t.ok((await buffer(found)).equals(large), `a ${name} comes back`)
    const range = await storage.get(name, { start: 5 * mebi - 3, end: 5 * mebi + 2 })
    t.ok((await buffer(range.body)).equals(large.subarray(5 * mebi - 3, 5 * mebi + 3)), 'a range across two parts')
    t.equal(range.info.bytes, large.length, 'the size is that of the whole object')
  }
  const exact = large.subarray(0, 5 * mebi)
  t.notMatch((await storage.put('exact', streamOf(exact))).version, /-/, 'what just fits is one request')
  t.match((await storage.put('above', streamOf(large.subarray(0, 5 * mebi + 1)))).version, /-2$/)
  t.equal(await uploads(server, settings), 0)
}

async function severalIfAbsent(t: Test, server: S3Server): Promise<void> {
  const settings = await server.bucket()
  const storage = new S3Storage({ settings })
  const first = await storage.put('k', streamOf(large), { ifAbsent: true })
  const second = streamOf(Buffer.alloc(12 * mebi))
  t.equal(await codeOf(storage.put('k', second, { ifAbsent: true })), 'object-exists')
  t.ok(second.destroyed, 'the body is not left hanging')
  // It comes into being while the other is still sending.
  const late = Readable.from(
    (async function* () {
      yield large
      await storage.put('late', Buffer.from('faster'))
      yield large
    })(),
  )
  t.equal(await codeOf(storage.put('late', late, { ifAbsent: true })), 'object-exists')
  t.same(await storage.head('k'), first, 'it was not touched')
  t.equal((await storage.head('late'))?.bytes, 6)
  t.equal(await uploads(server, settings), 0, 'nothing is left of what was sent')
}

async function failedUpload(t: Test, server: S3Server): Promise<void> {
  const settings = await server.bucket()
  const storage = new S3Storage({ settings })
  const cause = Object.assign(new Error('the source broke'), { code: 'ECONNRESET' })
  const breaking = Readable.from(
    (async function* () {
      yield large
      throw cause
    })(),
  )
  t.match(await storage.put('k', breaking).catch((error: unknown) => error), { code: 'storage-failed', cause })
  const stopping = new AbortController()
  const silent = new Readable({ read: () => {} })
  silent.push(large)
  const put = storage.put('k', silent, { signal: stopping.signal })
  while ((await uploads(server, settings)) === 0);
  stopping.abort()
  t.equal(await codeOf(put), 'cancelled')
  t.ok(silent.destroyed)
  t.same(await listed(storage, ''), [])
  t.equal(await uploads(server, settings), 0)
}

async function backPressure(t: Test, server: S3Server): Promise<void> {
  const settings = { ...(await server.bucket()), parallel: 2 }
  let [inUse, most] = [0, 0]
  class Counting extends BufferPool {
    override take(bytes: number): Buffer {
      inUse += 1
      most = Math.max(most, inUse)
      return super.take(bytes)
    }
    override give(given: Buffer): void {
      inUse -= 1
      super.give(given)
    }
  }
  const put = await upload(streamOf(Buffer.concat([large, large, large])), {
    settings,
    requests: new S3Requests({ settings, clock: systemClock }),
    pool: new Counting(settings.partBytes, 2),
    ...{ key: 'k', doing: 'write', ifAbsent: false, looksFirst: false, signal: undefined, look: async () => null },
    now: () => new Date(),
  })
  t.equal(put.bytes, 3 * large.length)
  t.equal(most, 3, 'two on their way, one being filled')
  t.equal(inUse, 0, 'every buffer comes back once')
}

/** Passes requests on to the server, and tells which ranges were asked for. `held`: they wait until two are asked for at once. */
async function watched(t: Test, server: S3Server) {
  const seen = { ranges: [] as string[], open: 0, most: 0, held: false, last: '' }
  const waiting: (() => void)[] = []
  const proxy = createServer((incoming, outgoing) => {
    const { method, headers, url } = incoming
    const pass = (): void => {
      const onwards = httpRequest({ host: '127.0.0.1', port: server.port, method, path: url, headers }, (answer) => {
        outgoing.writeHead(answer.statusCode ?? 500, answer.headers)
        answer.pipe(outgoing)
      })
      incoming.pipe(onwards)
      outgoing.once('close', () => onwards.destroy())
      onwards.on('error', () => outgoing.destroy())
    }
    const range = method === 'GET' ? headers.range : undefined
    if (range === undefined) return pass()
    seen.ranges.push(range)
    seen.open += 1
    seen.most = Math.max(seen.most, seen.open)
    outgoing.once('close', () => {
      seen.open -= 1
    })
    waiting.push(pass)
    if (!seen.held || seen.open > 1 || seen.ranges.length === 1 || range === seen.last)
      for (const go of waiting.splice(0)) go()
  })
  proxy.listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  t.teardown(() => {
    proxy.closeAllConnections()
    proxy.close()
  })
  return { seen, endpoint: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}` }
}

async function readAhead(t: Test, server: S3Server): Promise<void> {
  const { seen, endpoint } = await watched(t, server)
  const settings = { ...(await server.bucket()), parallel: 2, endpoint }
  const storage = new S3Storage({ settings })
  const twice = Buffer.concat([large, large])
  await storage.put('k', twice)
  const part = 5 * mebi
  const count = Math.ceil(twice.length / part)
  const reading = async (piece: Uint8Array, read: number): Promise<void> => {
    if (!twice.subarray(read, read + piece.length).equals(piece)) t.fail(`other bytes after ${read}`)
    // A slow reader: whatever can come meanwhile has come.
    const end = read + piece.length
    const ahead = end > mebi ? Math.min(count, Math.floor((end - 1) / part) + 2) : 1
    while (seen.open > 0 || seen.ranges.length < ahead) await new Promise((resolve) => setImmediate(resolve))
    const bytes = seen.ranges.length * part - end
    if (bytes > 2 * part + mebi) t.fail(`${bytes} bytes ahead of the reader`)
  }
  for (const lends of [false, true]) {
    seen.ranges.length = 0
    const { body } = await storage.get('k')
    let read = 0
    const use = async (piece: Uint8Array): Promise<void> => {
      read += piece.length
      await reading(piece, read - piece.length)
    }
    if (lends) await eachPiece(body, use)
    else for await (const chunk of body) await use(chunk as Buffer)
    t.equal(read, twice.length)
    t.same(seen.ranges.slice(0, 2), [`bytes=0-${part - 1}`, `bytes=${part}-${2 * part - 1}`])
    t.equal(seen.ranges.length, count)
  }
  seen.most = 0
  seen.held = true
  seen.ranges.length = 0
  seen.last = `bytes=${(count - 1) * part}-${twice.length - 1}`
  const digest = await digestBody((await storage.get('k')).body, async () => {})
  t.same(digest, { bytes: twice.length, sha256: createHash('sha256').update(twice).digest('hex') })
  t.equal(seen.most, 2, 'two at a time')
  seen.held = false
  seen.ranges.length = 0
  const beginning = await storage.get('k')
  await once(beginning.body, 'readable')
  beginning.body.destroy()
  t.equal(seen.ranges.length, 1, 'who wants the beginning gets no more')
  await storage.put('empty', Buffer.alloc(0))
  t.equal((await buffer((await storage.get('empty')).body)).length, 0)
}

/** Bytes that are lent go to a file or a program, or nowhere when either end fails. */
async function lent(t: Test, server: S3Server): Promise<void> {
  const storage = new S3Storage({ settings: await server.bucket() })
  await storage.put('k', large)
  const sha256 = createHash('sha256').update(large).digest('hex')
  const path = join(t.testdir(), 'file')
  t.same(await saveBody((await storage.get('k')).body, path), { bytes: large.length, sha256 })
  t.ok((await readFile(path)).equals(large))
  const again = (await storage.get('k')).body
  t.match(await saveBody(again, path).catch((error: unknown) => error), { code: 'EEXIST' }, 'nothing is written over')
  t.ok(again.destroyed)
  const { stdout } = await runProgram({ program: 'sha256sum', args: [], stdin: (await storage.get('k')).body })
  t.match(stdout, sha256, 'to a program')
  const closing = (await storage.get('k')).body
  await runProgram({ program: 'head', args: ['-c', '1'], stdin: closing })
  t.ok(closing.destroyed, 'to a program that has enough')
  const stopping = new AbortController()
  let used = 0
  const stopped = digestBody((await storage.get('k', { signal: stopping.signal })).body, async (piece) => {
    used += piece.length
    if (used > 7 * mebi) stopping.abort()
  })
  t.equal(await codeOf(stopped), 'cancelled')
  t.ok(used < large.length)
  const failing = (await storage.get('k')).body
  const failure = await digestBody(failing, () => Promise.reject(new Error('no room'))).catch((error: unknown) => error)
  t.match(failure, { message: 'no room' })
  t.ok(failing.destroyed)
}

async function abandoned(t: Test, server: S3Server): Promise<void> {
  const settings = await server.bucket({ prefix: 'ours/' })
  const begin = async (key: string) => {
    const target = { Bucket: settings.bucket, Key: key }
    const { UploadId } = await server.client.send(new CreateMultipartUploadCommand(target))
    await server.client.send(new UploadPartCommand({ ...target, UploadId, PartNumber: 1, Body: Buffer.from('x') }))
  }
  await begin('ours/a/ü b')
  await begin('ours/c')
  await begin('theirs/a')
  const clock = new FakeClock(new Date())
  const storage = new S3Storage({ settings, clock })
  t.equal(await storage.cleanTemporary(), 0, 'what is young may be alive')
  await clock.advance(25 * 3600 * 1000)
  t.equal(await storage.cleanTemporary({ elsewhere: false }), 0)
  t.equal(await storage.cleanTemporary(), 2)
  t.equal(await uploads(server, settings), 1, 'that of another prefix stays')
}

async function pages(t: Test, server: S3Server): Promise<void> {
  const settings = await server.bucket({ prefix: 'p/' })
  const names = Array.from({ length: 1_203 }, (_, index) => `k+ ${String(index).padStart(4, '0')}`)
  const left = [...names]
  const put = async () => {
    for (let name = left.pop(); name !== undefined; name = left.pop()) {
      await server.client.send(new PutObjectCommand({ Bucket: settings.bucket, Key: `p/${name}`, Body: 'x' }))
    }
  }
  await Promise.all(Array.from({ length: 16 }, put))
  const storage = new S3Storage({ settings })
  t.same(await listed(storage, ''), names)
  t.same(await listed(storage, 'k', { startAfter: names[100] ?? '' }), names.slice(101))
}

async function foreign(t: Test, server: S3Server): Promise<void> {
  const settings = await server.bucket({ prefix: 'p/' })
  for (const key of ['p/', 'p/a/', 'p/a//b', 'p/./c', 'p/ok', 'other', 'p']) {
    await server.client.send(new PutObjectCommand({ Bucket: settings.bucket, Key: key, Body: 'x' }))
  }
  const storage = new S3Storage({ settings })
  t.same(await listed(storage, ''), ['ok'], 'keys that no key of ours can be')
  t.same(await listed(storage, '', { delimiter: '/' }), ['a/', 'ok'])
}

async function stored(t: Test, server: S3Server): Promise<void> {
  const settings = await server.bucket({ storageClass: () => 'STANDARD_IA', serverSideEncryption: 'AES256' })
  const storage = new S3Storage({ settings })
  await storage.put('small', Buffer.from('small'))
  await storage.put('large', large)
  for (const key of ['small', 'large']) {
    const head = await server.client.send(new HeadObjectCommand({ Bucket: settings.bucket, Key: key }))
    // This server takes AES256 and does not tell of it.
    t.equal(head.StorageClass, 'STANDARD_IA', key)
    if (key === 'small') t.equal(head.Metadata?.sha256, createHash('sha256').update('small').digest('hex'))
  }
  const kms = { ...settings, serverSideEncryption: 'aws:kms' as const, kmsKeyId: 'test-key' }
  await new S3Storage({ settings: kms }).put('kms', large)
  const head = await server.client.send(new HeadObjectCommand({ Bucket: settings.bucket, Key: 'kms' }))
  t.match(head, { ServerSideEncryption: 'aws:kms', SSEKMSKeyId: 'test-key' })
  t.ok((await buffer((await new S3Storage({ settings: kms }).get('kms')).body)).equals(large))
}
