import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'
import { compareKeys } from '../../src/storage/keys.ts'
import type { S3Settings } from '../../src/storage/s3-settings.ts'
import { s3Settings } from './s3.ts'

interface FakeObject {
  readonly body: Buffer
  readonly etag: string
  readonly modified: Date
  readonly headers: Readonly<Record<string, string>>
}

/** A bucket in memory behind HTTP: what a real server would need minutes for, or cannot be made to say. */
export interface FakeS3 {
  readonly settings: S3Settings
  /** What was asked since the last call, e.g. `GET list`, `HEAD`, `GET key`. */
  asked(): string[]
  put(key: string, body: string | Buffer, options?: { readonly headers?: Record<string, string>; etag?: string }): void
  remove(key: string): void
  keys(): string[]
  /** Makes the server refuse everything from now on, or not. */
  refuse(status: number | null): void
}

/** Lists as S3 does, by pages of a thousand; puts, gives and removes whole objects. */
export async function fakeS3(t: Test, now: () => Date): Promise<FakeS3> {
  const objects = new Map<string, FakeObject>()
  let sorted: string[] | null = []
  const asked: string[] = []
  let refused: number | null = null

  const put: FakeS3['put'] = (key, body, { headers = {}, etag } = {}) => {
    const bytes = Buffer.from(body)
    if (!objects.has(key)) sorted = null
    const hash = etag ?? createHash('md5').update(bytes).digest('hex')
    objects.set(key, { body: bytes, etag: `"${hash}"`, modified: now(), headers })
  }
  const remove = (key: string): void => {
    if (objects.delete(key)) sorted = null
  }
  const keys = (): string[] => {
    sorted ??= [...objects.keys()].sort(compareKeys)
    return sorted
  }

  const answer = (request: IncomingMessage, response: ServerResponse, sent: Buffer): unknown => {
    const url = new URL(request.url ?? '/', 'http://fake')
    const [, , ...rest] = url.pathname.split('/')
    const key = decodeURIComponent(rest.join('/'))
    const { method = 'GET' } = request
    asked.push(url.searchParams.has('list-type') ? 'GET list' : `${method} ${key}`)
    if (refused !== null) return refusal(response, refused, 'InternalError')
    if (url.searchParams.has('list-type')) return list(keys(), objects, url.searchParams, response)
    const found = objects.get(key)
    if (method === 'PUT') {
      if (found !== undefined && request.headers['if-none-match'] === '*')
        return refusal(response, 412, 'PreconditionFailed')
      const kept = Object.entries(request.headers).filter(([name]) => name.startsWith('x-amz-meta-'))
      put(key, sent, { headers: Object.fromEntries(kept) as Record<string, string> })
      return response.writeHead(200, { etag: objects.get(key)?.etag ?? '' }).end()
    }
    if (method === 'DELETE') {
      remove(key)
      return response.writeHead(204).end()
    }
    if (found === undefined) return refusal(response, 404, 'NoSuchKey')
    response.writeHead(200, {
      ...found.headers,
      'content-length': found.body.length,
      etag: found.etag,
      'last-modified': found.modified.toUTCString(),
    })
    response.end(method === 'HEAD' ? undefined : found.body)
  }

  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => answer(request, response, Buffer.concat(chunks)))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return {
    settings: s3Settings(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, 'b'),
    asked: () => asked.splice(0),
    ...{ put, remove, keys },
    refuse: (status) => {
      refused = status
    },
  }
}

function list(
  keys: readonly string[],
  objects: ReadonlyMap<string, FakeObject>,
  query: URLSearchParams,
  response: ServerResponse,
): void {
  const [prefix, delimiter] = [query.get('prefix') ?? '', query.get('delimiter') ?? '']
  const most = Math.min(1000, Number(query.get('max-keys') ?? 1000))
  const token = query.get('continuation-token')
  const after = token === null ? (query.get('start-after') ?? '') : Buffer.from(token, 'base64url').toString()
  const found: string[] = []
  let [folder, last, isTruncated] = ['', '', false]
  for (let index = firstAfter(keys, after < prefix ? '' : after, prefix); index < keys.length; index++) {
    const key = keys[index] ?? ''
    if (!key.startsWith(prefix)) break
    if (folder !== '' && key.startsWith(folder)) continue
    if (found.length === most) {
      isTruncated = true
      break
    }
    const cut = delimiter === '' ? -1 : key.indexOf(delimiter, prefix.length)
    const object = objects.get(key)
    if (cut >= 0) {
      folder = key.slice(0, cut + 1)
      last = `${folder}\uffff`
      found.push(`<CommonPrefixes><Prefix>${encodeURIComponent(folder)}</Prefix></CommonPrefixes>`)
    } else {
      last = key
      found.push(
        `<Contents><Key>${encodeURIComponent(key)}</Key><Size>${object?.body.length}</Size><ETag>${object?.etag.replaceAll('"', '&quot;')}</ETag><LastModified>${object?.modified.toISOString()}</LastModified></Contents>`,
      )
    }
  }
  const more = isTruncated
    ? `<NextContinuationToken>${Buffer.from(last).toString('base64url')}</NextContinuationToken>`
    : ''
  response.writeHead(200, { 'content-type': 'application/xml' })
  response.end(
    `<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>${isTruncated}</IsTruncated>${more}${found.join('')}</ListBucketResult>`,
  )
}

/** The index of the first key with the prefix that is behind another. */
function firstAfter(keys: readonly string[], after: string, prefix: string): number {
  let [low, high] = [0, keys.length]
  while (low < high) {
    const middle = (low + high) >> 1
    const key = keys[middle] ?? ''
    const isBefore = after === '' ? compareKeys(key, prefix) < 0 : compareKeys(key, after) <= 0
    if (isBefore) low = middle + 1
    else high = middle
  }
  return low
}

function refusal(response: ServerResponse, status: number, code: string): void {
  response.writeHead(status, { 'content-type': 'application/xml' })
  response.end(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>said the server</Message></Error>`)
}
