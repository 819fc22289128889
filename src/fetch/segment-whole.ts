import { hash } from 'node:crypto'
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs'
import { zstdDecompressSync } from 'node:zlib'
import { checkContent, type NamedSegment, segmentSizeOf, usedOf, wholeFrame } from './segment-check.ts'

/**
 * Given more at once, ext4 takes 2 MiB of memory in one piece: just what a virtual machine has given back to its host. A segment
 * then took 20 to 40 ms instead of 4.
 */
const pieceBytes = 256 * 1024

/**
 * Writes a segment to a new file from all of what is stored of it, checked, in one go, in a thread of its own. Gives the
 * segment size; null, and writes nothing, for what is better read as a stream, which also tells what is wrong with it.
 *
 * @throws LifeboatError `wal-invalid`; what the file system fails with
 */
export function writeWhole(object: NamedSegment, stored: Uint8Array, path: string): number | null {
  const plain = decompressed(stored)
  if (plain === null) return null
  const segmentSize = segmentSizeOf(object, plain)
  checkContent(object, plain.length, segmentSize, hash('sha256', plain))
  const used = usedOf(object, segmentSize)
  const file = openSync(path, 'wx', 0o600)
  try {
    for (let done = 0; done < used; ) done += writeSync(file, plain, done, Math.min(used - done, pieceBytes))
    if (used < segmentSize) ftruncateSync(file, segmentSize) // what comes after its end is zeros
  } finally {
    closeSync(file)
  }
  return segmentSize
}

function decompressed(stored: Uint8Array): Buffer | null {
  try {
    return zstdDecompressSync(stored, wholeFrame)
  } catch {
    return null
  }
}
