import type { WalPageProblem } from '../domain/wal-page.ts'

/** What a thread is asked. Files are opened without following links and without waiting for whoever feeds a pipe. */
export type Question =
  /** Looks at the first page alone. */
  | { readonly what: 'head'; readonly path: string; readonly expected: SegmentQuestion }
  /** Reads the whole file once. Compressed only with a level, and only when it is none of the large ones. */
  | { readonly what: 'whole'; readonly path: string; readonly expected: SegmentQuestion; readonly level: number | null }
  /** Reads a history or label. */
  | { readonly what: 'text'; readonly path: string }
  /** Removes a file if it is still the one that was looked at. */
  | { readonly what: 'unlink'; readonly path: string; readonly identity: string }
  /** Hash and compression of bytes in memory. */
  | { readonly what: 'bytes'; readonly bytes: Uint8Array; readonly level: number }

export interface SegmentQuestion {
  readonly timeline: number
  readonly segment: number
  readonly segmentSize: number
  /** False for a partial: beyond its end lie pages of what the file was before. */
  readonly checkPages: boolean
}

/** A file as it was when it was read: another inode, length or time is another file. */
export interface FileIdentity {
  readonly identity: string
  readonly bytes: number
  readonly modifiedMs: number
}

export interface Head extends FileIdentity {
  readonly problem: WalPageProblem | null
  /** What the first page says; null where it is no such page. */
  readonly systemIdentifier: string | null
  /** What was found, for people; null without a problem. */
  readonly description: string | null
}

export interface Whole extends Head {
  /** Lower-case hex of all bytes. */
  readonly sha256: string
  /** A page within is not what it should be. */
  readonly isDamaged: boolean
  /** One zstd frame with its content size; null where it was not asked for, or the file is a large one. */
  readonly compressed: Uint8Array | null
}

export interface CompressedBytes {
  readonly sha256: string
  readonly compressed: Uint8Array
}

export interface PlainFile extends FileIdentity {
  /** Null: it has over 64 KiB, and is no such file. */
  readonly content: Uint8Array | null
}

export type Answer =
  | { readonly head: Head }
  | { readonly text: PlainFile }
  | { readonly whole: Whole }
  | { readonly compressed: CompressedBytes }
  | { readonly unlinked: true }
  /** `code` is the system's (`ENOENT`), `CHANGED` when the file was written to meanwhile, or empty. */
  | { readonly code: string; readonly message: string }

/** A segment of the usual size is kept in memory, compressed; a larger one is read again when it is stored. */
export const mostKeptBytes = 16 * 1024 * 1024
