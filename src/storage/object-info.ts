import type { Stats } from 'node:fs'
import type { ObjectInfo } from './storage.ts'

/**
 * A file as an object. `ctime` is part of the version because nothing can set it back: a file that was altered and
 * given its old size and mtime again (`touch -r`, `rsync -t`) shows there.
 */
export function objectInfo(key: string, stats: Stats): ObjectInfo {
  return {
    key,
    bytes: stats.size,
    modified: stats.mtime,
    version: `${stats.ino}-${stats.size}-${stats.mtimeMs}-${stats.ctimeMs}`,
  }
}
