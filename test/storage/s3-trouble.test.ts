import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer, request as httpRequest } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { createServer as createTlsServer } from 'node:tls'
import { ListMultipartUploadsCommand } from '@aws-sdk/client-s3'
import t, { type Test } from 'tap'
import { LifeboatError } from '../../src/domain/errors.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { S3Storage } from '../../src/storage/s3.ts'
import type { S3Settings } from '../../src/storage/s3-settings.ts'
import { codeOf, listed } from '../contract/storage.ts'
import { cannotHaveS3, type S3Server, startS3 } from '../support/s3.ts'
import { startTcpProxy } from '../support/tcp-proxy.ts'

const skip = await cannotHaveS3()
const mebi = 1024 * 1024
const large = randomBytes(17 * mebi + 123)

await t.test('a real S3 server behind a bad network', { skip }, async (t) => {
  const server = await startS3(t)
  await t.test('connections cut inside a part, bytes changed on their way', (t) => badUploads(t, server))
  await t.test('answers that are lost', (t) => lostAnswers(t, server))
  await t.test('downloads that break off', (t) => badDownloads(t, server))
  await t.test('an object replaced or removed while it is read', (t) => replaced(t, server))
  await t.test('a connection that falls silent', (t) => silent(t, server))
  await t.test('a proxy, and an authority of our own', (t) => proxied(t, server))
  await t.test('wrong keys, a missing bucket', (t) => refused(t, server))
})

/** A storage whose requests go through a network that does what the test says. */
async function behind(
  t: Test,
  server: S3Server,
  { idleMs, ...changes }: { idleMs?: number } & Partial<S3Settings> = {},
) {
  const network = await startTcpProxy(t, server.port)
  const direct = await server.bucket()
  const settings = { ...direct, ...changes, endpoint: `http://127.0.0.1:${network.port}` }
  const storage = new S3Storage({ settings, random: () => 0, ...(idleMs === undefined ? {} : { idleMs }) })
  const uploads = async () =>
    (await server.client.send(new ListMultipartUploadsCommand({ Bucket: direct.bucket }))).Uploads?.length ?? 0
  return { network, storage, direct: new S3Storage({ settings: direct }), uploads }
}

async function whole(storage: S3Storage, key: string): Promise<Buffer> {
  return buffer((await storage.get(key)).body)
}

async function badUploads(t: Test, server: S3Server): Promise<void> {
  const { network, storage, direct, uploads } = await behind(t, server)
  network.trouble({ what: 'cut-request', after: 2 * mebi }, /^PUT .*partNumber=2&/, 2)
  network.trouble({ what: 'flip', at: 3 * mebi }, /^PUT .*partNumber=3&/)
  network.trouble({ what: 'cut-request', after: 0 }, /^POST .*uploads/)
  await storage.put('parts', Readable.from([large]))
  t.ok((await whole(direct, 'parts')).equals(large), 'what arrived is what was sent')
  network.trouble({ what: 'flip', at: 40_000 }, /^PUT .*whole/)
  network.trouble({ what: 'cut-request', after: 30_000 }, /^PUT .*whole/)
  await storage.put('whole', large.subarray(0, 100_000))
  t.ok((await whole(direct, 'whole')).equals(large.subarray(0, 100_000)))
  t.equal(network.left, 0, 'all of that happened')

  network.trouble({ what: 'cut-request', after: mebi }, /^PUT .*partNumber=2&/, 5)
  t.equal(await codeOf(storage.put('never', Readable.from([large]))), 'storage-unreachable')
  t.equal(await direct.head('never'), null)
  t.equal(await uploads(), 0, 'the upload was aborted')
  network.trouble({ what: 'flip', at: 3 * mebi }, /^PUT .*partNumber=1&/, 5)
  t.match(await storage.put('never', Readable.from([large])).catch((error: unknown) => error), {
    code: 'storage-failed',
    message: /BadDigest|MD5/i,
  })
  t.equal(await direct.head('never'), null)
}

