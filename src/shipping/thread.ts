import { createHash, hash as hashOnce } from 'node:crypto'
import { closeSync, constants, fstatSync, openSync, readSync, unlinkSync } from 'node:fs'
import { parentPort } from 'node:worker_threads'
import { checkFirstPage, describeWalPage, readWalPageHeader } from '../domain/wal-page.ts'
import { SegmentPages } from '../domain/wal-pages.ts'
import { Frame } from './frame.ts'
import {
  type Answer,
  type FileIdentity,
  type Head,
  mostKeptBytes,
  type PlainFile,
  type Question,
  type SegmentQuestion,
  type Whole,
} from './question.ts'

// Files are read by synchronous calls: the thread is there to wait.

const headBytes = 8192
const mostPlainBytes = 65_536
/** A piece of a file at a time: what a thread takes does not grow with the size of segments. */
const piece = Buffer.allocUnsafeSlow(1024 * 1024)

class Failed extends Error {
  readonly code: string
  constructor(code: string, message: string) {
    super(message)
    this.code = code
  }
}

async function withFile<T>(
  path: string,
  work: (descriptor: number, identity: FileIdentity) => T | Promise<T>,
): Promise<T> {
  const descriptor = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  try {
    const before = identify(descriptor)
    const result = await work(descriptor, before)
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

async function wholeOf(
  descriptor: number,
  file: FileIdentity,
  expected: SegmentQuestion,
  level: number | null,
): Promise<Whole> {
  const head = headOf(descriptor, file, expected)
  const all = createHash('sha256')
  const frame = level === null || file.bytes > mostKeptBytes ? null : new Frame(file.bytes, level)
  let pages: SegmentPages | null = null
  try {
    for (let at = 0; at < file.bytes; at += piece.length) {
      const bytes = fill(descriptor, piece.subarray(0, Math.min(piece.length, file.bytes - at)), at)
      const header = at === 0 && expected.checkPages && head.problem === null ? readWalPageHeader(bytes) : null
      if (header !== null) pages = new SegmentPages(header, expected.timeline)
      pages?.add(bytes)
      all.update(bytes)
      await frame?.add(bytes)
    }
    const compressed = (await frame?.end()) ?? null
    return { ...head, sha256: all.digest('hex'), isDamaged: pages !== null && !pages.isSound(), compressed }
  } finally {
    frame?.destroy()
  }
}

function textOf(descriptor: number, file: FileIdentity): PlainFile {
  if (file.bytes > mostPlainBytes) return { ...file, content: null }
  return { ...file, content: fill(descriptor, Buffer.allocUnsafeSlow(file.bytes), 0) }
}

async function answer(question: Question): Promise<Answer> {
  switch (question.what) {
    case 'head':
      return { head: await withFile(question.path, (file, identity) => headOf(file, identity, question.expected)) }
    case 'whole': {
      const { path, expected, level } = question
      return { whole: await withFile(path, (file, identity) => wholeOf(file, identity, expected, level)) }
    }
    case 'text':
      return { text: await withFile(question.path, textOf) }
    case 'unlink': {
      await withFile(question.path, (_, { identity }) => {
        if (identity !== question.identity) throw new Failed('CHANGED', 'it is another file now')
      })
      unlinkSync(question.path)
      return { unlinked: true }
    }
    case 'bytes': {
      const bytes = Buffer.from(question.bytes.buffer, question.bytes.byteOffset, question.bytes.byteLength)
      const frame = new Frame(bytes.length, question.level)
      await frame.add(bytes)
      return { compressed: { sha256: hashOnce('sha256', bytes), compressed: await frame.end() } }
    }
  }
}

function given(made: Answer): ArrayBuffer[] {
  const bytes = 'whole' in made ? made.whole.compressed : 'compressed' in made ? made.compressed.compressed : null
  return bytes === null ? [] : [bytes.buffer as ArrayBuffer]
}

async function reply(question: Question): Promise<void> {
  const made = await answer(question).catch((error: NodeJS.ErrnoException) => ({
    code: error.code ?? '',
    message: error.message,
  }))
  parentPort?.postMessage(made, given(made))
}

parentPort?.on('message', (question: Question) => void reply(question))
