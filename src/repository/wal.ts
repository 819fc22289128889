import { Readable } from 'node:stream'
import { LifeboatError } from '../domain/errors.ts'
import type { Lock, ObjectInfo } from '../storage/storage.ts'
import { type Place, readWhole, type Stoppable } from './backup-folder.ts'
import {
  parseWalKey,
  quarantineKey,
  quarantinePrefix,
  type StoredWal,
  walKey,
  walPrefix,
  walSegmentPrefix,
  walTimelinePrefix,
} from './layout.ts'
import { isLocked } from './locks.ts'
import type { WalCipher } from './wal-cipher.ts'
import { WalNeighbours } from './wal-neighbours.ts'

/** A stored file of WAL, and the object that it is in. */
export interface StoredWalObject extends StoredWal {
  readonly info: ObjectInfo
}

/** What is needed of the repository that the WAL lies in. */
interface WalPlace extends Place {
  /** Null: nothing is encrypted, and what is cannot be read. */
  readonly cipher: WalCipher | null
  readonly ensureIdentity: (options: Stoppable) => Promise<void>
  readonly checkPresence: (options: Stoppable) => Promise<void>
}

/**
 * The WAL in one repository. As the rest of it: nothing is kept in memory, and an object never changes once it is there.
 * Methods fail with `usage-invalid` on names and identifiers that are not well-formed, and pass on what the storage says.
 */
export class WalStore {
  readonly #place: WalPlace
  readonly #neighbours: WalNeighbours

