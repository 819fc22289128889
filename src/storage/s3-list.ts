import type { ListObjectsV2CommandOutput } from '@aws-sdk/client-s3'
import { LifeboatError } from '../domain/errors.ts'
import { throwIfStopped } from './failures.ts'
import { compareKeys, isSegment } from './keys.ts'
import { versionOf, wholeSeconds } from './s3-object.ts'
import type { S3Requests } from './s3-requests.ts'
import type { S3Settings } from './s3-settings.ts'
import type { CommonPrefix, ObjectInfo } from './storage.ts'

export interface S3ListOptions {
  readonly settings: S3Settings
  readonly requests: S3Requests
  readonly prefix: string
  readonly startAfter: string
  readonly fold: boolean
  readonly signal: AbortSignal | undefined
  readonly doing: string
}

/**
 * Yields what a bucket lists, a page of a thousand at a time. Fails when the pages do not go on in byte order: a server
 * that repeats them would keep us for ever, and one that leaves keys out makes backups disappear. Keys that nobody here can have made
 * (`a//b`, the folder marks `a/` of some tools) are left out.
 */
export async function* listBucket(options: S3ListOptions): AsyncGenerator<ObjectInfo | CommonPrefix> {
  const { prefix, startAfter, fold } = options
  const cut = startAfter.startsWith(prefix) ? startAfter.indexOf('/', prefix.length) : -1
  if (!fold || cut < 0) {
    yield* listAfter(options)
    return
  }
  // It begins within a folder. Servers differ in whether they fold the rest of that, or pass over it.
  const folder = startAfter.slice(0, cut + 1)
  for await (const _ of listAfter({ ...options, prefix: folder, fold: false, most: 1 })) {
    yield { prefix: folder }
    break
  }
  for await (const item of listAfter(options)) {
    if ('key' in item || item.prefix !== folder) yield item
  }
}

async function* listAfter(options: S3ListOptions & { readonly most?: number }) {
  const { settings, requests, prefix, startAfter, fold, signal, doing, most } = options
  const root = settings.prefix
  let token: string | undefined
  let last = ''
  do {
    const page: ListObjectsV2CommandOutput = await requests.call({ doing, signal }, (client, stop) =>
      client.listObjectsV2(
        {
          Bucket: settings.bucket,
          Prefix: root + prefix,
          // XML has no way to write some characters that keys may have.
          EncodingType: 'url',
          ...(fold ? { Delimiter: '/' } : {}),
          ...(token === undefined ? {} : { ContinuationToken: token }),
          ...(token === undefined && startAfter !== '' ? { StartAfter: root + startAfter } : {}),
          ...(most === undefined ? {} : { MaxKeys: most }),
        },
        { abortSignal: stop },
      ),
    )
    for (const item of itemsOf(page, root)) {
      const name = 'key' in item ? item.key : item.prefix
      if (last !== '' && compareKeys(name, last) <= 0) throw outOfOrder(doing, last, name)
      last = name
      throwIfStopped(signal)
      // A common prefix ends in a slash, and an object's key never does.
      if (('key' in item ? name : name.slice(0, -1)).split('/').every(isSegment)) yield item
    }
    if (!page.IsTruncated) return
    const next = page.NextContinuationToken
    if (next === undefined || next === token) throw outOfOrder(doing, last, 'the same page')
    token = next
  } while (most === undefined)
}

/** Objects and common prefixes of a page come apart; together they are in order. */
function itemsOf(page: ListObjectsV2CommandOutput, root: string): (ObjectInfo | CommonPrefix)[] {
  const decode = (text: string): string => (page.EncodingType === 'url' ? decoded(text) : text).slice(root.length)
  const objects = (page.Contents ?? []).map(({ Key = '', Size = 0, LastModified, ETag }) => ({
    key: decode(Key),
    bytes: Size,
    modified: wholeSeconds(LastModified),
    version: versionOf(ETag),
  }))
  const prefixes = (page.CommonPrefixes ?? []).map(({ Prefix = '' }) => ({ prefix: decode(Prefix) }))
  const nameOf = (item: ObjectInfo | CommonPrefix): string => ('key' in item ? item.key : item.prefix)
  if (prefixes.length === 0) return objects
  return [...objects, ...prefixes].sort((a, b) => compareKeys(nameOf(a), nameOf(b)))
}

/** Some servers write a space as `+`; all write a plus as `%2B`. */
function decoded(text: string): string {
  return decodeURIComponent(text.replaceAll('+', '%20'))
}

function outOfOrder(doing: string, last: string, next: string): LifeboatError {
  const message = `cannot ${doing}: the server repeats itself: after ${JSON.stringify(last)} came ${JSON.stringify(next)}`
  return new LifeboatError('storage-failed', message, {
    hint: 'a server or proxy between that does not keep to the order of keys cannot hold a repository',
  })
}
