import { constants } from 'node:fs'
import { open, stat } from 'node:fs/promises'

/** No crontab and no script that people wrote is longer. */
export const maxTextBytes = 256 * 1024

/** `refused` is `missing` when there is nothing; else it says in words why it was not read. */
export type ReadText = { readonly text: string } | { readonly refused: string }

/**
 * Reads a small text file, and never waits for it: FIFOs, devices, directories, binaries and what is too large are refused.
 * Links are followed, since crontabs and scripts often are links. Bytes that are not UTF-8 become U+FFFD.
 */
export async function readSmallText(path: string): Promise<ReadText> {
  try {
    // Without O_NONBLOCK the open of a FIFO waits for a writer.
    const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
    try {
      const stats = await handle.stat()
      if (!stats.isFile()) return { refused: 'is no regular file' }
      if (stats.size > maxTextBytes) return { refused: `is larger than ${maxTextBytes / 1024} KiB` }
      const buffer = Buffer.alloc(maxTextBytes + 1)
      let length = 0
      for (;;) {
        const { bytesRead } = await handle.read(buffer, length, buffer.length - length, length)
        length += bytesRead
        if (length > maxTextBytes) return { refused: `is larger than ${maxTextBytes / 1024} KiB` }
        if (bytesRead === 0) break
      }
      const bytes = buffer.subarray(0, length)
      return bytes.includes(0) ? { refused: 'is binary' } : { text: bytes.toString('utf8') }
    } finally {
      await handle.close()
    }
  } catch (error) {
    return { refused: refusalOf(error) }
  }
}

/** A file that may hold passwords; null unless it is this OS user's alone to read, as libpq demands. */
export async function readSecretText(path: string): Promise<string | null> {
  const stats = await stat(path).catch(() => null)
  if (stats === null || (stats.mode & 0o077) !== 0) return null
  const read = await readSmallText(path)
  return 'text' in read ? read.text : null
}

/** Why something could not be looked at, in words; `missing` when it is not there. */
export function refusalOf(error: unknown): string {
  const { code = 'unknown reason' } = error as NodeJS.ErrnoException
  if (code === 'ENOENT' || code === 'ENOTDIR') return 'missing'
  return code === 'EACCES' || code === 'EPERM' ? 'may not be read by this OS user' : `cannot be read (${code})`
}
