import { randomUUID } from 'node:crypto'
import type { Readable } from 'node:stream'
import type { CompletedPart } from '@aws-sdk/client-s3'
import { LifeboatError } from '../domain/errors.ts'
import { storageFailure } from './failures.ts'
import { nameOf, statusOf } from './s3-failures.ts'
import { type BufferPool, type Digests, digestsOf, mostParts, Part, partBytes, partsAtOnce } from './s3-parts.ts'
import { type S3Requests, sha256Metadata } from './s3-requests.ts'
import type { S3Settings } from './s3-settings.ts'
import { checksumFields, traitsOf } from './s3-traits.ts'

/** Names one put in the metadata of its object: who has lost an answer can tell its own object from another's. */
export const putToken = 'lifeboat-put'

/** See `S3RequestOptions`. */
const graceMs = 5_000

/** Putting thousands of parts together takes a server its time. */
const completeMs = 600_000

/** Who gives up does not wait for long. */
const quick = { attempts: 2, ms: 5_000 }

export interface UploadOptions {
  readonly settings: S3Settings
  readonly requests: S3Requests
  readonly pool: BufferPool
  /** With the prefix. */
  readonly key: string
  readonly doing: string
  readonly ifAbsent: boolean
  /** Looks at the key before each put that is only to be if it is absent: the server may not. */
  readonly looksFirst: boolean
  readonly signal: AbortSignal | undefined
  readonly now: () => Date
  /** What is there by now; null if nothing is. */
  readonly look: () => Promise<{ readonly token: string | null } | null>
}

/** What was put. */
export interface Uploaded {
  readonly bytes: number
  readonly etag: string
  readonly token: string
  readonly inParts: boolean
}

/**
 * Puts an object: with one request when all of it fits into a part, else as a multipart upload whose parts are sent side by
 * side while the next one is filled. The body is not asked for more than the buffers hold. After any failure the upload
 * is aborted, so that the server keeps nothing of it.
 *
 * @throws LifeboatError `object-exists`; `usage-invalid` when the body is no stream of bytes; what the requests throw
 */
export async function upload(body: Readable | Uint8Array, options: UploadOptions): Promise<Uploaded> {
  if (body instanceof Uint8Array && body.length <= options.settings.partBytes) {
    return putWhole(options, body, digestsOf(body))
  }
  const { pool, settings } = options
  // A source may be silent for long: it is told as soon as a part has failed.
  const multipart = new Multipart(options, () => {
    if (!(body instanceof Uint8Array)) body.destroy()
  })
  let part = new Part(1, pool.take(settings.partBytes), settings.checksum)
  try {
    for await (const bytes of body instanceof Uint8Array ? [body] : chunksOf(body, options.doing)) {
      for (let from = 0; from < bytes.length; ) {
        if (part.isFull) {
          const next = part.number + 1
          await multipart.send(part)
          part = new Part(next, pool.take(partBytes(next, settings.partBytes)), settings.checksum)
        }
        from += part.fill(bytes.subarray(from))
      }
    }
    if (part.number > 1) {
      await multipart.send(part)
      return await multipart.complete()
    }
    const uploaded = await putWhole(options, part.bytes, part.digests())
    pool.give(part.buffer)
    return uploaded
  } catch (error) {
    throw await multipart.abort(error)
  }
}

/** A failure of the source has nothing to do with the bucket, whatever it is called. */
async function* chunksOf(body: Readable, doing: string): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of body) {
      const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk
      if (!(bytes instanceof Uint8Array)) throw new LifeboatError('usage-invalid', 'a body must be a stream of bytes')
      yield bytes
    }
  } catch (error) {
    throw storageFailure(`cannot ${doing}`, error)
  }
}

async function putWhole(options: UploadOptions, bytes: Uint8Array, digests: Digests): Promise<Uploaded> {
  const { requests, settings, key, doing, ifAbsent, looksFirst, signal } = options
  if (ifAbsent && looksFirst) await checkAbsent(options)
  const token = randomUUID()
  const request = {
    ...target(settings, key),
    ...traitsOf(settings, key, bytes.length, options.now()),
    Metadata: { [putToken]: token, [sha256Metadata]: digests.sha256 },
    ...(ifAbsent ? { IfNoneMatch: '*' } : {}),
    Body: bytes,
    ContentLength: bytes.length,
    ...checksumFields(settings, digests),
  }
  const etag = await requests.call({ doing, signal, graceMs, bytes: bytes.length }, async (client, stop, tries) => {
    try {
      return (await client.putObject(request, { abortSignal: stop })).ETag
    } catch (error) {
      if (!(ifAbsent && isTaken(error))) throw error
      // An attempt before may have put it, and only its answer was lost.
      if (tries > 1 && (await options.look())?.token === token) return undefined
      throw alreadyThere(options, error)
    }
  })
  return { bytes: bytes.length, etag: etag ?? '', token, inParts: false }
}

/** A multipart upload, begun with its first part. */
class Multipart {
  readonly #options: UploadOptions
  readonly #onFailure: () => void
  readonly #token = randomUUID()
  readonly #sent = new Map<number, CompletedPart>()
  readonly #sending = new Set<Promise<void>>()
  /** Ends what is still being sent when one part has failed. */
  readonly #over = new AbortController()
  #id: string | null = null
  #bytes = 0
  #failure: { readonly error: unknown } | null = null