async function lostAnswers(t: Test, server: S3Server): Promise<void> {
  const { network, storage, direct } = await behind(t, server)
  network.trouble({ what: 'cut-answer', after: 0 }, /^PUT /)
  const info = await storage.put('once', Buffer.from('mine'), { ifAbsent: true })
  t.same(info, await direct.head('once'), 'ours all the same: another attempt found our own object')
  network.trouble({ what: 'cut-answer', after: 0 }, /^PUT /)
  t.equal(await codeOf(storage.put('once', Buffer.from('mine'), { ifAbsent: true })), 'object-exists')
  network.trouble({ what: 'cut-answer', after: 0 }, /^POST .*uploadId=/)
  await storage.put('parts', Readable.from([large]), { ifAbsent: true })
  t.ok((await whole(direct, 'parts')).equals(large))
  network.trouble({ what: 'cut-answer', after: 0 }, /^DELETE /)
  await storage.remove('parts')
  t.same(await listed(direct, ''), ['once'])
  t.equal(network.left, 0)
}

async function badDownloads(t: Test, server: S3Server): Promise<void> {
  const { network, storage, direct } = await behind(t, server)
  await direct.put('k', large)
  network.trouble({ what: 'cut-answer', after: mebi }, /^GET /, 9)
  t.ok((await whole(storage, 'k')).equals(large), 'a download survives as many breaks as it makes progress between')
  network.trouble({ what: 'cut-answer', after: mebi }, /^GET /, 2)
  const range = { start: 7, end: 4 * mebi }
  t.ok((await buffer((await storage.get('k', range)).body)).equals(large.subarray(7, 4 * mebi + 1)), 'of a part, too')
  t.equal(network.left, 0)
  // The third range alone: it is tried again, and the others come on meanwhile.
  const third = new RegExp(`^GET [^]*\r\nrange: bytes=(?!0-|${5 * mebi}-|${15 * mebi}-)`, 'i')
  network.trouble({ what: 'cut-answer', after: 2 * mebi }, third, 2)
  t.ok((await whole(storage, 'k')).equals(large))
  network.trouble({ what: 'cut-answer', after: mebi }, third)
  network.trouble({ what: 'cut-answer', after: 0 }, third, 5)
  t.equal(await codeOf(whole(storage, 'k')), 'storage-unreachable', 'never a short read')
  t.equal(network.left, 0)
}

async function replaced(t: Test, server: S3Server): Promise<void> {
  const { network, storage, direct } = await behind(t, server)
  await direct.put('listed', large)
  let version = ''
  for await (const item of storage.list('')) if ('key' in item) version = item.version
  await direct.put('listed', large.subarray(0, 100))
  const { info, body: cut } = await storage.get('listed')
  t.equal((await buffer(cut)).length, 100)
  t.not(info.version, version, 'truncated after it was listed: its version tells')
  await direct.remove('listed')
  t.equal(await codeOf(storage.get('listed')), 'object-missing')
  t.equal(await storage.head('listed'), null)
  for (const [what, change, code] of [
    ['replaced', () => direct.put('k', Buffer.alloc(large.length)), 'storage-failed'],
    ['truncated', () => direct.put('k', large.subarray(0, 100)), 'storage-failed'],
    ['removed', () => direct.remove('k'), 'object-missing'],
  ] as const) {
    for (const cut of [true, false]) {
      await direct.put('k', large)
      const { body } = await storage.get('k')
      await once(body, 'readable')
      await change()
      if (cut) network.cutAll()
      t.equal(
        await codeOf(buffer(body)),
        code,
        `${what}${cut ? ', and the connection broken off' : ' between two ranges'}`,
      )
    }
  }
}

async function silent(t: Test, server: S3Server): Promise<void> {
  const { network, storage, direct } = await behind(t, server, { idleMs: 2000 })
  network.trouble({ what: 'mute' }, /^PUT .*partNumber=2&/)
  await storage.put('k', Readable.from([large]))
  t.ok((await whole(direct, 'k')).equals(large), 'a part that nothing happens to is sent again')
  const { body } = await storage.get('k')
  await once(body, 'readable')
  // Nobody reads for so long that the server, or a proxy, gives up every connection.
  network.cutAll()
  while (network.open > 0) await new Promise((resolve) => setImmediate(resolve))
  t.ok((await buffer(body)).equals(large), 'a reader who is slow gets all of it')
  t.equal(network.left, 0)
}

