import type { Readable } from 'node:stream'
import type { Clock } from '../clock.ts'
import { isBackupId, type Manifest } from '../domain/backup.ts'
import { LifeboatError } from '../domain/errors.ts'
import type { Proof } from '../domain/proof.ts'
import type { ObjectInfo, Storage } from '../storage/storage.ts'
import {
  type BackupFolder,
  inspectFolder,
  readClaim,
  readWhole,
  removeFolder,
  type Stoppable,
} from './backup-folder.ts'
import { type BackupWriter, type BeginOptions, beginBackup } from './backup-writer.ts'
import { type CleanUpOptions, cleanUpFolder } from './clean-up.ts'
import { type ExpireOptions, expireFolder } from './expire-folder.ts'
import { lockHeld, unlockReleased } from './held-locks.ts'
import type { HoldBody } from './hold.ts'
import { type HoldEntry, listHolds, putHold, type ReadHold, readHold, removeHold } from './holds.ts'
import {
  adoptIdentity,
  checkIdentity,
  checkPresence,
  ensureIdentity,
  type IdentifiedPlace,
  type IdentityOptions,
} from './identity.ts'
import type { InProgress } from './in-progress.ts'
import { artifactKey, backupsPrefix, isClusterName, manifestKey, markerKey } from './layout.ts'
import { parseManifest } from './manifest.ts'
import type { ProofBody } from './proof.ts'
import { latestProof, listProofs, type ProofEntry, publishProof, readProof } from './proofs.ts'
import { type BackupUse, listUses, markUse, type UseEntry, type UseOptions } from './uses.ts'
import { WalStore } from './wal.ts'
import type { WalCipher } from './wal-cipher.ts'

export type { BackupFolder } from './backup-folder.ts'
export type { BackupWriter } from './backup-writer.ts'
export type { Hold, HoldBody } from './hold.ts'
export type { HoldEntry, ReadHold } from './holds.ts'
export type { IdentityLedger } from './identity.ts'
export type { InProgress } from './in-progress.ts'
export type { ManifestBody } from './manifest.ts'
export type { ProofBody } from './proof.ts'
export type { ProofEntry } from './proofs.ts'
export type { BackupUse, UseEntry } from './uses.ts'

/** A manifest that was read. One that is not valid comes as the problem, so that it is known which bytes have it. */
export type ReadManifest = { readonly info: ObjectInfo } & (
  | { readonly manifest: Manifest }
  | { readonly problem: LifeboatError }
)

const maxManifestBytes = 16 * 1024 * 1024

/**
 * The backups and proofs of one cluster in one storage. It keeps nothing in memory: what it says is what is stored.
 *
 * Every method that takes an id or a name fails with `usage-invalid` on one that is not well-formed, and passes on what
 * the storage says (`storage-failed`, `disk-full`, `cancelled`).
 */
export class Repository {
  readonly name: string
  readonly cluster: string
  readonly storage: Storage
  readonly fence: (options: Stoppable) => Promise<void>
  /** The WAL that is stored beside the backups. */
  readonly wal: WalStore
  readonly #clock: Clock
  readonly #identified: IdentifiedPlace | null

  constructor(options: {
    readonly name: string
    readonly cluster: string
    readonly storage: Storage
    readonly clock: Clock
    /** What tells it from another repository; without it nobody looks, and nothing is marked. */
    readonly identity?: IdentityOptions
    /** See `Place.fence`; without it everybody may write. */
    readonly fence?: (options: Stoppable) => Promise<void>
    /** Without it no WAL is encrypted, and none that is can be read. */
    readonly walCipher?: WalCipher
  }) {
    if (!isClusterName(options.cluster)) {
      throw new LifeboatError('usage-invalid', `${JSON.stringify(options.cluster)} cannot be a cluster's folder`)
    }
    this.name = options.name
    this.cluster = options.cluster
    this.storage = options.storage
    this.fence = options.fence ?? (async () => {})
    this.#clock = options.clock
    const { name, cluster, storage, clock, identity } = options
    this.#identified = identity === undefined ? null : { ...identity, name, cluster, storage, clock }
    this.wal = new WalStore({
      ...{ storage, cluster, fence: this.fence, cipher: options.walCipher ?? null },
      ensureIdentity: (options) => this.#ensureIdentity(options),
      checkPresence: (options) => this.checkPresence(options),
    })
  }

  /**
   * Fails with `storage-failed` when this is not the repository that it was, e.g. because its disk is not mounted. False where
   * nothing tells that it is a repository: nothing was ever written.
   */
  async checkIdentity(options: Stoppable = {}): Promise<boolean> {
    return this.#identified === null || (await checkIdentity(this.#identified, options)) !== null
  }

