import { closeSync, constants } from 'node:fs'
import { type FileHandle, link, lstat, mkdir, open, rename, stat, statfs, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Readable } from 'node:stream'
import { type Clock, systemClock } from '../clock.ts'
import { LifeboatError } from '../domain/errors.ts'
import { hasCode, isMissing, stopped, storageFailure, throwIfStopped } from './failures.ts'
import { BytesStream, FileStream } from './file-stream.ts'
import { checkKey, splitPrefix } from './keys.ts'
import { LocalFiles } from './local-files.ts'
import { listFolder } from './local-list.ts'
import { objectInfo } from './object-info.ts'
import { Reader } from './reader.ts'
import { Root, syncDirectory } from './root.ts'
import type {
  Capacity,
  CommonPrefix,
  FileLook,
  GetOptions,
  ListOptions,
  ObjectInfo,
  PutOptions,
  Staging,
  Storage,
  StoredObject,
} from './storage.ts'
import { removeAbandoned, temporaryFolder, temporaryName } from './temporary.ts'
import { writeFile } from './write-file.ts'

/** How often a folder is made again that a removal of the last object in it took away before the new one had its name. */
const publishAttempts = 20

/**
 * A storage in a directory: the key is the path below the root, the object is the file. Files are 0600, folders 0700.
 *
 * A write goes to a file in `.lifeboat-tmp` below the root, is synced, and only then gets its name, by rename(2), or by
 * link(2) where it must not replace anything; then the folder is synced. So a kill or a crash at any moment leaves the
 * old object or the new one, and at most a file in `.lifeboat-tmp`, which `cleanTemporary` removes. Keys below
 * `.lifeboat-tmp` are refused with `usage-invalid`. The root is made by the first `put`, its
 * parent never: the path of a disk that is not mounted must not come into being on another.
 *
 * Symbolic links below the root are left out of listings; a key that is one, or lies behind one, fails with
 * `storage-failed`, except that `remove` and a replacing `put` take away a link which has the key's own name, never
 * what it points to.
 */
export class LocalStorage implements Storage {
  readonly #root: Root
  readonly #clock: Clock
  readonly #reader: Reader
  /** See Storage. */
  readonly staging: Staging = {
    make: () => this.#stage(),
    adopt: (key, path, options) => this.#adopt(key, path, options),
  }
  /** See Storage. */
  readonly files: FileLook

