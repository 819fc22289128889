import type { InspectionState } from './external.ts'

/** The life of a file: it grows, is finished but not read yet (`pending`), and then is what its inspection found. */
export const fileStates = [
  'growing',
  'pending',
  'sound',
  'unchecked',
  'empty',
  'truncated',
  'wrong-format',
  'corrupt',
] as const
export type FileState = 'growing' | 'pending' | InspectionState

/** What a look at one name in a directory gives. */
export interface FileFacts {
  readonly isDirectory: boolean
  readonly bytes: number
  /** Milliseconds since 1970. */
  readonly modified: number
  /** When anything about it changed, its name among that. */
  readonly changed: number
  readonly device: number
  readonly inode: number
}

/** The same bytes as far as can be told without reading them: whoever writes to a file changes one of these. */
export function identityOf({ device, inode, bytes, modified }: FileFacts): string {
  return `${device}:${inode}:${bytes}:${modified}`
}

/** A file of another place, by what a rename does not change. */
export function inodeOf({ device, inode }: FileFacts): string {
  return `${device}:${inode}`
}

export interface Finishing {
  /** What it was at the look before; null when it was not there. */
  readonly before: FileFacts | null
  /** It was there under another name before. */
  readonly wasElsewhere: boolean
  /** Somebody holds a lock for writing on it. */
  readonly isLocked: boolean
  readonly now: Date
  readonly quietMs: number
}

/**
 * Whether nobody writes to a file any more.
 *
 * It was renamed into place: whoever renames a file has written it. That is seen by its inode, which had another name at
 * the look before, or, for a file that is new, by its times: a write sets both, a rename only that of change.
 * Or it has not changed for the quiet time. A time of the file that lies in the future (a clock that was set back) says
 * nothing: then it is finished when two looks saw the same.
 */
export function isFinished(file: FileFacts, { before, wasElsewhere, isLocked, now, quietMs }: Finishing): boolean {
  if (isLocked) return false
  if (wasElsewhere || (before === null && file.bytes > 0 && file.changed > file.modified)) return true
  const age = now.getTime() - file.modified
  if (age >= 0) return age >= quietMs
  return before !== null && identityOf(before) === identityOf(file)
}

/** Smaller than this share of the median of its predecessors, a dump has probably lost something. */
export function isShrunken(bytes: number, earlier: readonly number[], share: number): boolean {
  if (earlier.length < 3) return false
  const sorted = [...earlier].sort((a, b) => a - b)
  const middle = sorted[Math.floor(sorted.length / 2)] as number
  return bytes < middle * share
}