  constructor(place: WalPlace) {
    this.#place = place
    this.#neighbours = new WalNeighbours({
      log: (of, beside, options) => this.#logOf(of, beside, options),
      opens: (object, options) => this.#opens(object, options),
    })
  }

  /** The system identifiers of which there is WAL, in byte order. */
  async *systems(options: Stoppable = {}): AsyncGenerator<string> {
    const prefix = walPrefix(this.#place.cluster)
    for await (const item of this.#place.storage.list(prefix, { ...options, delimiter: '/' })) {
      if ('prefix' in item) yield item.prefix.slice(prefix.length, -1)
    }
  }

  /** Timelines of which segments are stored, by number; histories alone do not count. */
  async *timelines(systemIdentifier: string, options: Stoppable = {}): AsyncGenerator<number> {
    yield* (await this.folder(systemIdentifier, options)).timelines
  }

  /**
   * Segments and partials of one timeline in the order of their keys, which is that of their places in the WAL. What is no
   * WAL file of ours is left out.
   *
   * @param options.from a segment: only it and what comes after
   */
  async *list(
    systemIdentifier: string,
    timeline: number,
    { from, ...options }: Stoppable & { readonly from?: string } = {},
  ): AsyncGenerator<StoredWalObject> {
    const { cluster } = this.#place
    const startAfter = from === undefined ? {} : { startAfter: walSegmentPrefix(cluster, systemIdentifier, from) }
    yield* this.#list(walTimelinePrefix(cluster, systemIdentifier, timeline), { ...options, ...startAfter })
  }

  /** What `list` gives, of the newest log (4 GiB of WAL) of a timeline alone. */
  async *listNewest(
    systemIdentifier: string,
    timeline: number,
    options: Stoppable = {},
  ): AsyncGenerator<StoredWalObject> {
    const prefix = walTimelinePrefix(this.#place.cluster, systemIdentifier, timeline)
    let newest: string | null = null
    for await (const item of this.#place.storage.list(prefix, { ...options, delimiter: '/' })) {
      if ('prefix' in item) newest = item.prefix
    }
    if (newest !== null) yield* this.#list(newest, options)
  }

  /** All files of WAL, in the order of their keys. */
  async *all(options: Stoppable = {}): AsyncGenerator<StoredWalObject> {
    yield* this.#list(walPrefix(this.#place.cluster), options)
  }

  /** What `timelines` and `listPlain` give, in one go. */
  async folder(
    systemIdentifier: string,
    options: Stoppable = {},
  ): Promise<{ readonly timelines: readonly number[]; readonly plain: readonly StoredWalObject[] }> {
    const prefix = walPrefix(this.#place.cluster, systemIdentifier)
    const [timelines, plain]: [number[], StoredWalObject[]] = [[], []]
    for await (const item of this.#place.storage.list(prefix, { ...options, delimiter: '/' })) {
      const digits = 'prefix' in item ? item.prefix.slice(prefix.length, -1) : ''
      const wal = 'key' in item ? parseWalKey(this.#place.cluster, item.key) : null
      if (/^[0-9A-F]{8}$/.test(digits)) timelines.push(Number.parseInt(digits, 16))
      if ('key' in item && wal !== null) plain.push({ ...wal, info: item })
    }
    return { timelines, plain }
  }

  /** Histories and labels. */
  async *listPlain(systemIdentifier: string, options: Stoppable = {}): AsyncGenerator<StoredWalObject> {
    yield* (await this.folder(systemIdentifier, options)).plain
  }

  /**
   * All that is stored of one segment: the whole one and its partials, of whatever content. Two whole ones of different
   * content are possible only where somebody else has written here; one content may be there both plain, which comes first,
   * and encrypted.
   */
  async ofSegment(
    systemIdentifier: string,
    segment: string,
    options: Stoppable = {},
  ): Promise<readonly StoredWalObject[]> {
    const found: StoredWalObject[] = []
    const prefix = walSegmentPrefix(this.#place.cluster, systemIdentifier, segment)
    for await (const object of this.#list(prefix, options)) found.push(object)
    return found
  }

  /** A history or label, which are stored as they are; null if it is not there. */
  async headPlain(systemIdentifier: string, name: string, options: Stoppable = {}): Promise<ObjectInfo | null> {
    const key = walKey(this.#place.cluster, { systemIdentifier, name, hash: null, isEncrypted: false })
    return this.#place.storage.head(key, options)
  }

  /**
   * Stores one file, durably; `there`: the same name with the same content is stored already. A segment or partial comes
   * compressed, and encrypted where it says so, with the hash of what PostgreSQL wrote; a history or label as it is. The
   * body is taken over.
   *
   * @throws LifeboatError `conflict` for a history or label of which other bytes are stored
   */
  async put(
    file: Pick<StoredWal, 'systemIdentifier' | 'name' | 'hash'> & { readonly isEncrypted?: boolean },
    body: Uint8Array | Readable,
    options: Stoppable = {},
  ): Promise<'stored' | 'there'> {
    const key = walKey(this.#place.cluster, { isEncrypted: false, ...file })
    if (await this.#putOnce(key, body, options)) return 'stored'
    if (file.hash !== null || !(body instanceof Uint8Array)) return 'there'
    const { bytes } = await readWhole(this.#place.storage, key, body.length, options)
    if (bytes?.equals(body)) return 'there'
    throw new LifeboatError('conflict', `other bytes are stored as ${file.name}`, {
      hint: 'another server, or a restored copy of this one, writes its WAL to the same place: give each its own',
    })
  }

  /**
   * Keeps a file beside the WAL that must not be among it, compressed, and encrypted as that is, for a person to look at.
   *
   * @param file.systemIdentifier what the file itself says; null: nothing
   */
  async quarantine(
    file: Parameters<typeof quarantineKey>[1],
    body: Uint8Array | Readable,
    options: Stoppable = {},
  ): Promise<void> {
    await this.#putOnce(quarantineKey(this.#place.cluster, file), body, options)
  }

  /** False if the key is taken. The body is taken over: read to its end or destroyed. */
  async #putOnce(key: string, body: Uint8Array | Readable, options: Stoppable): Promise<boolean> {
    try {
      await this.#place.ensureIdentity(options)
      await this.#place.fence?.(options)
      await this.#place.storage.put(key, body, { ...options, ifAbsent: true })
      return true
    } catch (error) {
      // Refused before the storage has seen it, it would keep its file open.
      if (!(body instanceof Uint8Array)) body.on('error', () => {}).destroy()
      if (error instanceof LifeboatError && error.code === 'object-exists') return false
      throw error
    }
  }

  /** Whether something is in quarantine under this name. */
  async isQuarantined(systemIdentifier: string, name: string, options: Stoppable = {}): Promise<boolean> {
    const prefix = quarantinePrefix(this.#place.cluster, systemIdentifier, name)
    for await (const _ of this.#place.storage.list(`${prefix}-`, options)) return true
    return false
  }

  /** Whether a stored file can be read, as far as one knows without reading it: one that is encrypted needs a key. */
  isReadable({ isEncrypted }: Pick<StoredWalObject, 'isEncrypted'>): boolean {
    return !isEncrypted || this.#place.cipher?.opens === true
  }

  /**
   * Opens what was stored, compressed as it is, and decrypted, otherwise unchecked. It, or the stream, fails with `object-missing`;
   * where it is encrypted with `identity-missing` or `identity-mismatch` when it cannot be decrypted here, which says nothing
   * about it, and with `wal-invalid` when it is torn or altered, also where only its neighbours tell that.
   */
  async read(object: Pick<StoredWalObject, 'info' | 'isEncrypted'>, options: Stoppable = {}): Promise<Readable> {
    const { cipher, storage } = this.#place
    const { info, isEncrypted } = object
    if (isEncrypted && (cipher === null || !cipher.opens))
      throw new LifeboatError('identity-missing', 'it is encrypted, and no identity is configured that could open it', {
        hint: 'set encryption.identityFile to the file with the private key',
      })
    const { body } = await storage.get(info.key, options)
    if (!isEncrypted || cipher === null) return body
    const signal = options.signal ?? new AbortController().signal
    const judge = (error: unknown) => this.#judge(error, info.key, { signal })
    return Readable.from(decrypted(cipher, body, judge, signal), { objectMode: false })
  }

  /** What a failure to decrypt says of what is stored. */
  async #judge(error: unknown, key: string, options: Stoppable): Promise<unknown> {
    if (!(error instanceof LifeboatError)) return error
    if (error.code === 'artifact-invalid') return notWhole(key, error.message, error)
    if (error.code !== 'identity-mismatch') return error
    // Whatever else is wrong now, this is known.
    const other = await this.#neighbours.witness(key, options).catch(() => null)
    options.signal?.throwIfAborted()
    if (other === null) return error
    return notWhole(key, `its header is damaged, since the identity that does not open it opens ${other.name}`, error)
  }

  async #opens({ info }: StoredWalObject, options: Stoppable): Promise<boolean> {
    const { cipher, storage } = this.#place
    if (cipher === null) return false
    try {
      const { body } = await storage.get(info.key, options)
      for await (const _ of cipher.open(body, options.signal ?? new AbortController().signal)) return true
    } catch (error) {
      if (!(error instanceof LifeboatError)) throw error
      if (!['artifact-invalid', 'identity-mismatch', 'object-missing'].includes(error.code)) throw error
    }
    return false
  }

  /** What is stored in the log (4 GiB of WAL) of a key, or in the one so many further. */
  async *#logOf(key: string, beside: number, options: Stoppable): AsyncGenerator<StoredWalObject> {
    const wal = parseWalKey(this.#place.cluster, key)
    const log = Number.parseInt(wal?.name.slice(8, 16) ?? '', 16) + beside
    if (wal === null || !(log >= 0 && log <= 0xffffffff)) return
    const digits = log.toString(16).toUpperCase().padStart(8, '0')
    const timeline = Number.parseInt(wal.name.slice(0, 8), 16)
    yield* this.#list(walTimelinePrefix(this.#place.cluster, wal.systemIdentifier, timeline, digits), options)
  }

  /** Removes one file. */
  async remove({ info }: Pick<StoredWalObject, 'info'>, options: Stoppable = {}): Promise<void> {
    await this.#place.checkPresence(options)
    await this.#place.fence?.(options)
    await this.#place.storage.remove(info.key, options)
  }

  /**
   * Removes a few files one after the other, and tells of each once it is gone. It is looked only once, before the first one,
   * whether this is the repository that it was and still ours to write to: that costs more than to remove a file.
   */
  async *removeInOrder<File extends Pick<StoredWalObject, 'info'>>(
    files: readonly File[],
    options: Stoppable = {},
  ): AsyncGenerator<File> {
    await this.#place.checkPresence(options)
    await this.#place.fence?.(options)
    for (const file of files) {
      await this.#place.storage.remove(file.info.key, options)
      yield file
    }
  }

  /** The lock that a file has now; null without one, and where nothing is to be locked. */
  async lockOf({ info }: Pick<StoredWalObject, 'info'>, now: Date, options: Stoppable = {}): Promise<Lock | null> {
    if (this.#place.storage.locks === undefined) return null
    const lock = (await this.#place.storage.head(info.key, options))?.lock
    return isLocked(lock, now) ? lock : null
  }

  async *#list(prefix: string, options: Stoppable & { readonly startAfter?: string }): AsyncGenerator<StoredWalObject> {
    for await (const item of this.#place.storage.list(prefix, options)) {
      if (!('key' in item)) continue
      const wal = parseWalKey(this.#place.cluster, item.key)
      if (wal !== null) yield { ...wal, info: item }
    }
  }
}

async function* decrypted(
  cipher: WalCipher,
  body: Readable,
  judge: (error: unknown) => Promise<unknown>,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  try {
    yield* cipher.open(body, signal)
  } catch (error) {
    throw await judge(error)
  }
}

function notWhole(key: string, why: string, cause: LifeboatError): LifeboatError {
  return new LifeboatError('wal-invalid', `${key} is not whole: ${why}`, {
    hint: 'get this file from another repository or the archive, and look at the disk of this one',
    cause,
  })
}