  constructor({ root, clock = systemClock }: { readonly root: string; readonly clock?: Clock }) {
    this.#root = new Root(root)
    this.#clock = clock
    this.#reader = new Reader(clock)
    this.files = new LocalFiles({ root: this.#root, reader: this.#reader })
  }

  /** See Storage. The body is taken over: it is read to its end or destroyed. Its own LifeboatError comes through as it is. */
  async put(key: string, body: Readable | Uint8Array, options: PutOptions = {}): Promise<ObjectInfo> {
    const { signal } = options
    const stop = (): void => {
      if (signal && body instanceof Readable) body.destroy(stopped(signal))
    }
    // Until the body is read below, a failure of its source would otherwise find nobody listening and end the process.
    if (body instanceof Readable) body.on('error', () => {})
    signal?.addEventListener('abort', stop)
    try {
      throwIfStopped(signal)
      return await this.#write(ownKey(key), body, options)
    } catch (error) {
      if (body instanceof Readable) body.destroy()
      if (signal?.aborted) throw stopped(signal)
      throw storageFailure(`cannot write ${JSON.stringify(key)}`, error)
    } finally {
      signal?.removeEventListener('abort', stop)
    }
  }

  async #write(
    key: string,
    body: Readable | Uint8Array,
    { ifAbsent = false, signal }: PutOptions,
  ): Promise<ObjectInfo> {
    if (ifAbsent && (await this.#taken(key))) throw keyTaken(key)
    const temporary = join(await this.#root.makeFolder(temporaryFolder), await temporaryName())
    const handle = await open(temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600)
    try {
      await this.#give(handle)
      await writeFile(handle, body)
      throwIfStopped(signal)
      await this.#publish(temporary, key, ifAbsent)
      return objectInfo(key, await handle.stat())
    } catch (error) {
      await unlink(temporary).catch(() => {})
      throw error
    } finally {
      await handle.close()
    }
  }

  async #stage(): Promise<string> {
    try {
      const directory = join(await this.#root.makeFolder(temporaryFolder), await temporaryName())
      await mkdir(directory, 0o700)
      return directory
    } catch (error) {
      throw storageFailure('cannot make a directory for half-written files', error)
    }
  }

  async #adopt(key: string, path: string, { ifAbsent = false, signal }: PutOptions = {}): Promise<ObjectInfo> {
    try {
      throwIfStopped(signal)
      if (ifAbsent && (await this.#taken(ownKey(key)))) throw keyTaken(key)
      const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW)
      try {
        await handle.chmod(0o600)
        await this.#give(handle)
        await handle.sync()
        throwIfStopped(signal)
        await this.#publish(path, ownKey(key), ifAbsent)
        return objectInfo(key, await handle.stat())
      } finally {
        await handle.close()
      }
    } catch (error) {
      throw storageFailure(`cannot write ${JSON.stringify(key)}`, error)
    }
  }

  /** What root writes belongs to who owns the repository. */
  async #give(handle: FileHandle): Promise<void> {
    const owner = await this.#root.owner()
    if (owner !== null) await handle.chown(owner.uid, owner.gid)
  }

  /** Gives the finished file its name, durably. */
  async #publish(temporary: string, key: string, ifAbsent: boolean): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        const folder = await this.#root.makeFolder(folderOf(key))
        const target = join(folder, key.slice(key.lastIndexOf('/') + 1))
        // rename(2) would replace silently; link(2) fails when the name is taken, whoever else tries at the same time.
        await (ifAbsent ? link(temporary, target) : rename(temporary, target))
        if (ifAbsent) await unlinkIfThere(temporary)
        await syncDirectory(folder)
        return
      } catch (error) {
        if (ifAbsent && hasCode(error, 'EEXIST')) throw keyTaken(key)
        if (!hasCode(error, 'ENOENT') || attempt >= publishAttempts) throw error
      }
    }
  }