  constructor(options: UploadOptions, onFailure: () => void) {
    this.#options = options
    this.#onFailure = onFailure
  }

  /** Sends a part, which it takes over: it waits only until there is room for one more. */
  async send(part: Part): Promise<void> {
    const { settings, pool } = this.#options
    if (part.number > mostParts) throw new LifeboatError('storage-failed', 'the object is larger than S3 allows')
    const id = this.#id ?? (await this.#create())
    while (this.#sending.size >= partsAtOnce(part.number, settings.partBytes, settings.parallel)) {
      await Promise.race(this.#sending)
    }
    if (this.#failure !== null) throw this.#failure.error
    const bytes = part.bytes
    this.#bytes += bytes.length
    const sending = this.#upload(id, part.number, bytes, part.digests())
      .catch((error: unknown) => {
        this.#failure ??= { error }
        this.#over.abort(error)
        this.#onFailure()
      })
      .finally(() => {
        this.#sending.delete(sending)
        pool.give(part.buffer)
      })
    this.#sending.add(sending)
  }

  /** Makes one object of the parts. */
  async complete(): Promise<Uploaded> {
    const { requests, settings, key, doing, ifAbsent, signal } = this.#options
    await Promise.all(this.#sending)
    if (this.#failure !== null) throw this.#failure.error
    if (ifAbsent) await checkAbsent(this.#options)
    const parts = [...this.#sent].sort(([a], [b]) => a - b).map(([, part]) => part)
    const request = {
      ...target(settings, key),
      UploadId: this.#id ?? '',
      MultipartUpload: { Parts: parts },
      ...(ifAbsent ? { IfNoneMatch: '*' } : {}),
    }
    const etag = await requests.call({ doing, signal, graceMs, ms: completeMs }, async (client, stop, tries) => {
      try {
        return (await client.completeMultipartUpload(request, { abortSignal: stop })).ETag
      } catch (error) {
        const isMade = tries > 1 && (nameOf(error) === 'NoSuchUpload' || isTaken(error))
        if (isMade && (await this.#options.look())?.token === this.#token) return undefined
        if (ifAbsent && isTaken(error)) throw alreadyThere(this.#options, error)
        throw error
      }
    })
    this.#id = null
    return { bytes: this.#bytes, etag: etag ?? '', token: this.#token, inParts: true }
  }

  /** Gives up what was sent, and gives the failure to throw. What the server does not forget now, `cleanTemporary` removes later. */
  async abort(error: unknown): Promise<unknown> {
    this.#over.abort(error)
    await Promise.all(this.#sending)
    if (this.#id !== null) {
      const { requests, settings, key, doing } = this.#options
      const request = { ...target(settings, key), UploadId: this.#id }
      await requests
        .call({ doing: `${doing}: abort the upload`, ...quick }, (client, stop) =>
          client.abortMultipartUpload(request, { abortSignal: stop }),
        )
        .catch(() => {})
    }
    return this.#failure?.error ?? error
  }

  async #create(): Promise<string> {
    const { requests, settings, key, doing, ifAbsent, signal } = this.#options
    if (ifAbsent) await checkAbsent(this.#options)
    const request = {
      ...target(settings, key),
      // How much it will be is not known, but not little.
      ...traitsOf(settings, key, Number.POSITIVE_INFINITY, this.#options.now()),
      ...(settings.checksum === 'sha256' ? { ChecksumAlgorithm: 'SHA256' as const } : {}),
      Metadata: { [putToken]: this.#token },
    }
    // Who does not know its id cannot abort it.
    const { UploadId: id } = await requests.call({ doing, signal, graceMs }, (client, stop) =>
      client.createMultipartUpload(request, { abortSignal: stop }),
    )
    if (!id) throw new LifeboatError('storage-failed', `cannot ${doing}: the server began an upload without an id`)
    this.#id = id
    return id
  }

  async #upload(id: string, number: number, bytes: Uint8Array, digests: Digests): Promise<void> {
    const { requests, settings, key, doing, signal } = this.#options
    const checksum = checksumFields(settings, digests)
    const request = {
      ...target(settings, key),
      UploadId: id,
      PartNumber: number,
      Body: bytes,
      ContentLength: bytes.length,
      ...checksum,
    }
    const over = signal ? AbortSignal.any([signal, this.#over.signal]) : this.#over.signal
    const { ETag: etag } = await requests.call({ doing, signal: over, bytes: bytes.length }, (client, stop) =>
      client.uploadPart(request, { abortSignal: stop }),
    )
    if (!etag) throw new LifeboatError('storage-failed', `cannot ${doing}: the server gave a part no ETag`)
    const compared = 'ChecksumSHA256' in checksum ? { ChecksumSHA256: checksum.ChecksumSHA256 } : {}
    this.#sent.set(number, { PartNumber: number, ETag: etag, ...compared })
  }
}

function target({ bucket }: S3Settings, key: string): { Bucket: string; Key: string } {
  return { Bucket: bucket, Key: key }
}

async function checkAbsent(options: UploadOptions): Promise<void> {
  if ((await options.look()) !== null) throw alreadyThere(options, null)
}

function isTaken(error: unknown): boolean {
  return nameOf(error) === 'PreconditionFailed' || statusOf(error) === 412
}

function alreadyThere({ doing }: UploadOptions, cause: unknown): LifeboatError {
  return new LifeboatError('object-exists', `cannot ${doing}: it exists already`, { cause })
}
