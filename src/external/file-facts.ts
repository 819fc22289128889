import type { Stats } from 'node:fs'
import { lstat, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { FileFacts } from '../domain/external-file.ts'

/** What pg_dump puts into a directory. Any other directory is not looked into: it may be anything, and large. */
const member = /^(?:toc\.dat|\d+\.dat(?:\.\w+)?|blobs?_?\d*\.(?:toc|dat)(?:\.\w+)?)$/

/** Whether a directory with these names in it is a dump in directory format, or becomes one. */
export function isDumpDirectory(names: readonly string[]): boolean {
  return names.some((name) => member.test(name))
}

/**
 * The facts of a file, or of a directory with the files in it: while pg_dump writes to one of them for an hour, nothing
 * changes about the directory itself. A rename changes the directory alone, so that of the changes only its own counts:
 * whoever copies members with their times changes those.
 */
export function factsOf(stats: Stats, members: readonly Stats[]): FileFacts {
  const facts = {
    isDirectory: stats.isDirectory(),
    bytes: members.length > 0 ? 0 : stats.size,
    modified: stats.mtimeMs,
    changed: stats.ctimeMs,
    device: stats.dev,
    inode: stats.ino,
  }
  for (const { size, mtimeMs } of members) {
    facts.bytes += size
    facts.modified = Math.max(facts.modified, mtimeMs)
  }
  return facts
}

/**
 * Looks at one file or dump in directory format, without opening it. Null: there is none (any more), or it is a link, a
 * device or the like. One call into the system at a time: a disk that hangs holds one thread, not all.
 */
export async function lookAtFile(path: string): Promise<FileFacts | null> {
  try {
    const stats = await lstat(path)
    if (stats.isFile()) return factsOf(stats, [])
    return stats.isDirectory() ? factsOf(stats, await membersOf(path)) : null
  } catch {
    return null
  }
}

async function membersOf(path: string): Promise<readonly Stats[]> {
  const names = await readdir(path).catch(() => [])
  const members: Stats[] = []
  for (const name of isDumpDirectory(names) ? names : []) {
    const stats = await lstat(join(path, name)).catch(() => null)
    if (stats?.isFile()) members.push(stats)
  }
  return members
}
