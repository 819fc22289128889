import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import process from 'node:process'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { checkUploads } from '../../src/check/bucket-uploads.ts'
import { LifeboatError } from '../../src/domain/errors.ts'
import { passingCause } from '../../src/domain/transient.ts'
import { S3Storage } from '../../src/storage/s3.ts'
import { mostParts, partBytes, partsAtOnce } from '../../src/storage/s3-parts.ts'
import { codeOf, listed } from '../contract/storage.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { s3Settings } from '../support/s3.ts'

/** What no real server says when it is asked to: a small one that says just that. */
async function answering(t: Test, answer: (request: IncomingMessage, response: ServerResponse) => void) {
  let requests = 0
  const server = createServer((request, response) => {
    requests += 1
    request.resume().on('end', () => answer(request, response))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const settings = s3Settings(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, 'b')
  return { storage: new S3Storage({ settings, random: () => 0 }), requests: () => requests, settings }
}

function refusal(
  response: ServerResponse,
  status: number,
  code: string,
  message = 'said the server',
  headers: Readonly<Record<string, string>> = {},
): void {
  response.writeHead(status, { 'content-type': 'application/xml', ...headers })
  response.end(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>${message}</Message></Error>`)
}

async function failureOf(work: Promise<unknown>): Promise<LifeboatError> {
  const failure = await work.catch((error: unknown) => error)
  if (failure instanceof LifeboatError) return failure
  throw new Error(`no LifeboatError: ${String(failure)}`)
}

t.test('what servers refuse is told apart, with what to do', async (t) => {
  for (const [status, said, code, hint, attempts] of [
    [403, 'InvalidAccessKeyId', 'storage-credentials', /access key/, 2],
    [403, 'SignatureDoesNotMatch', 'storage-credentials', /secret/, 2],
    [400, 'ExpiredToken', 'storage-credentials', /session/, 2],
    [403, 'AccessDenied', 'storage-credentials', /policy/, 1],
    [403, 'RequestTimeTooSkewed', 'storage-failed', /clocks/, 5],
    [404, 'NoSuchBucket', 'storage-failed', /make the bucket/, 1],
    [301, 'PermanentRedirect', 'storage-failed', /region/, 1],
    [400, 'AuthorizationHeaderMalformed', 'storage-failed', /region/, 1],
    [400, 'InvalidStorageClass', 'storage-failed', /storageClass/, 1],
    [403, 'InvalidObjectState', 'storage-failed', /cold storage/, 1],
    [403, 'QuotaExceeded', 'storage-failed', /quota/, 1],
    [501, 'NotImplemented', 'storage-failed', /settings/, 1],
    [400, 'BadDigest', 'storage-failed', null, 5],
    [409, 'ConditionalRequestConflict', 'storage-unreachable', null, 5],
    [500, 'InternalError', 'storage-unreachable', null, 5],
    [503, 'SlowDown', 'storage-unreachable', /fewer requests/, 5],
  ] as const) {
    const { storage, requests } = await answering(t, (_, response) => refusal(response, status, said))
    const failure = await failureOf(storage.put('a', Buffer.from('x')))
    t.equal(failure.code, code, said)
    t.match(failure.message, /^cannot write "a": .*said the server/, said)
    if (hint !== null) t.match(failure.hint, hint, said)
    t.equal(requests(), attempts, `${said}: attempts`)
    t.equal(passingCause(failure) !== null, code === 'storage-unreachable', 'a job is tried again, or not')
    const asked = requests()
    t.equal((await failureOf(storage.head('a'))).code, code, `${said}, to a request whose answer has no words`)
    t.ok(requests() > asked)
  }
})

t.test('locks and tags that are refused are told apart', async (t) => {
  const lock = { mode: 'governance' as const, forSeconds: 60, legalHold: true, covers: (key: string) => key === 'a' }
  const denied = 'User: x is not authorized to perform: s3:PutObjectLegalHold on resource: y'
  for (const [status, said, message, code, hint] of [
    [403, 'AccessDenied', denied, 'storage-credentials', /allow s3:PutObjectLegalHold on/],
    [403, 'AccessDenied', 'Access Denied', 'storage-credentials', /Tagging, s3:PutObjectRetention, s3:PutObjectLegal/],
    [400, 'InvalidRequest', 'Bucket is missing Object Lock Configuration', 'storage-failed', /no Object Lock/],
    [404, 'ObjectLockConfigurationNotFoundError', 'none', 'storage-failed', /no Object Lock/],
    [400, 'InvalidArgument', '', 'storage-failed', /storage class COLD/],
  ] as const) {
    const { settings } = await answering(t, (_, response) => refusal(response, status, said, message))
    const traits = { objectLock: lock, tags: { a: 'b' }, storageClass: () => 'COLD' }
    const storage = new S3Storage({ settings: { ...settings, ...traits }, random: () => 0 })
    t.match(await failureOf(storage.put('a', Buffer.from('x'))), { code, hint }, said)
    const free = await failureOf(storage.put('b', Buffer.from('x')))
    t.notMatch(free.hint ?? '', /no Object Lock|Retention/, `${said}, of what is not locked`)
    t.match(await failureOf(storage.trials.lock('a')), {
      code,
      ...(status === 403
        ? { hint: /can be put, but not locked: .*s3:PutObjectRetention and s3:PutObjectLegalHold/ }
        : {}),
    })
  }
})

t.test('a server that compares nothing and locks nothing', async (t) => {
  const seen: IncomingMessage['headers'][] = []
  const { settings } = await answering(t, (request, response) => {
    if (request.method === 'PUT') seen.push(request.headers)
    response.end()
  })
  const lock = { mode: 'compliance' as const, forSeconds: 86_400, legalHold: false, covers: () => true }
  const storage = new S3Storage({ settings: { ...settings, checksum: 'sha256', objectLock: lock }, random: () => 0 })
  const found = await checkUploads('x', { objectLock: lock }, storage.trials, '.p')
  t.match(found, [
    { status: 'warning', what: /takes bytes that come with the checksum of others/, hint: /https/ },
    { status: 'warning', what: /If-None-Match/ },
    { status: 'error', what: /tells of none/, hint: /GetObjectRetention.*remove objectLock/ },
  ])
  t.match(seen[0], { 'x-amz-checksum-sha256': /=$/, 'x-amz-content-sha256': /^[0-9a-f]{64}$/ })
  t.ok(seen.every((headers) => !('x-amz-trailer' in headers)))
  t.match(seen.at(-1), { 'x-amz-object-lock-mode': 'COMPLIANCE', 'x-amz-checksum-sha256': String })
})

t.test('a server that knows but one of the checksums', async (t) => {
  for (const [checksum, header, answer] of [
    ['sha256', 'content-md5', 'BadDigest'],
    ['md5', 'x-amz-checksum-sha256', 'XAmzContentSHA256Mismatch'],
  ] as const) {
    const { settings } = await answering(t, (request, response) => {
      if (request.url?.includes('uploads')) response.end('<R><UploadId>1</UploadId></R>')
      else if (request.headers['if-none-match']) refusal(response, 412, 'PreconditionFailed')
      else if (header in request.headers) refusal(response, 400, answer)
      else if (request.method === 'PUT' && checksum === 'sha256') refusal(response, 501, 'NotImplemented')
      else response.end()
    })
    const { trials } = new S3Storage({ settings: { ...settings, checksum }, random: () => 0 })
    t.match(await checkUploads('x', { objectLock: null }, trials, '.p'), [
      { status: 'error', hint: `set checksum: ${checksum === 'md5' ? 'sha256' : 'md5'} for this repository` },
    ])
  }
})

t.test('a storm that passes', async (t) => {
  let storm = 4
  const { storage } = await answering(t, (_, response) => {
    storm -= 1
    if (storm >= 0) return refusal(response, 503, 'SlowDown')
    response.end('<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>')
  })
  t.same(await listed(storage, ''), [])
})

t.test('pages that repeat, or are out of order', async (t) => {
  const page = (keys: readonly string[], token: string) =>
    `<ListBucketResult>${keys.map((key) => `<Contents><Key>${key}</Key><Size>1</Size></Contents>`).join('')}<IsTruncated>true</IsTruncated><NextContinuationToken>${token}</NextContinuationToken></ListBucketResult>`
  let count = 0
  for (const [what, answer] of [
    ['the same keys', () => page(['a', 'b'], `t${count++}`)],
    ['nothing, again and again', () => page([], 'same')],
    ['a key that stood before', () => page(['b', 'a'], 'x')],
  ] as const) {
    const { storage, requests } = await answering(t, (_, response) => void response.end(answer()))
    t.match(await failureOf(listed(storage, '')), { code: 'storage-failed', message: /repeats/ }, what)
    t.ok(requests() <= 2)
  }
})

t.test('a server that gives whole objects for parts, or more than it has', async (t) => {
  const { storage } = await answering(t, (_, response) => void response.end('whole'))
  t.match(await failureOf(storage.get('a', { start: 1, end: 2 })), { message: /does not give parts/ })
  const mebi = 1024 * 1024
  const large = Buffer.alloc(12 * mebi)
  const all = await answering(t, (_, response) => void response.end(large))
  t.match(await failureOf(all.storage.get('a')), { message: /does not give parts/ }, 'it would all be in memory')
  t.equal((await buffer((await storage.get('a')).body)).toString(), 'whole', 'what fits is taken')
  for (const [what, etag, place, message] of [
    ['heeds no If-Match', '"new"', (range: string) => range, /replaced/],
    ['gives another range', '"old"', () => '0-', /does not give parts/],
  ] as const) {
    const other = await answering(t, (request, response) => {
      const [, from = '', to = ''] = /^bytes=(\d+)-(\d+)$/.exec(String(request.headers.range)) ?? []
      const isFirst = from === '0'
      const last = Math.min(Number(to), large.length - 1)
      const range = isFirst ? `0-${last}` : place(`${from}-${last}`)
      response.writeHead(206, { etag: isFirst ? '"old"' : etag, 'content-range': `bytes ${range}/${large.length}` })
      response.end(large.subarray(Number(from), last + 1))
    })
    t.match(await failureOf(other.storage.get('a').then(({ body }) => buffer(body))), { message }, what)
  }
  const more = await answering(t, (_, response) => {
    response.writeHead(206, { etag: '"e"', 'content-range': 'bytes 0-2/3' })
    response.end('more')
  })
  t.match(await failureOf(more.storage.get('a').then(({ body }) => buffer(body))), { message: /sent more/ })
})

t.test('a server that accepts and never answers', async (t) => {
  const { settings } = await answering(t, () => {})
  const clock = new FakeClock()
  const storage = new S3Storage({ settings, clock, random: () => 0 })
  const looking = failureOf(storage.head('a'))
  let isOver = false
  looking.then(
    () => {
      isOver = true
    },
    () => {},
  )
  while (!isOver) await clock.advance(20_000)
  t.match(await looking, { code: 'storage-unreachable', message: /no answer within 20 s/ })
  t.equal(clock.sleeping, 0)
  const stopping = new AbortController()
  const listing = codeOf(listed(storage, '', { signal: stopping.signal }))
  stopping.abort()
  t.equal(await listing, 'cancelled')
})

t.test('nobody listens, no such host', async (t) => {
  const away = { ...s3Settings('http://127.0.0.1:1', 'b') }
  const failure = await failureOf(new S3Storage({ settings: away, random: () => 0 }).put('a', Buffer.from('x')))
  t.match(failure, { code: 'storage-unreachable', hint: /nobody listens/ })
})

t.test('keys that are rotated count at once', async (t) => {
  const { settings } = await answering(t, (request, response) => {
    if (!request.headers.authorization?.includes('Credential=NEW/')) return refusal(response, 403, 'InvalidAccessKeyId')
    response.end('<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>')
  })
  let accessKeyId = 'OLD'
  const keys = async () => ({ accessKeyId, secretAccessKey: 's' })
  const storage = new S3Storage({ settings: { ...settings, keys } })
  t.equal(await codeOf(listed(storage, '')), 'storage-credentials')
  accessKeyId = 'NEW'
  t.same(await listed(storage, ''), [])

  const file = join(t.testdir(), 'credentials')
  const write = (id: string) =>
    writeFile(file, `[default]\naws_access_key_id = ${id}\naws_secret_access_key = s\n`, { mode: 0o600 })
  const names = ['AWS_SHARED_CREDENTIALS_FILE', 'AWS_EC2_METADATA_DISABLED', 'AWS_ACCESS_KEY_ID'] as const
  const former = names.map((name) => [name, process.env[name]] as const)
  t.teardown(() => {
    for (const [name, value] of former) {
      if (value === undefined) delete process.env[name]
      else process.env[name] = value
    }
  })
  delete process.env.AWS_ACCESS_KEY_ID
  Object.assign(process.env, { AWS_SHARED_CREDENTIALS_FILE: file, AWS_EC2_METADATA_DISABLED: 'true' })
  const usual = new S3Storage({ settings: { ...settings, keys: null } })
  t.match(await failureOf(listed(usual, '')), { code: 'storage-credentials', hint: /accessKeyIdFile/ }, 'none at all')
  await write('OLD')
  t.equal(await codeOf(listed(usual, '')), 'storage-credentials')
  await write('NEW')
  t.same(await listed(usual, ''), [], 'from the usual places, too')

  const unreadable = new LifeboatError('config-invalid', 'the file is not there')
  const without = new S3Storage({ settings: { ...settings, keys: async () => Promise.reject(unreadable) } })
  t.equal(
    await listed(without, '').catch((error: unknown) => error),
    unreadable,
    'what is wrong with the files is told',
  )
})

t.test('clocks that differ', async (t) => {
  const theirs = () => Date.now() + 3 * 3600 * 1000
  const { storage, requests } = await answering(t, (request, response) => {
    response.setHeader('date', new Date(theirs()).toUTCString())
    const signedAt = String(request.headers['x-amz-date']).replace(
      /^(....)(..)(..)T(..)(..)(..)Z$/,
      '$1-$2-$3T$4:$5:$6Z',
    )
    if (Math.abs(theirs() - Date.parse(signedAt)) > 900_000) return refusal(response, 403, 'RequestTimeTooSkewed')
    response.end('<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>')
  })
  t.same(await listed(storage, ''), [], 'the clock of the server is gone by')
  t.equal(requests(), 2)
})

t.test('an answer that comes soon after the signal counts', async (t) => {
  const stopping = new AbortController()
  let put: Record<string, string> = {}
  const { settings } = await answering(t, (request, response) => {
    if (request.method === 'PUT') {
      put = Object.fromEntries(Object.entries(request.headers).filter(([name]) => name.startsWith('x-amz-meta')) as [])
      stopping.abort()
      return void setImmediate(() => response.end())
    }
    response.writeHead(200, { ...put, 'content-length': '1', etag: '"e"' }).end()
  })
  const storage = new S3Storage({ settings, random: () => 0 })
  t.match(await storage.put('a', Buffer.from('x'), { signal: stopping.signal }), { key: 'a', bytes: 1, version: 'e' })
  t.equal(await codeOf(storage.put('a', Buffer.from('x'), { signal: stopping.signal })), 'cancelled')

  const clock = new FakeClock()
  const mute = await answering(t, () => {})
  const late = new AbortController()
  const giving = codeOf(
    new S3Storage({ settings: mute.settings, clock }).put('a', Buffer.from('x'), { signal: late.signal }),
  )
  while (mute.requests() === 0) await new Promise((resolve) => setImmediate(resolve))
  late.abort()
  await clock.advance(5_000)
  t.equal(await giving, 'cancelled', 'but not for long')
})

t.test('parts grow so that the largest object fits', async (t) => {
  const mebi = 1024 * 1024
  let bytes = 0
  for (let number = 1; number <= mostParts; number += 1) bytes += partBytes(number, 20 * mebi)
  t.ok(bytes >= 5 * 1024 ** 4, 'five tebibytes')
  t.equal(partBytes(1000, 20 * mebi), 20 * mebi)
  t.equal(partsAtOnce(1, 20 * mebi, 4), 4)
  t.equal(partsAtOnce(1001, 20 * mebi, 4), 2)
  t.equal(partsAtOnce(9999, 20 * mebi, 4), 2)
  t.equal(partsAtOnce(9999, 20 * mebi, 1), 1)
})

t.test('a bucket elsewhere: the region that the server names is told', async (t) => {
  const region = { 'x-amz-bucket-region': 'eu-west-3' }
  for (const [status, code] of [
    [301, 'PermanentRedirect'],
    [400, 'IllegalLocationConstraintException'],
    [400, 'AuthorizationHeaderMalformed'],
  ] as const) {
    const { storage } = await answering(t, (_, response) => refusal(response, status, code, 'elsewhere', region))
    const expected = { code: 'storage-failed', hint: /set region of the repository to eu-west-3/ }
    t.match(await failureOf(storage.put('a', Buffer.from('x'))), expected, code)
    t.match(await failureOf(storage.head('a')), expected, `${code}, to a request whose answer has no words`)
  }
  const { storage } = await answering(t, (_, response) => {
    response.writeHead(400).end('<Error><Code>AuthorizationHeaderMalformed</Code><Region>sa-east-1</Region></Error>')
  })
  t.match(await failureOf(storage.get('a')), { hint: /to sa-east-1/ }, 'or in the body')
})

t.test('a right that is missing is named', async (t) => {
  const { storage } = await answering(t, (_, response) => refusal(response, 403, 'AccessDenied'))
  for (const [work, right] of [
    [() => storage.put('a', Buffer.from('x')), 's3:PutObject on the objects'],
    [() => storage.put('a', Readable.from([Buffer.alloc(6 * 1024 * 1024)])), 's3:PutObject on the objects'],
    [() => storage.get('a'), 's3:GetObject on the objects'],
    [() => storage.head('a'), 's3:ListBucket on the bucket'],
    [() => listed(storage, ''), 's3:ListBucket on the bucket'],
    [() => storage.remove('a'), 's3:DeleteObject on the objects'],
    [() => storage.cleanTemporary(), 's3:ListBucketMultipartUploads on the bucket'],
  ] as const) {
    const failure = await failureOf(work())
    t.equal(failure.code, 'storage-credentials', right)
    t.ok(failure.hint?.includes(`allow ${right}`), `${right}: ${failure.hint}`)
  }
  const { settings } = await answering(t, (_, response) => refusal(response, 403, 'AccessDenied'))
  const sealed = new S3Storage({ settings: { ...settings, serverSideEncryption: 'aws:kms' } })
  t.match(await failureOf(sealed.put('a', Buffer.from('x'))), { hint: /s3:PutObject, kms:GenerateDataKey/ })
  const words = 'User: x is not authorized to perform: s3:PutObjectTagging on resource: y'
  const saying = await answering(t, (_, response) => refusal(response, 403, 'AccessDenied', words))
  t.match(
    await failureOf(saying.storage.put('a', Buffer.from('x'))),
    { hint: /allow s3:PutObjectTagging on/ },
    'it says',
  )
  const listing = await answering(t, (request, response) => {
    if (request.method === 'GET') return void response.end('<ListBucketResult></ListBucketResult>')
    refusal(response, 403, '')
  })
  t.match(await failureOf(listing.storage.head('a')), { hint: /s3:GetObject on the objects/ }, 'a HEAD by itself')
})

t.test('a clock that is wrong in spite of all: by how much', async (t) => {
  for (const [minutes, words] of [
    [180, /180 minutes behind/],
    [-30, /30 minutes ahead of/],
  ] as const) {
    const { storage } = await answering(t, (_, response) => {
      response.setHeader('date', new Date(Date.now() + minutes * 60_000).toUTCString())
      refusal(response, 403, 'RequestTimeTooSkewed')
    })
    t.match(await failureOf(storage.get('a')), { code: 'storage-failed', hint: words })
  }
})

t.test('a storm within an upload of several parts, and within a download', async (t) => {
  const refusals = new Map<string, number>()
  const bytes = randomBytes(12 * 1024 * 1024)
  const stored = new Map<string, string>()
  let token = ''
  const server = await answering(t, (request, response) => {
    const part = /partNumber=(\d+)/.exec(request.url ?? '')?.[1]
    if (request.method === 'POST' && request.url?.includes('uploads')) {
      token =
        Object.entries(request.headers)
          .find(([name]) => name.startsWith('x-amz-meta-'))
          ?.join('\n') ?? ''
      return void response.end('<R><UploadId>u</UploadId></R>')
    }
    if (part !== undefined || request.method === 'GET') {
      const what = part ?? `get ${request.headers.range}`
      const times = refusals.get(what) ?? 0
      refusals.set(what, times + 1)
      if (times < 4) return refusal(response, 503, 'SlowDown')
    }
    if (part !== undefined) {
      stored.set(part, String(request.headers['content-md5']))
      return void response.writeHead(200, { etag: `"${part}"` }).end()
    }
    if (request.method === 'POST') return void response.end('<R><ETag>"e"</ETag></R>')
    const [name = '', value = ''] = token.split('\n')
    const [, from, to] = /bytes=(\d+)-(\d*)/.exec(request.headers.range ?? '') ?? []
    const [start, end] = [Number(from ?? 0), to ? Math.min(Number(to), bytes.length - 1) : bytes.length - 1]
    const range = from === undefined ? {} : { 'content-range': `bytes ${start}-${end}/${bytes.length}` }
    const about = { etag: '"e"', [name]: value, 'content-length': String(end - start + 1), ...range }
    response.writeHead(from === undefined ? 200 : 206, about)
    response.end(request.method === 'HEAD' ? undefined : bytes.subarray(start, end + 1))
  })
  await server.storage.put('a', Readable.from([bytes]))
  t.same([...stored.keys()].toSorted(), ['1', '2', '3'], 'each part arrives')
  t.ok((await buffer((await server.storage.get('a')).body)).equals(bytes))
})

t.test('what the settings of a bucket say, and what they do not', async (t) => {
  const answers = new Map<string, (response: ServerResponse) => void>()
  const said = (xml: string) => (response: ServerResponse) => void response.end(xml)
  const refused = (status: number, code: string) => (response: ServerResponse) => refusal(response, status, code)
  const { storage, requests } = await answering(t, (request, response) => {
    const [what = ''] = [...new URL(request.url ?? '', 'http://h').searchParams.keys()]
    ;(answers.get(what) ?? refused(501, 'NotImplemented'))(response)
  })
  const none = await storage.bucket.facts()
  const unknown = { unknown: 'the server does not have it' }
  t.match(none, { versioning: unknown, lock: unknown, lifecycle: unknown, publicPolicy: unknown, publicAcl: unknown })
  t.match(none, { publicBlock: unknown, encryption: unknown, isPrivate: true })
  t.equal(requests(), 7)

  answers.set('versioning', said('<V><Status>Suspended</Status></V>'))
  answers.set('object-lock', refused(404, 'ObjectLockConfigurationNotFoundError'))
  answers.set('lifecycle', refused(403, 'AccessDenied'))
  answers.set('policyStatus', said('<P><IsPublic>true</IsPublic></P>'))
  answers.set('policy', said('{"Statement":{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"x"}}'))
  answers.set('acl', said('<ListBucketResult></ListBucketResult>'))
  answers.set('publicAccessBlock', refused(404, 'NoSuchPublicAccessBlockConfiguration'))
  answers.set('encryption', refused(404, 'ServerSideEncryptionConfigurationNotFoundError'))
  t.match(await storage.bucket.facts(), {
    ...{ versioning: { value: 'suspended' }, lock: { value: null }, publicPolicy: { value: true } },
    lifecycle: { unknown: 'these keys may not read it (s3:GetLifecycleConfiguration)' },
    publicAcl: { unknown: 'the server does not tell' },
    ...{ publicBlock: { value: false }, encryption: { value: null } },
  })
  const named =
    '{"Statement":[{"Effect":"Deny","Principal":"*"},{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam:::user/x"}}]}'
  answers.set('policy', said(named))
  t.match(await storage.bucket.facts(), { publicPolicy: { value: false } }, 'a server that calls every policy public')
  answers.set('policy', refused(403, 'AccessDenied'))
  t.match(await storage.bucket.facts(), { publicPolicy: { value: true } })

  const day = 86_400
  answers.set(
    'object-lock',
    said(
      '<O><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>COMPLIANCE</Mode><Years>2</Years></DefaultRetention></Rule></O>',
    ),
  )
  answers.set(
    'lifecycle',
    said(`<L><Rule><ID>off</ID><Status>Disabled</Status><Filter><Prefix></Prefix></Filter><Expiration><Days>1</Days></Expiration></Rule>
      <Rule><ID>a</ID><Status>Enabled</Status><Prefix>old</Prefix><Expiration><Days>7</Days></Expiration></Rule>
      <Rule><ID>b</ID><Status>Enabled</Status><Filter><And><Prefix>p</Prefix><Tag><Key>k</Key><Value>v</Value></Tag></And></Filter><Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration><Transition><Days>9</Days><StorageClass>DEEP_ARCHIVE</StorageClass></Transition><Transition><Days>3</Days><StorageClass>GLACIER_IR</StorageClass></Transition></Rule>
      <Rule><ID>c</ID><Status>Enabled</Status><Filter><Tag><Key>k</Key><Value>v</Value></Tag></Filter><Expiration><Date>2030-01-01T00:00:00.000Z</Date></Expiration><AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule></L>`),
  )
  const nothing = {
    expiresAfterSeconds: null,
    freezesAfterSeconds: null,
    removesOldVersions: false,
    abortsUploads: false,
  }
  t.match(await storage.bucket.facts(), { lock: { value: { mode: 'COMPLIANCE', seconds: 730 * day } } })
  t.same((await storage.bucket.facts()).lifecycle, {
    value: [
      { ...nothing, id: 'a', prefix: 'old', tags: {}, expiresAfterSeconds: 7 * day },
      { ...nothing, id: 'b', prefix: 'p', tags: { k: 'v' }, freezesAfterSeconds: 9 * day },
      { ...nothing, id: 'c', prefix: '', tags: { k: 'v' }, expiresAfterSeconds: 0, abortsUploads: true },
    ],
  })
  answers.set('versioning', refused(403, 'InvalidAccessKeyId'))
  t.match(await failureOf(storage.bucket.facts()), { code: 'storage-credentials' }, 'wrong keys know nothing at all')
  answers.set('versioning', refused(404, 'NoSuchBucket'))
  t.match(await failureOf(storage.bucket.facts()), { hint: /make the bucket/ })
})

t.test('whether locks hold, by trying', async (t) => {
  for (const [what, plain, bypass, outcome] of [
    ['the server keeps them', 403, 403, 'held'],
    ['governance is bypassed', 403, 204, 'bypassed'],
    ['the server keeps none', 204, 204, 'deleted'],
  ] as const) {
    const seen: string[] = []
    const { storage } = await answering(t, (request, response) => {
      seen.push(`${request.method} ${request.url}`)
      if (request.method === 'HEAD') return void response.writeHead(404).end()
      if (request.method === 'PUT') return void response.writeHead(200, { 'x-amz-version-id': 'v1' }).end()
      const status = request.headers['x-amz-bypass-governance-retention'] === 'true' ? bypass : plain
      return status === 403 ? refusal(response, 403, 'AccessDenied') : void response.writeHead(204).end()
    })
    t.same(await storage.bucket.tryLockedDeletion('GOVERNANCE'), { outcome }, what)
    t.ok(
      seen.every((one) => /^(?:HEAD|PUT|DELETE) \/b\/\.lifeboat-lock-probe(?:\?|$)/.test(one)),
      'nothing else is touched',
    )
  }
  const { storage } = await answering(t, (request, response) => {
    if (request.method === 'HEAD') return void response.writeHead(404).end()
    const isLocked = request.headers['x-amz-object-lock-mode'] !== undefined
    if (isLocked) return refusal(response, 403, 'AccessDenied')
    response.writeHead(request.method === 'PUT' ? 200 : 204, { 'x-amz-version-id': 'v1' }).end()
  })
  t.match(await storage.bucket.tryLockedDeletion('COMPLIANCE'), { outcome: 'untried', why: /s3:PutObjectRetention/ })
})
