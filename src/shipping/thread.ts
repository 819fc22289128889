import { createHash, hash as hashOnce } from 'node:crypto'
import { closeSync, constants, fstatSync, openSync, readSync, unlinkSync } from 'node:fs'
import { parentPort } from 'node:worker_threads'
import { constants as zlib, zstdCompressSync } from 'node:zlib'
import { checkFirstPage, describeWalPage, readWalPageHeader } from '../domain/wal-page.ts'
import { SegmentPages } from '../domain/wal-pages.ts'
import {
  type Answer,
  type FileIdentity,
  type Head,
  type PlainFile,
  pieceBytes,
  type Question,
  type SegmentQuestion,
  type Whole,
} from './question.ts'

// Synchronous calls throughout: the thread is there to wait.

const headBytes = 8192
const mostPlainBytes = 65_536
/** As large as the largest piece so far, and used again. */
let space = Buffer.alloc(0)

class Failed extends Error {
  readonly code: string
  constructor(code: string, message: string) {
    super(message)
    this.code = code
  }
}

function withFile<T>(path: string, work: (descriptor: number, identity: FileIdentity) => T): T {
  const descriptor = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  try {
    const before = identify(descriptor)
    const result = work(descriptor, before)
    if (identify(descriptor).identity !== before.identity) throw new Failed('CHANGED', 'it was written to meanwhile')
    return result
  } finally {
    closeSync(descriptor)
  }
}

function identify(descriptor: number): FileIdentity {
  const stats = fstatSync(descriptor, { bigint: true })
  if (!stats.isFile()) throw new Failed('', 'it is no file')
  return {
    identity: `${stats.dev}:${stats.ino}:${stats.size}:${stats.mtimeNs}`,
    bytes: Number(stats.size),
    modifiedMs: Number(stats.mtimeMs),
  }
}

/** Fills a buffer from a place of the file. Returns what there was. */
function fill(descriptor: number, buffer: Buffer, position: number): Buffer {
  let filled = 0
  while (filled < buffer.length) {
    const read = readSync(descriptor, buffer, filled, buffer.length - filled, position + filled)
    if (read === 0) break
    filled += read
  }
  return buffer.subarray(0, filled)
}

function spaceOf(bytes: number): Buffer {
  if (space.length < bytes) space = Buffer.allocUnsafeSlow(bytes)
  return space.subarray(0, bytes)
}

function compress(bytes: Buffer, level: number): Uint8Array<ArrayBuffer> {
  const made = zstdCompressSync(bytes, {
    chunkSize: 1024 * 1024,
    // Of all input at once: so the frame tells its content's size.
    params: { [zlib.ZSTD_c_compressionLevel]: level, [zlib.ZSTD_c_checksumFlag]: 1 },
  })
  // In memory of its own, no larger than it is: it is given away.
  return made.byteLength === made.buffer.byteLength ? new Uint8Array(made.buffer) : new Uint8Array(made)
}

function headOf(descriptor: number, file: FileIdentity, expected: SegmentQuestion): Head {
  const first = fill(descriptor, Buffer.alloc(Math.min(headBytes, file.bytes)), 0)
  const problem = checkFirstPage(first, file.bytes, { ...expected, systemIdentifier: null, major: null, history: null })
  return {
    ...file,
    problem,
    systemIdentifier: readWalPageHeader(first)?.systemIdentifier ?? null,
    description: problem === null ? null : describeWalPage(problem, first),
  }
}

function wholeOf(descriptor: number, file: FileIdentity, expected: SegmentQuestion, level: number | null): Whole {
  const head = headOf(descriptor, file, expected)
  const isOnePiece = file.bytes <= pieceBytes
  const all = createHash('sha256')
  let pages: SegmentPages | null = null
  let compressed: Uint8Array | null = null
  for (let at = 0; at < file.bytes; at += pieceBytes) {
    const bytes = fill(descriptor, spaceOf(Math.min(pieceBytes, file.bytes - at)), at)
    const header = at === 0 && expected.checkPages && head.problem === null ? readWalPageHeader(bytes) : null
    if (header !== null) pages = new SegmentPages(header, expected.timeline)
    pages?.add(bytes)
    all.update(bytes)
    if (isOnePiece && level !== null) compressed = compress(bytes, level)
  }
  return { ...head, sha256: all.digest('hex'), isDamaged: pages !== null && !pages.isSound(), compressed }
}

function textOf(descriptor: number, file: FileIdentity): PlainFile {
  if (file.bytes > mostPlainBytes) return { ...file, content: null }
  return { ...file, content: fill(descriptor, Buffer.allocUnsafeSlow(file.bytes), 0) }
}

function answer(question: Question): Answer {
  switch (question.what) {
    case 'head':
      return { head: withFile(question.path, (file, identity) => headOf(file, identity, question.expected)) }
    case 'whole': {
      const { path, expected, level } = question
      return { whole: withFile(path, (file, identity) => wholeOf(file, identity, expected, level)) }
    }
    case 'text':
      return { text: withFile(question.path, textOf) }
    case 'unlink': {
      withFile(question.path, (_, { identity }) => {
        if (identity !== question.identity) throw new Failed('CHANGED', 'it is another file now')
      })
      unlinkSync(question.path)
      return { unlinked: true }
    }
    case 'bytes': {
      const bytes = Buffer.from(question.bytes.buffer, question.bytes.byteOffset, question.bytes.byteLength)
      return { compressed: { sha256: hashOnce('sha256', bytes), compressed: compress(bytes, question.level) } }
    }
  }
}

function given(made: Answer): ArrayBuffer[] {
  const bytes = 'whole' in made ? made.whole.compressed : 'compressed' in made ? made.compressed.compressed : null
  return bytes === null ? [] : [bytes.buffer as ArrayBuffer]
}

parentPort?.on('message', (question: Question) => {
  let made: Answer
  try {
    made = answer(question)
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    made = { code: code ?? '', message }
  }
  parentPort?.postMessage(made, given(made))
})