  async #taken(key: string): Promise<boolean> {
    const folder = await this.#root.folder(folderOf(key))
    if (folder === null) return false
    try {
      await lstat(join(folder, key.slice(key.lastIndexOf('/') + 1)))
      return true
    } catch (error) {
      if (isMissing(error)) return false
      throw error
    }
  }

  /**
   * See Storage. `end` past the last byte is the last byte; `start` past it, or after `end`, fails with `usage-invalid`.
   * A file that becomes shorter while it is read fails the stream.
   */
  async get(key: string, options: GetOptions = {}): Promise<StoredObject> {
    const doing = `cannot read ${JSON.stringify(key)}`
    try {
      const root = await this.#rootFor(key, options.signal)
      const found = root === null ? null : await this.#reader.ask({ what: 'body', key }, root, options.signal)
      if (found === null) throw objectMissing(key)
      const { info, body } = found
      const extent = rangeOf(info.bytes, options)
      if (extent === null) {
        if (typeof body === 'number') closeSync(body)
        throw new LifeboatError('usage-invalid', `${doing}: it has ${info.bytes} bytes, which the range is not within`)
      }
      if (typeof body === 'number') return { info, body: new FileStream(body, { key, ...extent }, options.signal) }
      return { info, body: new BytesStream(body.subarray(extent.start, extent.start + extent.bytes)) }
    } catch (error) {
      throw storageFailure(doing, error)
    }
  }

  /** Where the key is below; null while there is no root. */
  async #rootFor(key: string, signal: AbortSignal | undefined): Promise<string | null> {
    throwIfStopped(signal)
    ownKey(key)
    return this.#root.path()
  }

  /** See Storage. Fails with `storage-failed` also on an object that is there, but could not be read. */
  async head(key: string, { signal }: { readonly signal?: AbortSignal } = {}): Promise<ObjectInfo | null> {
    try {
      const root = await this.#rootFor(key, signal)
      return root === null ? null : ((await this.#reader.ask({ what: 'head', key }, root, signal))?.info ?? null)
    } catch (error) {
      throw storageFailure(`cannot look at ${JSON.stringify(key)}`, error)
    }
  }

  /** See Storage. A folder that cannot be read fails the listing: leaving it out would make its backups disappear. */
  async *list(prefix: string, options: ListOptions = {}): AsyncGenerator<ObjectInfo | CommonPrefix> {
    const { startAfter = '', delimiter, signal } = options
    const { folder } = splitPrefix(prefix)
    if (folder.startsWith(`${temporaryFolder}/`)) return
    try {
      throwIfStopped(signal)
      yield* listFolder(
        { root: this.#root, reader: this.#reader },
        { folder, prefix, startAfter, fold: delimiter === '/', signal },
      )
    } catch (error) {
      throw storageFailure(`cannot list ${JSON.stringify(prefix)}`, error)
    }
  }

  /** See Storage. Durable when the promise resolves, so that what is removed first also stays away first after a crash. */
  async remove(key: string, { signal }: { readonly signal?: AbortSignal } = {}): Promise<void> {
    try {
      throwIfStopped(signal)
      const name = folderOf(ownKey(key))
      const folder = await this.#root.folder(name)
      if (folder !== null) await unlinkIfThere(join(folder, key.slice(key.lastIndexOf('/') + 1)))
      await this.#root.removeEmpty(name)
    } catch (error) {
      throw storageFailure(`cannot remove ${JSON.stringify(key)}`, error)
    }
  }

  /** Whether the root is there. */
  async exists(): Promise<boolean> {
    try {
      return (await stat(this.#root.configured)).isDirectory()
    } catch (error) {
      if (isMissing(error)) return false
      throw storageFailure(`cannot look at ${JSON.stringify(this.#root.configured)}`, error)
    }
  }

  /** Space on the file system that the root is on, or will be on once it is made; free is what an ordinary user may take. */
  async capacity(): Promise<Capacity> {
    for (let path = this.#root.configured; ; path = dirname(path)) {
      try {
        const { bavail, blocks, bsize } = await statfs(path)
        return { freeBytes: bavail * bsize, totalBytes: blocks * bsize }
      } catch (error) {
        if (isMissing(error) && path !== dirname(path)) continue
        throw storageFailure(`cannot tell the free space of ${JSON.stringify(path)}`, error)
      }
    }
  }

  /**
   * Removes what writers left half-written when they were killed; files of writers that are alive stay, also of another
   * process. To be called at start. Returns the number of files removed.
   *
   * @param elsewhere whether also those of other hosts, of which only their age tells; not for who has a clock of its own
   * and nothing to write here. Default true.
   */
  async cleanTemporary({ elsewhere = true }: { readonly elsewhere?: boolean } = {}): Promise<number> {
    try {
      const folder = await this.#root.folder(temporaryFolder)
      return folder === null ? 0 : (await removeAbandoned(folder, elsewhere ? this.#clock.now() : null)).length
    } catch (error) {
      throw storageFailure('cannot clean up half-written files', error)
    }
  }
}

/** The folder of a key, without a slash at its end; empty for the root. */
function folderOf(key: string): string {
  return key.slice(0, Math.max(0, key.lastIndexOf('/')))
}

/** A valid key that is not among our own half-written files. */
function ownKey(key: string): string {
  if (checkKey(key) === temporaryFolder || key.startsWith(`${temporaryFolder}/`)) {
    throw new LifeboatError('usage-invalid', `key ${JSON.stringify(key)} is reserved for half-written files`)
  }
  return key
}

/** The part of an object that is asked for, or null if there is no such part. All of an empty object is a part. */
function rangeOf(size: number, { start = 0, end = size - 1 }: GetOptions): { start: number; bytes: number } | null {
  if (start === 0 && end === size - 1) return { start, bytes: size }
  const isPlace = (value: number): boolean => Number.isSafeInteger(value) && value >= 0
  if (!(isPlace(start) && isPlace(end) && start <= end && start < size)) return null
  return { start, bytes: Math.min(end, size - 1) - start + 1 }
}

async function unlinkIfThere(path: string): Promise<void> {
  try {
    await unlink(path)
  } catch (error) {
    // EISDIR: it is a folder, and so no object.
    if (!isMissing(error) && !hasCode(error, 'EISDIR')) throw error
  }
}

function keyTaken(key: string): LifeboatError {
  return new LifeboatError('object-exists', `${JSON.stringify(key)} exists already`)
}

function objectMissing(key: string): LifeboatError {
  return new LifeboatError('object-missing', `${JSON.stringify(key)} does not exist`)
}
