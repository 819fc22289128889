import { constants } from 'node:fs'
import { type FileHandle, lstat, open, opendir } from 'node:fs/promises'
import { join } from 'node:path'
import { headBytes, tailBytes } from '../domain/external.ts'

/** The two ends of a regular file. */
export interface FileEnds {
  readonly kind: 'file'
  readonly bytes: number
  readonly head: Buffer
  readonly tail: Buffer
}

export type Opened =
  | FileEnds
  | { readonly kind: 'directory'; readonly bytes: number; readonly hasContents: boolean }
  | { readonly kind: 'other'; readonly what: string }

/**
 * Looks at what is at a path without ever waiting for it: a FIFO, a device or a link that somebody has put there is told
 * of and not opened. Fails with the error of the system.
 */
export async function openDump(path: string): Promise<Opened> {
  const stats = await lstat(path)
  if (stats.isDirectory()) return openDirectory(path)
  if (!stats.isFile()) return { kind: 'other', what: stats.isSymbolicLink() ? 'a symbolic link' : 'no regular file' }
  const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
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

/** A dump in directory format is flat: what lies deeper is not its. */
async function openDirectory(path: string): Promise<Opened> {
  let bytes = 0
  let hasContents = false
  for await (const entry of await opendir(path)) {
    if (!entry.isFile()) continue
    bytes += (await lstat(join(path, entry.name))).size
    hasContents ||= entry.name === 'toc.dat'
  }
  return { kind: 'directory', bytes, hasContents }
}
