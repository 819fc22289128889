import { createHash, hash as hashOf } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { open, truncate } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'
import { constants, createZstdDecompress, zstdDecompress } from 'node:zlib'
import { LifeboatError } from '../domain/errors.ts'
import { firstLsn, parseWalName } from '../domain/wal.ts'
import { checkFirstPage, describeWalPage, longHeaderSize, readWalPageHeader } from '../domain/wal-page.ts'
import type { StoredWalObject } from '../repository/wal.ts'

/** Chunks of the decompressed: with small ones more time goes into passing them on than into all the rest. */
const chunkBytes = 1024 * 1024

/** A frame that wants a larger window than this is none of ours: `zstd --long` by hand goes to 2 GiB. */
const windowLog = 27

/** Stored in no more than this, a segment is read as a whole: that takes two thirds of the work of streams. */
const wholeBytes = 32 * 1024 * 1024
/** Room for a segment of the usual size in one piece, and for a byte that is too much. */
const roomBytes = 16 * 1024 * 1024 + 1024

const params = { [constants.ZSTD_d_windowLogMax]: windowLog }
const decompress = promisify(zstdDecompress)

interface Progress {
  readonly signal: AbortSignal
  readonly alive: () => void
}

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
  const stored: Buffer[] = []
  for await (const chunk of body as AsyncIterable<Buffer>) {
    progress.signal.throwIfAborted()
    progress.alive()
    stored.push(chunk)
  }
  const plain = await wholeOf(Buffer.concat(stored))
  if (plain === null) return writeStream(object, Readable.from(stored), path, progress)
  const segmentSize = segmentSizeOf(object, plain)
  checkContent(object, plain.length, segmentSize, hashOf('sha256', plain))
  const file = await open(path, 'wx', 0o600)
  try {
    await file.writeFile(plain)
    if (plain.length < segmentSize) await file.truncate(segmentSize)
  } finally {
    await file.close()
  }
  if (usedOf(object, segmentSize) < plain.length) await pad(path, usedOf(object, segmentSize), segmentSize)
  return segmentSize
}

/** Null for what is better read as a stream, which also tells what is wrong with it. */
async function wholeOf(stored: Buffer): Promise<Buffer | null> {
  try {
    return await decompress(stored, { chunkSize: roomBytes, maxOutputLength: 4 * roomBytes, params })
  } catch {
    return null
  }
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
    createZstdDecompress({ chunkSize: chunkBytes, params }).on(
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

/** Of the segment that a header tells of; fails when that is not the one of the name. */
function segmentSizeOf(object: StoredWalObject, head: Buffer): number {
  if (head.length < longHeaderSize) throw invalid(object, 'it is too short')
  const header = readWalPageHeader(head)
  const id = header === null ? null : parseWalName(object.name.slice(0, 24), header.segmentSize)
  if (header === null || id?.kind !== 'segment') throw invalid(object, describeWalPage('not-wal', head))
  const { systemIdentifier } = object
  const facts = { systemIdentifier, major: null, history: null, segmentSize: header.segmentSize }
  const problem = checkFirstPage(head, header.segmentSize, { ...id, ...facts })
  if (problem !== null) throw invalid(object, describeWalPage(problem, head))
  return header.segmentSize
}

/** So many bytes of it are WAL: all of a segment, and of a partial those up to its end. */
function usedOf({ name }: StoredWalObject, segmentSize: number): number {
  const file = parseWalName(name, segmentSize)
  return file?.kind === 'partial' && file.end !== null
    ? Number(file.end - firstLsn(file.segment, segmentSize))
    : segmentSize
}

function checkContent(object: StoredWalObject, length: number, segmentSize: number, sha256: string): void {
  if (length > segmentSize) throw invalid(object, 'it is longer than a segment')
  if (!sha256.startsWith(object.hash ?? ' ')) throw invalid(object, 'its content is not that of its hash')
  const used = usedOf(object, segmentSize)
  if (length < used) throw invalid(object, `it has ${length} bytes instead of ${used}`)
}

/** What comes after its end is zeros. */
async function pad(path: string, used: number, segmentSize: number): Promise<void> {
  await truncate(path, used)
  await truncate(path, segmentSize)
}

function invalid({ name }: StoredWalObject, what: string): LifeboatError {
  return new LifeboatError('wal-invalid', `what is stored as ${name} is not whole: ${what}`, {
    hint: 'get this file from another repository or the archive, and look at the disk of this one',
  })
}
