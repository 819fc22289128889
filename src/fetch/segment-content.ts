import { createHash } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { truncate } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { constants, createZstdDecompress } from 'node:zlib'
import { LifeboatError } from '../domain/errors.ts'
import { firstLsn, parseWalName } from '../domain/wal.ts'
import { checkFirstPage, describeWalPage, longHeaderSize, readWalPageHeader } from '../domain/wal-page.ts'
import type { StoredWalObject } from '../repository/wal.ts'

/** Chunks of the decompressed: with small ones more time goes into passing them on than into all the rest. */
const chunkBytes = 1024 * 1024

/** A frame that wants a larger window than this is none of ours: `zstd --long` by hand goes to 2 GiB. */
const windowLog = 27

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
  { signal, alive }: { readonly signal: AbortSignal; readonly alive: () => void },
): Promise<number> {
  const { name, hash, systemIdentifier } = object
  const segment = name.slice(0, 24)
  const sha256 = createHash('sha256')
  let [head, length, segmentSize] = [Buffer.alloc(0), 0, 0]
  const invalid = (what: string) =>
    new LifeboatError('wal-invalid', `what is stored as ${name} is not whole: ${what}`, {
      hint: 'get this file from another repository or the archive, and look at the disk of this one',
    })
  const look = () => {
    const header = readWalPageHeader(head)
    const id = header === null ? null : parseWalName(segment, header.segmentSize)
    if (header === null || id?.kind !== 'segment') throw invalid(describeWalPage('not-wal', head))
    const facts = { systemIdentifier, major: null, history: null, segmentSize: header.segmentSize }
    const problem = checkFirstPage(head, header.segmentSize, { ...id, ...facts })
    if (problem !== null) throw invalid(describeWalPage(problem, head))
    segmentSize = header.segmentSize
  }
  const out = createWriteStream(path, { flags: 'wx', mode: 0o600, highWaterMark: chunkBytes })
  await pipeline(
    body,
    createZstdDecompress({ chunkSize: chunkBytes, params: { [constants.ZSTD_d_windowLogMax]: windowLog } }).on(
      'error',
      () => {}, // the pipeline tells
    ),
    async function* checked(chunks: AsyncIterable<Buffer>) {
      for await (const chunk of chunks) {
        alive()
        if (segmentSize === 0) {
          head = Buffer.concat([head, chunk.subarray(0, longHeaderSize)])
          if (head.length >= longHeaderSize) look()
        }
        length += chunk.length
        if (segmentSize > 0 && length > segmentSize) throw invalid('it is longer than a segment')
        sha256.update(chunk)
        yield chunk
      }
    },
    out,
    { signal },
  ).catch(async (error: NodeJS.ErrnoException) => {
    // It is opened in the background: whoever removes the file now would be too early.
    if (!out.closed) await new Promise<void>((resolve) => out.once('close', () => resolve()))
    throw error.code?.startsWith('Z') ? invalid(`zstd: ${error.message}`) : error
  })
  if (segmentSize === 0) throw invalid('it is too short')
  if (!sha256.digest('hex').startsWith(hash ?? ' ')) throw invalid('its content is not that of its hash')
  const file = parseWalName(name, segmentSize)
  const end = file?.kind === 'partial' ? file.end : null
  if (end === null) {
    if (length !== segmentSize) throw invalid(`it has ${length} bytes instead of ${segmentSize}`)
    return segmentSize
  }
  const used = Number(end - firstLsn(file?.kind === 'partial' ? file.segment : 0, segmentSize))
  if (length < used) throw invalid(`it has ${length} bytes instead of ${used}`)
  await truncate(path, used)
  await truncate(path, segmentSize)
  return segmentSize
}