async function proxied(t: Test, server: S3Server): Promise<void> {
  const directory = t.testdir()
  const [key, certificate] = [join(directory, 'key'), join(directory, 'certificate')]
  const subject = ['-subj', '/CN=lifeboat.test', '-addext', 'subjectAltName=DNS:lifeboat.test']
  const args = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-keyout', key, '-out', certificate]
  await runProgram({ program: 'openssl', args: [...args, ...subject] })
  const secure = createTlsServer({ key: readFileSync(key), cert: readFileSync(certificate) }, (socket) => {
    socket.pipe(connect(server.port, '127.0.0.1')).pipe(socket)
    socket.on('error', () => {})
  })
  secure.listen(0, '127.0.0.1')
  await once(secure, 'listening')
  const asked: string[] = []
  const proxy = createServer((incoming, outgoing) => {
    asked.push('plain')
    const { method, headers } = incoming
    const path = new URL(incoming.url ?? '').pathname + new URL(incoming.url ?? '').search
    const onwards = httpRequest({ host: '127.0.0.1', port: server.port, method, path, headers }, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 500, answer.headers)
      answer.pipe(outgoing)
    })
    incoming.pipe(onwards)
  })
  proxy.on('connect', (incoming, socket) => {
    asked.push(`tunnel to ${incoming.url}`)
    socket.write('HTTP/1.1 200 OK\r\n\r\n')
    socket.pipe(connect((secure.address() as AddressInfo).port, '127.0.0.1')).pipe(socket)
    socket.on('error', () => {})
  })
  proxy.listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  t.teardown(() => {
    proxy.closeAllConnections()
    proxy.close()
    secure.close()
  })
  const at = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`
  const env = { HTTP_PROXY: at, HTTPS_PROXY: at, NO_PROXY: 'localhost' }
  const settings = await server.bucket({ endpoint: 'http://lifeboat.test', env })
  await new S3Storage({ settings }).put('k', Buffer.from('x'))
  t.match(asked, ['plain', 'plain'], 'a name that only the proxy knows')
  const tls = { ...settings, endpoint: 'https://lifeboat.test' }
  t.match(await new S3Storage({ settings: tls, random: () => 0 }).head('k').catch((error: unknown) => error), {
    code: 'storage-unreachable',
    hint: /AWS_CA_BUNDLE/,
  })
  const trusting = new S3Storage({ settings: { ...tls, env: { ...env, AWS_CA_BUNDLE: certificate } } })
  t.equal((await trusting.head('k'))?.bytes, 1)
  await trusting.put('large', large)
  t.ok((await whole(trusting, 'large')).equals(large), 'and what is received apart')
  t.ok(asked.includes('tunnel to lifeboat.test:443'))
  writeFileSync(certificate, '')
  const missing = { ...tls, env: { ...env, AWS_CA_BUNDLE: join(directory, 'none') } }
  t.match(await new S3Storage({ settings: missing }).head('k').catch((error: unknown) => error), {
    message: /AWS_CA_BUNDLE/,
  })
}

async function refused(t: Test, server: S3Server): Promise<void> {
  const settings = await server.bucket()
  const wrong = { ...settings, keys: async () => ({ accessKeyId: 'TESTKEY', secretAccessKey: 'wrong' }) }
  const unknown = { ...settings, keys: async () => ({ accessKeyId: 'nobody', secretAccessKey: 'wrong' }) }
  const nowhere = { ...settings, bucket: 'no-such-bucket' }
  for (const [storage, code, hint] of [
    [new S3Storage({ settings: wrong }), 'storage-credentials', /secret/],
    [new S3Storage({ settings: unknown }), 'storage-credentials', /access key/],
    [new S3Storage({ settings: nowhere }), 'storage-failed', /make the bucket/],
  ] as const) {
    for (const work of [
      () => storage.put('k', Buffer.from('x')),
      () => storage.put('k', Readable.from([large])),
      () => storage.get('k'),
      () => storage.head('k'),
      () => storage.remove('k'),
      () => listed(storage, ''),
      () => storage.exists(),
      () => storage.cleanTemporary(),
    ]) {
      const failure = await work().catch((error: unknown) => error)
      t.ok(failure instanceof LifeboatError)
      t.match(failure, { code, hint }, String(work))
    }
  }
}
