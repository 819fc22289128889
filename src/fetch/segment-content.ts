import { createHash, hash } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { open, truncate } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'
import { createZstdDecompress, zstdDecompress } from 'node:zlib'
import { longHeaderSize } from '../domain/wal-page.ts'
import type { StoredWalObject } from '../repository/wal.ts'
import { checkContent, invalid, segmentSizeOf, usedOf, wholeFrame, zstdParams } from './segment-check.ts'
import type { SegmentWriters } from './segment-writers.ts'

/** Chunks of the decompressed: with small ones more time goes into passing them on than into all the rest. */
const chunkBytes = 1024 * 1024

/** Stored in no more than this, a segment is read as a whole. */
const wholeBytes = 32 * 1024 * 1024

interface Progress {
  readonly signal: AbortSignal
  readonly alive: () => void
  /** Who writes; left out: this thread. */
  readonly writers?: SegmentWriters
}

const decompress = promisify(zstdDecompress)

/**
 * Writes what is stored of a segment to a new file, decompressed, and sees that it is what its name says: header, length
 * and hash. Of a partial what comes after its end is zeros. Nothing is synced. The file is torn when this fails. Gives the
 * segment size.
 *
 * @throws LifeboatError `wal-invalid`; what the stream, or the file system fails with
 */
export async function writeSegment(
  object: StoredWalObject,
  body: Readable,
  path: string,
  progress: Progress,
): Promise<number> {
  if (object.info.bytes > wholeBytes) return writeStream(object, body, path, progress)
  const chunks: Buffer[] = []
  for await (const chunk of body as AsyncIterable<Buffer>) {
    progress.signal.throwIfAborted()
    progress.alive()
    chunks.push(chunk)
  }
  const stored = Buffer.concat(chunks)
  const size = await (progress.writers?.write(object, stored, path) ?? writeHere(object, stored, path))
  return size ?? writeStream(object, Readable.from(chunks), path, progress)
}

/** As `writeWhole`, without holding up what else this thread does. */
async function writeHere(object: StoredWalObject, stored: Buffer, path: string): Promise<number | null> {
  const plain = await decompress(stored, wholeFrame).catch(() => null)
  if (plain === null) return null
  const segmentSize = segmentSizeOf(object, plain)
  checkContent(object, plain.length, segmentSize, hash('sha256', plain))
  const used = usedOf(object, segmentSize)
  const file = await open(path, 'wx', 0o600)
  try {
    await file.writeFile(plain.subarray(0, used))
    if (used < segmentSize) await file.truncate(segmentSize) // what comes after its end is zeros
  } finally {
    await file.close()
  }
  return segmentSize
}

async function writeStream(
  object: StoredWalObject,
  body: Readable,
  path: string,
  { signal, alive }: Progress,
): Promise<number> {
  const sha256 = createHash('sha256')
  let [head, length, segmentSize] = [Buffer.alloc(0), 0, 0]
  const out = createWriteStream(path, { flags: 'wx', mode: 0o600, highWaterMark: chunkBytes })
  await pipeline(
    body,
    createZstdDecompress({ chunkSize: chunkBytes, params: zstdParams }).on(
      'error',
      () => {}, // the pipeline tells
    ),
    async function* checked(chunks: AsyncIterable<Buffer>) {
      for await (const chunk of chunks) {
        alive()
        if (segmentSize === 0) {
          head = Buffer.concat([head, chunk.subarray(0, longHeaderSize)])
          if (head.length >= longHeaderSize) segmentSize = segmentSizeOf(object, head)
        }
        length += chunk.length
        if (segmentSize > 0 && length > segmentSize) throw invalid(object, 'it is longer than a segment')
        sha256.update(chunk)
        yield chunk
      }
    },
    out,
    { signal },
  ).catch(async (error: NodeJS.ErrnoException) => {
    // It is opened in the background: whoever removes the file now would be too early.
    if (!out.closed) await new Promise<void>((resolve) => out.once('close', () => resolve()))
    throw error.code?.startsWith('Z') ? invalid(object, `zstd: ${error.message}`) : error
  })
  if (segmentSize === 0) throw invalid(object, 'it is too short')
  checkContent(object, length, segmentSize, sha256.digest('hex'))
  const used = usedOf(object, segmentSize)
  if (used < segmentSize) await pad(path, used, segmentSize)
  return segmentSize
}

/** What comes after its end is zeros. */
async function pad(path: string, used: number, segmentSize: number): Promise<void> {
  await truncate(path, used)
  await truncate(path, segmentSize)
}
