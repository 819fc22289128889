import { Readable } from 'node:stream'
import type { GetObjectCommandOutput } from '@aws-sdk/client-s3'
import { LifeboatError } from '../domain/errors.ts'
import { S3Body } from './s3-body.ts'
import { nameOf, statusOf } from './s3-failures.ts'
import type { SendOptions } from './s3-handler.ts'
import { answeredInfo, versionOf } from './s3-object.ts'
import type { S3Requests } from './s3-requests.ts'
import type { S3Settings } from './s3-settings.ts'
import type { GetOptions, StoredObject } from './storage.ts'

/** Objects come in ranges of this size, bytes, or of a part where that is smaller. */
const largestRange = 8 * 1024 * 1024

export interface DownloadOptions extends GetOptions {
  readonly settings: S3Settings
  readonly requests: S3Requests
  /** Without the prefix. */
  readonly key: string
  /** Completes "cannot …" in messages. */
  readonly doing: string
}

/** Opens an object, or a part of it: see `S3Storage.get`. Throws what the requests throw. */
export async function download(options: DownloadOptions): Promise<StoredObject> {
  const { settings, key, doing, signal, end = Number.MAX_SAFE_INTEGER } = options
  const start = startOf(options)
  const { partBytes, parallel } = settings
  const rangeBytes = Math.min(partBytes, largestRange)
  const firstEnd = Math.min(end, start + rangeBytes - 1)
  const answer = await request(options, { Range: rangeOf(start, firstEnd) }).catch((error: unknown) => {
    // Nothing is within an object that is empty; whoever wants all of that gets it.
    if (start > 0 || options.end !== undefined || !isOutside(error)) throw error
    return request(options, {})
  })
  const info = answeredInfo(key, answer)
  const body = bodyOf(answer)
  const bytes = Math.min(end + 1, info.bytes) - start
  const isRange = answer.ContentRange?.startsWith(`bytes ${start}-`) ?? (start === 0 && info.bytes <= firstEnd + 1)
  if (!isRange || bytes < 0) throw givesNoParts(doing, body)
  const same = answer.ETag === undefined ? {} : { IfMatch: answer.ETag }
  const open = async (from: number, to: number): Promise<Readable> => {
    // Whoever wants more than the first range wants much.
    const next = await request(options, { Range: rangeOf(start + from, start + to), ...same }, rangeBytes)
    const nextBody = bodyOf(next)
    if (!next.ContentRange?.startsWith(`bytes ${start + from}-`)) throw givesNoParts(doing, nextBody)
    // Not every server heeds If-Match.
    if (versionOf(next.ETag) === info.version) return nextBody
    nextBody.destroy()
    throw wasReplaced(doing, null)
  }
  return { info, body: new S3Body(body, { bytes, rangeBytes, parallel, doing: `cannot ${doing}`, open, signal }) }
}

async function request(
  { settings, requests, key, doing, signal }: DownloadOptions,
  wanted: { readonly Range?: string; readonly IfMatch?: string },
  mostBytes?: number,
): Promise<GetObjectCommandOutput> {
  const target = { Bucket: settings.bucket, Key: settings.prefix + key }
  try {
    return await requests.call({ doing, signal }, (client, stop) => {
      const how: SendOptions = { abortSignal: stop, ...(mostBytes === undefined ? {} : { mostBytes }) }
      return client.getObject({ ...target, ...wanted }, how)
    })
  } catch (error) {
    if (nameOf(error) === 'InvalidRange' || statusOf(error) === 416) throw outside(doing, error)
    if (statusOf(error) === 412) throw wasReplaced(doing, error)
    throw error
  }
}

function startOf({ start = 0, end, doing }: DownloadOptions): number {
  const isPlace = (value: number): boolean => Number.isSafeInteger(value) && value >= 0
  if (isPlace(start) && (end === undefined || (isPlace(end) && start <= end))) return start
  throw outside(doing, null)
}

function outside(doing: string, cause: unknown): LifeboatError {
  return new LifeboatError('usage-invalid', `cannot ${doing}: the range is not within the object`, { cause })
}

function isOutside(error: unknown): boolean {
  return error instanceof LifeboatError && error.code === 'usage-invalid'
}

function wasReplaced(doing: string, cause: unknown): LifeboatError {
  const message = `cannot ${doing}: the object was replaced while it was read`
  return new LifeboatError('storage-failed', message, { details: { lasts: true }, cause })
}

function givesNoParts(doing: string, body: Readable): LifeboatError {
  body.destroy()
  return new LifeboatError('storage-failed', `cannot ${doing}: the server does not give parts of objects`)
}

function rangeOf(start: number, end: number): string {
  return `bytes=${start}-${end}`
}

function bodyOf({ Body: body }: GetObjectCommandOutput): Readable {
  if (body instanceof Readable) return body
  throw new LifeboatError('storage-failed', 'the server gave an answer without a body')
}
