import type { Inspection, InspectionState } from './external.ts'

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
  'unreadable',
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
  /** Its name is no UTF-8: it can be seen, but no program can be told to open it. */
  readonly isMisnamed?: boolean
}

/**
 * The same bytes as far as can be told without reading them: whoever writes to a file changes one of these. Of a dump in
 * directory format the files in it count too (see `lookAtFile`).
 */
export function identityOf({ device, inode, bytes, modified }: FileFacts): string {
  return `${device}:${inode}:${bytes}:${modified}`
}

/** A file of another place, by what a rename does not change. */
export function inodeOf({ device, inode }: FileFacts): string {
  return `${device}:${inode}`
}

export interface Finishing {
  /** It is there for the first time as far as was seen. */
  readonly isNew: boolean
  /** It came by its name in one piece: it was there under another one, or nobody was heard to write to it. */
  readonly hasArrived: boolean
  /** Somebody holds a lock for writing on it. */
  readonly isLocked: boolean
  /** For how long nothing about it has changed, milliseconds. */
  readonly stillMs: number
  readonly quietMs: number
}

/**
 * Whether nobody writes to a file any more; `growing`: somebody may.
 *
 * `arrived`: it was renamed into place, and whoever renames a file has written it.
 * `quiet`: it has not changed for the quiet time, or its times say that it was renamed: a write sets both, a rename only that
 * of change. So does a change of its mode: only of a file that is new it says anything. Of a quiet file it is worth asking
 * whether a program that waits for something still has it open.
 */
export function finishOf(
  file: FileFacts,
  { isNew, hasArrived, isLocked, stillMs, quietMs }: Finishing,
): 'growing' | 'arrived' | 'quiet' {
  if (isLocked) return 'growing'
  if (hasArrived && file.bytes > 0) return 'arrived'
  if (stillMs >= quietMs || (isNew && file.bytes > 0 && file.changed > file.modified)) return 'quiet'
  return 'growing'
}

/**
 * For how long a file has been as it is, by its own time, milliseconds. That is all there is to go by at the first look;
 * afterwards the time between looks counts, which no clock that is set and no file server with a clock of its own changes.
 */
export function stillFor(file: FileFacts, now: Date): number {
  return Math.max(0, now.getTime() - file.modified)
}

/** What a file is that nobody writes to any more. */
export function finishedState(facts: FileFacts, minBytes: number, inspection: Inspection | null): FileState {
  if (facts.isMisnamed) return 'unreadable'
  if (!facts.isDirectory && facts.bytes < Math.max(1, minBytes)) return 'empty'
  return inspection?.state ?? 'pending'
}

/** Smaller than this share of the median of its predecessors, a dump has probably lost something. */
export function isShrunken(bytes: number, earlier: readonly number[], share: number): boolean {
  if (earlier.length < 3) return false
  const sorted = [...earlier].sort((a, b) => a - b)
  const middle = sorted[Math.floor(sorted.length / 2)] as number
  return bytes < middle * share
}
