import { createHash } from 'node:crypto'
import { Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createZstdDecompress } from 'node:zlib'
import { LifeboatError } from '../domain/errors.ts'
import type { TimelineHistory } from '../domain/timeline.ts'
import { firstLsn, parseWalName } from '../domain/wal.ts'
import type { StoredWalObject, WalStore } from '../repository/wal.ts'
import { PageCheck } from './page-check.ts'
import { type FoundProblem, found } from './problems.ts'

export interface CheckOptions {
  readonly segmentSize: number
  /** Of the timeline of the file; null: not known. */
  readonly history: TimelineHistory | null
  readonly signal: AbortSignal
  /** Called as often as something of the file comes. */
  readonly alive?: () => void
}

/** More came than a segment has. */
class TooLong extends Error {}

/**
 * Reads a stored segment or partial to its end, and holds it against its name: decompression, length, the headers of its
 * pages, SHA-256. Null if all is well. Memory does not grow with it, whatever it decompresses to.
 *
 * @throws LifeboatError `object-missing` when it is gone, `storage-failed`, `cancelled`; `identity-missing`, `identity-mismatch`
 */
export async function checkWalObject(
  wal: Pick<WalStore, 'read'>,
  object: StoredWalObject,
  { segmentSize, history, signal, alive = () => {} }: CheckOptions,
): Promise<FoundProblem | null> {
  const file = parseWalName(object.name, segmentSize)
  if (file === null || (file.kind !== 'segment' && file.kind !== 'partial')) return found('impossible-name')
  const { kind, timeline, segment } = file
  const { systemIdentifier } = object
  // A partial of the server's own ends somewhere, and old bytes follow.
  const end =
    kind === 'segment' ? segmentSize : file.end === null ? 0 : Number(file.end - firstLsn(segment, segmentSize))
  const pages = new PageCheck({ timeline, segment, segmentSize, systemIdentifier, major: null, history }, end)
  const hash = createHash('sha256')
  let length = 0
  try {
    const sink = new Writable({
      write(chunk: Buffer, _encoding, done) {
        alive()
        length += chunk.length
        if (length > segmentSize) return done(new TooLong())
        hash.update(chunk)
        pages.push(chunk)
        done()
      },
    })
    await pipeline(await wal.read(object, { signal }), createZstdDecompress(), sink, { signal })
  } catch (error) {
    signal.throwIfAborted()
    return unpackingProblem(error, length)
  }
  const { first, later } = pages.end()
  if (first !== null) return first
  const isWhole = kind === 'partial' && file.end !== null ? length >= end : length === segmentSize
  if (!isWhole) return found('short', `${length} bytes`)
  if (hash.digest('hex').slice(0, 12) !== object.hash) return found('other-content')
  return later
}

/** @throws what is not the fault of the file */
function unpackingProblem(error: unknown, length: number): FoundProblem {
  if (error instanceof TooLong) return found('too-long')
  // Only what is encrypted is read with this: it is torn or altered.
  if (error instanceof LifeboatError && error.code === 'wal-invalid') return found('damaged', error.message)
  const code = error instanceof Error && 'code' in error && !(error instanceof LifeboatError) ? String(error.code) : ''
  if (code === 'Z_BUF_ERROR') return found('cut-off')
  if (code === 'ZSTD_error_prefix_unknown' && length === 0) return found('not-zstd')
  if (code.startsWith('ZSTD_error')) return found('damaged', code.slice('ZSTD_error_'.length).replaceAll('_', ' '))
  throw error
}