  /** The cheapest look that shows whether it answers: `checkIdentity`, also where nobody compares which one it is. */
  async seeMarker(options: Stoppable = {}): Promise<void> {
    if (this.#identified === null) await this.storage.head(markerKey(this.cluster), options)
    else await checkIdentity(this.#identified, options)
  }

  /** Like `checkIdentity`; fails also where there is nothing at all. */
  async checkPresence(options: Stoppable = {}): Promise<void> {
    if (this.#identified !== null) await checkPresence(this.#identified, options)
  }

  /** True for one that is not there and was never known to be: the first write makes it. */
  async isNew(options: Stoppable = {}): Promise<boolean> {
    if (this.#identified === null) return false
    return (await checkIdentity(this.#identified, options)) === null && !(await this.#identified.exists())
  }

  /** Takes what is there for this repository from now on, whatever was there before. Fails where there is nothing. */
  async adopt(options: Stoppable = {}): Promise<void> {
    if (this.#identified !== null) await adoptIdentity(this.#identified, options)
  }

  /**
   * Claims a new backup's folder and returns its writer, which must be published or abandoned. Fails with `conflict` if
   * the id is taken, and as `checkIdentity` does, with nothing written. When the signal aborts, puts fail; the folder stays until `abandon`.
   */
  async beginBackup(id: string, options: BeginOptions): Promise<BackupWriter> {
    await this.#ensureIdentity(options)
    await this.fence(options)
    return beginBackup(this, this.#clock, id, options)
  }

  /**
   * The ids of all folders that have the name of a backup, in byte order: complete, incomplete, or holding nothing (see
   * `Storage.list`), which `inspect` tells apart.
   */
  async *listBackups(options: Stoppable = {}): AsyncGenerator<string> {
    const prefix = backupsPrefix(this.cluster)
    for await (const item of this.storage.list(prefix, { ...options, delimiter: '/' })) {
      if (!('prefix' in item)) continue
      const id = item.prefix.slice(prefix.length, -1)
      if (isBackupId(id)) yield id
    }
  }

  /** What the folder of a backup is; null if it holds nothing. */
  async inspect(id: string, options: Stoppable = {}): Promise<BackupFolder | null> {
    return inspectFolder(this, id, options)
  }

  /** The manifest as an object, unread: its version tells whether a manifest that was read is still the same. */
  async headManifest(id: string, options: Stoppable = {}): Promise<ObjectInfo | null> {
    return this.storage.head(manifestKey(this.cluster, id), options)
  }

  /** Reads and checks the manifest. Fails with `manifest-missing`, or with `manifest-invalid` saying what is wrong. */
  async readManifest(id: string, options: Stoppable = {}): Promise<Manifest> {
    const read = await this.readManifestObject(id, options)
    if ('problem' in read) throw read.problem
    return read.manifest
  }

  /** Like `readManifest`, with the object that it was read from. Fails with `manifest-missing`. */
  async readManifestObject(id: string, options: Stoppable = {}): Promise<ReadManifest> {
    let read: { readonly info: ObjectInfo; readonly bytes: Buffer | null }
    try {
      read = await readWhole(this.storage, manifestKey(this.cluster, id), maxManifestBytes, options)
    } catch (error) {
      if (!(error instanceof LifeboatError && error.code === 'object-missing')) throw error
      throw new LifeboatError('manifest-missing', `backup ${id} has no manifest`, {
        hint: 'a backup without manifest was never completed, or is being removed: choose another one',
        cause: error,
      })
    }
    const { info, bytes } = read
    try {
      if (bytes !== null) return { info, manifest: parseManifest(bytes, { backupId: id, cluster: this.cluster }) }
      const problem = `the manifest of ${id} is not valid: it has over ${maxManifestBytes} bytes`
      return { info, problem: new LifeboatError('manifest-invalid', problem) }
    } catch (error) {
      if (error instanceof LifeboatError && error.code === 'manifest-invalid') return { info, problem: error }
      throw error
    }
  }

  async headArtifact(id: string, name: string, options: Stoppable = {}): Promise<ObjectInfo | null> {
    return this.storage.head(artifactKey(this.cluster, id, name), options)
  }

  /** The stored bytes of an artifact, unchecked: whoever reads them compares the hash. Fails with `object-missing`. */
  async readArtifact(id: string, name: string, options: Stoppable = {}): Promise<Readable> {
    return (await this.storage.get(artifactKey(this.cluster, id, name), options)).body
  }

  /**
   * Removes a backup and everything else in its folder; its proofs stay. The manifest goes first: interrupted at any
   * point, this leaves a whole backup or a folder without a manifest. Removing what is not there is no error.
   */
  async removeBackup(id: string, options: Stoppable = {}): Promise<void> {
    await removeFolder(this, id, options)
  }

  /**
   * Removes a backup as `removeBackup` does, unless it is held, in use or needed: then it fails with `conflict`, and the
   * backup is as it was. Interrupted, it leaves a whole backup, or a folder that `cleanUp` takes away.
   */
  async expireBackup(id: string, options: ExpireOptions): Promise<void> {
    await this.checkPresence(options.signal ? { signal: options.signal } : {})
    await expireFolder(this, this.#clock, id, options)
  }

  /**
   * Keeps a backup from being expired, until a moment or its release; a hold that is there is replaced. Fails with
   * `not-found` when there is no such backup, and with `conflict` while it is being removed. Where backups are locked, the
   * locks of this one and of those it builds on last as long as the hold; when that fails, the hold is there all the same.
   */
  async hold(body: HoldBody, options: Stoppable = {}): Promise<void> {
    await this.#ensureIdentity(options)
    const former = await this.readHold(body.backupId, options)
    await putHold(this, body, options)
    await lockHeld(this, body, options)
    if (body.until !== null) await unlockReleased(this, body.backupId, former, options)
  }

  /** True if there was a hold. Legal holds that it had put are taken off, where no other hold needs them. */
  async releaseHold(id: string, options: Stoppable = {}): Promise<boolean> {
    const former = await this.readHold(id, options)
    const was = await removeHold(this, id, options)
    await unlockReleased(this, id, former, options)
    return was
  }

  /** All holds, unread, also those that have ended or whose backup is gone. */
  listHolds(options: Stoppable = {}): AsyncIterable<HoldEntry> {
    return listHolds(this, options)
  }

  /** Null if there is none. One that cannot be read comes as the problem: it holds all the same. */
  async readHold(id: string, options: Stoppable = {}): Promise<ReadHold | null> {
    return readHold(this, id, options)
  }

  /**
   * Marks a backup as in use, so that no expiry of any process or host removes it until the mark is released, or lapses
   * because its holder has died. Fails with `conflict` while it is being removed.
   */
  async useBackup(id: string, options: UseOptions): Promise<BackupUse> {
    await this.#ensureIdentity(options.signal ? { signal: options.signal } : {})
    return markUse(this, this.#clock, id, options)
  }

  /** The marks of use, of all backups or of one, unread. */
  listUses(options: Stoppable & { readonly of?: string } = {}): AsyncIterable<UseEntry> {
    return listUses(this, options)
  }

  /** Whose mark of use it is; null if it is gone or cannot be understood. */
  async readUse(key: string, options: Stoppable = {}): Promise<InProgress | null> {
    return readClaim(this.storage, key, options)
  }

  /**
   * Removes the folders without a manifest whose writer is dead: `isLapsed` decides, from the claim, or from null and
   * the id where there is none. A published backup that a killed writer left its claim in only loses the claim.
   * Returns the ids of the folders removed. Safe beside other writers and clean-ups: a writer that was wrongly taken
   * for dead fails with `conflict` instead of publishing.
   */
  async cleanUp(options: CleanUpOptions): Promise<string[]> {
    const removed: string[] = []
    for await (const id of this.listBackups(options.signal ? { signal: options.signal } : {})) {
      if (await cleanUpFolder(this, id, options)) removed.push(id)
    }
    return removed
  }

  /** Stores a proof, named by the second it finished in, or by the next free one: proofs accrue, none is overwritten. */
  async publishProof(body: ProofBody): Promise<Proof> {
    await this.#ensureIdentity()
    return publishProof(this, body)
  }

  /** All proofs by their key, that is, oldest first; unread. */
  listProofs(options: Stoppable & { readonly startAfter?: string } = {}): AsyncIterable<ProofEntry> {
    return listProofs(this, options)
  }

  /** Fails with `object-missing`, or with `proof-invalid` saying what is wrong. */
  async readProof(key: string, options: Stoppable = {}): Promise<Proof> {
    return readProof(this, key, options)
  }

  async #ensureIdentity(options: Stoppable = {}): Promise<void> {
    if (this.#identified !== null) await ensureIdentity(this.#identified, options)
  }

  /** The newest proof of a backup, or null. Fails with `proof-invalid` rather than to answer with an older one. */
  async latestProof(backupId: string, options: Stoppable = {}): Promise<Proof | null> {
    return latestProof(this, backupId, options)
  }
}
