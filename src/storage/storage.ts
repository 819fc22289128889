import type { Readable } from 'node:stream'

/** One stored object. */
export interface ObjectInfo {
  /** Relative to the storage's root: segments joined by `/`, no leading slash. */
  readonly key: string
  readonly bytes: number
  readonly modified: Date
  /** Identity of these bytes: it changes whenever the object is replaced or altered (inode, size, mtime and ctime; an ETag). */
  readonly version: string
  /** What keeps it from being removed, where it is locked and was looked at by itself: listings do not tell. */
  readonly lock?: Lock
}

/** A lock that a bucket has on an object, whoever asks for its removal. */
export interface Lock {
  /** Null: until somebody lifts it (a legal hold). */
  readonly until: Date | null
}

/** What a server tells of an object beyond a listing, without giving its bytes. */
export interface ObjectDescription {
  readonly info: ObjectInfo
  /** SHA-256 of its bytes, hexadecimal, where the server keeps one. */
  readonly sha256: string | null
  /** How far the server is with copying it to another place; null: it does not. */
  readonly replication: 'pending' | 'completed' | 'failed' | 'replica' | null
}

/**
 * What `list` with a delimiter yields for everything below a common prefix (ends in `/`). In a directory nothing may be
 * below it: a folder that holds no object can be listed as well.
 */
export interface CommonPrefix {
  readonly prefix: string
}

export interface PutOptions {
  /** Fail with `object-exists` when the key is taken; atomic against other writers. Default: replace. */
  readonly ifAbsent?: boolean
  readonly signal?: AbortSignal
}

export interface GetOptions {
  /** First byte, inclusive. */
  readonly start?: number
  /** Last byte, inclusive. */
  readonly end?: number
  readonly signal?: AbortSignal
}

export interface ListOptions {
  /** Only keys after this one, in byte order. */
  readonly startAfter?: string
  /** Fold everything below the next `/` into one CommonPrefix. */
  readonly delimiter?: '/'
  readonly signal?: AbortSignal
}

/** An object that was opened. */
export interface StoredObject {
  /** What it is that is being read, even if the key has got another object since. */
  readonly info: ObjectInfo
  readonly body: Readable
}

/**
 * A place for objects: a directory or a bucket. Five methods, one contract suite (test/contract/storage.ts) that every
 * implementation passes; retries, measurements and the like are decorators around it.
 *
 * Keys are made by us (layout.ts), but may come from a listing or a request: every method refuses a key that is empty,
 * absolute, holds a `.` or `..` segment, an empty segment, a NUL or a backslash, with `usage-invalid`. No implementation
 * follows a symbolic link out of its root.
 *
 * Errors: `object-missing`, `object-exists`, `disk-full`, `storage-failed`, `cancelled`, and of a bucket
 * `storage-unreachable` and `storage-credentials`; the original error is the cause.
 */
export interface Storage {
  /**
   * Stores the whole body under the key. The object becomes visible at once and whole, and is durable when the promise
   * resolves; on any failure, abort or kill nothing is visible under the key (a former object stays as it was).
   */
  put(key: string, body: Readable | Uint8Array, options?: PutOptions): Promise<ObjectInfo>
  /**
   * Opens the object for reading; the body must be read to its end or destroyed. Fails with `object-missing`. A stream
   * error means that the bytes are not trustworthy.
   */
  get(key: string, options?: GetOptions): Promise<StoredObject>
  /** What is there, or null. */
  head(key: string, options?: { readonly signal?: AbortSignal }): Promise<ObjectInfo | null>
  /**
   * Objects whose key begins with the prefix (any string, not only a folder), in byte order of their keys; half-written
   * ones never. Yields as it goes: memory does not grow with the listing (one folder's names at most).
   */
  list(prefix: string, options?: ListOptions): AsyncIterable<ObjectInfo | CommonPrefix>
  /** Removes the object; removing what is not there is no error. Empty folders above it go too, up to the root. */
  remove(key: string, options?: { readonly signal?: AbortSignal }): Promise<void>
  /** Left out where there is no such place. */
  readonly staging?: Staging
  /** Left out where each file that is looked at costs a request. */
  readonly files?: FileLook
  /** Left out where objects are not to be locked. */
  readonly locks?: ObjectLocks
  /** Left out where there is nothing to try. */
  readonly trials?: UploadTrials
}

/** Changes the locks of objects that are there. */
export interface ObjectLocks {
  /** Locks it until then at least; never shortens a lock. */
  extend(key: string, until: Date, options?: { readonly signal?: AbortSignal }): Promise<void>
  /** Puts a legal hold on it. */
  hold(key: string, options?: { readonly signal?: AbortSignal }): Promise<void>
  /** Takes the legal hold off. */
  release(key: string, options?: { readonly signal?: AbortSignal }): Promise<void>
}

/** What a server is told to compare with the bytes it gets. */
export type Checksum = 'sha256' | 'md5'

/** Finds out what a server does with what it is asked. Each leaves nothing but what a lock keeps. */
export interface UploadTrials {
  /** What uploads carry. */
  readonly checksum: Checksum
  /** True when the server refuses bytes that come with the checksum of others. */
  comparesChecksums(key: string, checksum: Checksum): Promise<boolean>
  /** True when the server itself refuses to replace an object that is only to be put if it is absent. */
  refusesExisting(key: string): Promise<boolean>
  /** Locks an object for some minutes, and gives the lock that the server then tells of. */
  lock(key: string): Promise<Lock | null>
}

/**
 * For programs that write files by themselves: a place on the storage's own disk, from which a file becomes an object
 * without a copy.
 */
export interface Staging {
  /**
   * Makes a new directory. What is in it is no object, and whoever asked for it removes it; one that a killed process
   * leaves is cleaned up as half-written objects are.
   */
  make(): Promise<string>
  /** Makes a file in such a directory an object, as `put` would. It is taken over. */
  adopt(key: string, path: string, options?: PutOptions): Promise<ObjectInfo>
}

/** Looks at very many files at little more than the cost of the system's calls. */
export interface FileLook {
  /**
   * Which of the files are not there, or not as long as they should be; in the order that they were named in. None is opened,
   * and a link is not followed: it is no file. Fails when one of them cannot be looked at (rights, a disk that reports
   * errors): then nobody knows whether it is there.
   */
  compare(
    folders: readonly ExpectedFiles[],
    options?: { readonly signal?: AbortSignal },
  ): Promise<readonly FileDeviation[]>
}

/** The files that should be in one folder. */
export interface ExpectedFiles {
  /** A key that ends in `/`. */
  readonly folder: string
  readonly names: readonly string[]
  /** Of each name. */
  readonly bytes: readonly number[]
}

/** One file that is not as expected. */
export interface FileDeviation {
  readonly folder: string
  readonly name: string
  /** How long it is, bytes; or why it has no length: nothing has its name, or a directory, a link or the like. */
  readonly is: number | 'missing' | 'no-file'
}

/** Space in a storage that has a known limit, bytes. */
export interface Capacity {
  readonly freeBytes: number
  readonly totalBytes: number
}
