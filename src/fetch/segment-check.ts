import { constants } from 'node:zlib'
import { LifeboatError } from '../domain/errors.ts'
import { firstLsn, parseWalName } from '../domain/wal.ts'
import { checkFirstPage, describeWalPage, longHeaderSize, readWalPageHeader } from '../domain/wal-page.ts'
import type { StoredWalObject } from '../repository/wal.ts'

/** What of a stored segment is compared with its content. */
export type NamedSegment = Pick<StoredWalObject, 'name' | 'systemIdentifier' | 'hash'>

/** A frame that wants a larger window than this is none of ours: `zstd --long` by hand goes to 2 GiB. */
const windowLog = 27

export const zstdParams = { [constants.ZSTD_d_windowLogMax]: windowLog }

/** Room for a segment of the usual size in one piece, and for a byte that is too much. */
const roomBytes = 16 * 1024 * 1024 + 1024

/** How all of a segment is decompressed in one go: a third less work than by a stream. */
export const wholeFrame = { chunkSize: roomBytes, maxOutputLength: 4 * roomBytes, params: zstdParams }

/** Of the segment that a header tells of; fails when that is not the one of the name. */
export function segmentSizeOf(object: NamedSegment, head: Buffer): number {
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
export function usedOf({ name }: NamedSegment, segmentSize: number): number {
  const file = parseWalName(name, segmentSize)
  return file?.kind === 'partial' && file.end !== null
    ? Number(file.end - firstLsn(file.segment, segmentSize))
    : segmentSize
}

/** @throws LifeboatError `wal-invalid` */
export function checkContent(object: NamedSegment, length: number, segmentSize: number, sha256: string): void {
  if (length > segmentSize) throw invalid(object, 'it is longer than a segment')
  if (!sha256.startsWith(object.hash ?? ' ')) throw invalid(object, 'its content is not that of its hash')
  const used = usedOf(object, segmentSize)
  if (length < used) throw invalid(object, `it has ${length} bytes instead of ${used}`)
}

export function invalid({ name }: NamedSegment, what: string): LifeboatError {
  return new LifeboatError('wal-invalid', `what is stored as ${name} is not whole: ${what}`, {
    hint: 'get this file from another repository or the archive, and look at the disk of this one',
  })
}
