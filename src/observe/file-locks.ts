import { readFile } from 'node:fs/promises'

/**
 * The files on which somebody holds a lock for writing (flock, fcntl), as `device:inode`. Linux only; elsewhere, and where
 * /proc is closed, none is seen.
 *
 * Source: proc_locks(5), makedev(3)
 */
export async function lockedFiles(): Promise<ReadonlySet<string>> {
  const text = await readFile('/proc/locks', 'utf8').catch(() => '')
  const found = new Set<string>()
  // `1: FLOCK  ADVISORY  WRITE 708 08:01:393226 0 EOF`; a line with `->` waits for its lock.
  for (const match of text.matchAll(/^\d+: \w+ +\w+ +WRITE +-?\d+ +([0-9a-f]+):([0-9a-f]+):(\d+) /gm)) {
    const [major, minor] = [Number.parseInt(match[1] ?? '', 16), Number.parseInt(match[2] ?? '', 16)]
    found.add(`${((major & 0xfff) << 8) | (minor & 0xff) | ((minor & 0xfff00) << 12)}:${match[3]}`)
  }
  return found
}
