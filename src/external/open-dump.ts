import { constants } from 'node:fs'
import { type FileHandle, lstat, open, opendir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { LifeboatError } from '../domain/errors.ts'
import { headBytes, tailBytes } from '../domain/external.ts'

/** Neither follows a link nor waits for a FIFO that took the file's place. */
const openFlags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK

/** The two ends of a regular file. */
export interface FileEnds {
  readonly kind: 'file'
  readonly bytes: number
  readonly head: Buffer
  readonly tail: Buffer
}

/** One file of a dump in directory format. */
export interface Member {
  readonly name: string
  readonly bytes: number
}

export type Opened =
  | FileEnds
  | { readonly kind: 'directory'; readonly bytes: number; readonly members: readonly Member[] }
  | { readonly kind: 'other'; readonly what: string }

/**
 * Looks at what is at a path without ever waiting for it: a FIFO, a device or a link that somebody has put there is told
 * of and not opened. Fails with the error of the system.
 */
export async function openDump(path: string): Promise<Opened> {
  const stats = await lstat(path)
  if (stats.isDirectory()) return openDirectory(path)
  if (!stats.isFile()) return { kind: 'other', what: stats.isSymbolicLink() ? 'a symbolic link' : 'no regular file' }
  const handle = await open(path, openFlags)
  try {
    const { size: bytes } = await handle.stat()
    const head = await readAt(handle, 0, Math.min(bytes, headBytes))
    const from = Math.max(0, bytes - tailBytes)
    return { kind: 'file', bytes, head, tail: await readAt(handle, from, bytes - from) }
  } finally {
    await handle.close()
  }
}

async function readAt(handle: FileHandle, from: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length)
  const { bytesRead } = await handle.read(buffer, 0, length, from)
  return buffer.subarray(0, bytesRead)
}

/** The last bytes of a regular file, at most so many. Fails with the error of the system. */
export async function readTail(path: string, length: number): Promise<Buffer> {
  const handle = await open(path, openFlags)
  try {
    const { size } = await handle.stat()
    return await readAt(handle, Math.max(0, size - length), Math.min(size, length))
  } finally {
    await handle.close()
  }
}

/**
 * The bytes of every file of a dump, one after the other; its name is empty where the dump is a file itself. Fails with the
 * error of the system, also for what has become a link or a FIFO.
 */
export async function* readDump(path: string): AsyncGenerator<{ readonly name: string; readonly bytes: Readable }> {
  const opened = await openDump(path)
  if (opened.kind === 'other') throw new LifeboatError('storage-failed', `${path} has become ${opened.what}`)
  const names = opened.kind === 'directory' ? opened.members.map(({ name }) => name).sort() : ['']
  for (const name of names) {
    const handle = await open(join(path, name), openFlags)
    yield { name, bytes: handle.createReadStream({ highWaterMark: 256 * 1024 }) }
  }
}

/**
 * A dump in directory format is flat: what lies deeper is not its. pg_restore would follow a link in it to anywhere, and
 * wait for a FIFO for ever.
 */
async function openDirectory(path: string): Promise<Opened> {
  const members: Member[] = []
  for await (const entry of await opendir(path)) {
    if (entry.isDirectory()) continue
    if (!entry.isFile())
      return { kind: 'other', what: `a directory with ${JSON.stringify(entry.name)}, no regular file` }
    members.push({ name: entry.name, bytes: (await lstat(join(path, entry.name))).size })
  }
  return { kind: 'directory', bytes: members.reduce((sum, { bytes }) => sum + bytes, 0), members }
}
