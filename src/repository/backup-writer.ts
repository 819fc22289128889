import { hash, randomUUID } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Clock } from '../clock.ts'
import type { Artifact, Digest, Manifest } from '../domain/backup.ts'
import { LifeboatError } from '../domain/errors.ts'
import { DigestStream } from '../storage/digest.ts'
import { throwIfStopped } from '../storage/failures.ts'
import { type Place, removeFolder } from './backup-folder.ts'
import { Heartbeat } from './heartbeat.ts'
import { claim, type InProgress, serializeInProgress } from './in-progress.ts'
import { artifactKey, backupPrefix, inProgressKey, manifestKey } from './layout.ts'
import { type ManifestBody, serializeManifest } from './manifest.ts'

/** Writes one backup: the artifacts in any order, also several at once, then the manifest. */
export interface BackupWriter {
  /**
   * Stores an artifact, hashing it on the way. The body is taken over: read to its end or destroyed. Fails with
   * `usage-invalid` on a bad name, with `object-exists` on one that was put, with `conflict` after publish or abandon.
   *
   * @param plain what was compressed into the body; asked once all of the body is stored, and its failure is that of the
   * put. Left out: the body is as plain as it gets.
   */
  put(name: string, body: Readable | Uint8Array, plain?: () => Promise<Artifact['plain']>): Promise<Artifact>
  /**
   * An empty directory on the repository's own disk, for artifacts that a program writes by itself; null where there is no
   * such place. It is gone when the backup is published or abandoned, or when it is asked for again.
   */
  stage(): Promise<string | null>
  /**
   * Makes a file of that directory an artifact, without a copy. Fails as `put` does, and with `storage-failed` when it has
   * another length than was hashed.
   */
  adopt(name: string, path: string, stored: Digest): Promise<Artifact>
  /**
   * Makes the backup exist: writes the manifest, naming every artifact that was put, after having seen that each is
   * there with its size. Fails with `usage-invalid` if the body is not valid or nothing was put, with `artifact-invalid`
   * if an artifact is not as it was put, with `conflict` if the folder was taken away (see `Repository.cleanUp`).
   */
  publish(body: ManifestBody): Promise<Manifest>
  /**
   * Stops what is being put and removes the folder, unless it belongs to somebody else by now. Does nothing after a
   * successful publish. May be called at any time, any number of times.
   */
  abandon(): Promise<void>
}

export interface BeginOptions {
  readonly runId: string
  readonly signal: AbortSignal
}

/**
 * Claims the folder of a new backup. Fails with `conflict` if somebody has claimed it, or anything is in it. The claim's
 * heartbeat is renewed every 30 seconds until publish or abandon.
 */
export async function beginBackup(
  place: Place,
  clock: Clock,
  id: string,
  options: BeginOptions,
): Promise<BackupWriter> {
  const { storage, cluster } = place
  const { signal } = options
  const key = inProgressKey(cluster, id)
  const mine = claim(options.runId, randomUUID(), clock.now())
  try {
    await storage.put(key, serializeInProgress(mine), { ifAbsent: true, signal })
  } catch (error) {
    if (error instanceof LifeboatError && error.code === 'object-exists') throw alreadyThere(id, error)
    throw error
  }
  for await (const item of storage.list(backupPrefix(cluster, id))) {
    if (!('key' in item) || item.key === key) continue
    await storage.remove(key)
    throw alreadyThere(id)
  }
  return new FolderWriter(place, clock, id, mine, signal)
}

class FolderWriter implements BackupWriter {
  readonly #place: Place
  readonly #id: string
  readonly #claim: InProgress
  readonly #signal: AbortSignal
  readonly #heartbeat: Heartbeat
  readonly #ended = new AbortController()
  readonly #artifacts = new Map<string, Artifact | null>()
  /** What is being written just now. */
  readonly #work = new Set<Promise<unknown>>()
  #stage: string | null = null
  #state: 'open' | 'publishing' | 'published' | 'abandoned' = 'open'

  constructor(place: Place, clock: Clock, id: string, mine: InProgress, signal: AbortSignal) {
    this.#place = place
    this.#id = id
    this.#claim = mine
    this.#signal = AbortSignal.any([signal, this.#ended.signal])
    const { storage, cluster } = place
    const key = inProgressKey(cluster, id)
    this.#heartbeat = new Heartbeat({ storage, clock, key, claim: mine, ended: this.#ended.signal, fenced: true })
  }

  async put(name: string, body: Readable | Uint8Array, plain?: () => Promise<Artifact['plain']>): Promise<Artifact> {
    try {
      return await this.#tracked(this.#put(name, body, plain))
    } catch (error) {
      if (body instanceof Readable) body.destroy()
      throw error
    }
  }

  async stage(): Promise<string | null> {
    this.#checkOpen()
    await this.#removeStage()
    this.#stage = (await this.#place.storage.staging?.make()) ?? null
    return this.#stage
  }

  adopt(name: string, path: string, stored: Digest): Promise<Artifact> {
    return this.#tracked(
      this.#taking(name, async (key) => {
        const options = { ifAbsent: true, signal: this.#signal }
        const info = await this.#place.storage.staging?.adopt(key, path, options)
        if (info === undefined) throw new Error('unreachable: only what is staged is adopted')
        if (info.bytes !== stored.bytes) throw notWhole(key, info.bytes, stored.bytes)
        return { name, plain: stored, stored }
      }),
    )
  }

  async #removeStage(): Promise<void> {
    if (this.#stage !== null) await rm(this.#stage, { recursive: true, force: true })
    this.#stage = null
  }

  #put(name: string, body: Readable | Uint8Array, plain?: () => Promise<Artifact['plain']>): Promise<Artifact> {
    return this.#taking(name, async (key) => {
      const stored = await this.#store(key, body)
      return { name, plain: (await plain?.()) ?? stored, stored }
    })
  }

  async #taking(name: string, work: (key: string) => Promise<Artifact>): Promise<Artifact> {
    this.#checkOpen()
    const { cluster } = this.#place
    const key = artifactKey(cluster, this.#id, name)
    if (this.#artifacts.has(name))
      throw new LifeboatError('object-exists', `the backup has an artifact ${name} already`)
    // Taken at once, so that a second put of the name fails before it has read anything, and the order is that of the calls.
    this.#artifacts.set(name, null)
    try {
      const artifact = await work(key)
      this.#artifacts.set(name, artifact)
      return artifact
    } catch (error) {
      this.#artifacts.delete(name)
      throw error
    }
  }

  async #store(key: string, body: Readable | Uint8Array): Promise<Digest> {
    const { storage } = this.#place
    const options = { ifAbsent: true, signal: this.#signal }
    if (body instanceof Uint8Array) {
      await storage.put(key, body, options)
      return { bytes: body.length, sha256: hash('sha256', body) }
    }
    const digest = new DigestStream()
    // A failure of either stream destroys the other, and so reaches `storage.put` as the failure of its body.
    pipeline(body, digest).catch(() => {})
    const info = await storage.put(key, digest, options)
    const found = digest.digest()
    if (info.bytes !== found.bytes) throw notWhole(key, info.bytes, found.bytes)
    return found
  }

  async publish(body: ManifestBody): Promise<Manifest> {
    this.#checkOpen()
    this.#state = 'publishing'
    return this.#tracked(this.#publish(body))
  }

  async #publish(body: ManifestBody): Promise<Manifest> {
    try {
      const manifest = await this.#writeManifest(body)
      this.#state = 'published'
      await this.#removeStage().catch(() => {}) // the next start takes care of it
      return manifest
    } catch (error) {
      this.#state = 'open'
      throw error
    }
  }

  async #writeManifest(body: ManifestBody): Promise<Manifest> {
    throwIfStopped(this.#signal)
    const { storage, cluster } = this.#place
    if (body.backupId !== this.#id || body.cluster !== cluster) {
      throw new LifeboatError(
        'usage-invalid',
        `the manifest is for ${body.cluster} ${body.backupId}, not for ${this.#id}`,
      )
    }
    const artifacts = [...this.#artifacts.values()].map((artifact) => {
      if (artifact === null) throw new LifeboatError('usage-invalid', 'an artifact is still being put')
      return artifact
    })
    const { text, manifest } = serializeManifest(body, artifacts)
    if ((await this.#heartbeat.owner()) !== this.#claim.token) throw folderLost(this.#id)
    for (const artifact of artifacts) await this.#checkStored(artifact)
    await this.#place.fence?.({ signal: this.#signal })
    await storage.put(manifestKey(cluster, this.#id), Buffer.from(text), { ifAbsent: true, signal: this.#signal })
    await this.#stopHeartbeat()
    await this.#confirm(artifacts)
    return manifest
  }

  /**
   * Between the last look at the claim and the manifest, this process may have stood still for so long that somebody
   * took the folder for a dead one and cleaned it up. Then the manifest must not stay.
   */
  async #confirm(artifacts: readonly Artifact[]): Promise<void> {
    const { storage, cluster } = this.#place
    const owner = await this.#heartbeat.owner()
    try {
      if (owner !== null && owner !== this.#claim.token) throw folderLost(this.#id)
      // Gone: either the clean-up saw the manifest and took only the claim, or it removed everything.
      if (owner === null) for (const artifact of artifacts) await this.#checkStored(artifact)
    } catch (error) {
      await storage.remove(manifestKey(cluster, this.#id))
      throw error
    }
    // The backup exists, whatever becomes of the claim: one that stays is removed by the next clean-up.
    await storage.remove(inProgressKey(cluster, this.#id)).catch(() => {})
  }

  async abandon(): Promise<void> {
    await this.#stopHeartbeat()
    // Nothing may be written behind the removal. What was under way has been told to stop; a publish may still succeed.
    while (this.#work.size > 0) await Promise.allSettled(this.#work)
    await this.#removeStage()
    if (this.#state === 'published') return
    this.#state = 'abandoned'
    const owner = await this.#heartbeat.owner()
    if (owner === null || owner === this.#claim.token) await removeFolder(this.#place, this.#id)
  }

  async #tracked<T>(work: Promise<T>): Promise<T> {
    this.#work.add(work)
    try {
      return await work
    } finally {
      this.#work.delete(work)
    }
  }

  async #checkStored({ name, stored }: Artifact): Promise<void> {
    const { storage, cluster } = this.#place
    const info = await storage.head(artifactKey(cluster, this.#id, name))
    if (info?.bytes === stored.bytes) return
    const found = info === null ? 'is not there any more' : `has ${info.bytes} bytes instead of ${stored.bytes}`
    throw new LifeboatError('artifact-invalid', `artifact ${name} of ${this.#id} ${found}`)
  }

  #checkOpen(): void {
    if (this.#state !== 'open')
      throw new LifeboatError('conflict', `backup ${this.#id} is not open any more: ${this.#state}`)
  }

  /** Waits for a heartbeat under way, too: it could put the claim back after its removal. */
  async #stopHeartbeat(): Promise<void> {
    this.#ended.abort(new LifeboatError('cancelled', `backup ${this.#id} was given up`))
    await this.#heartbeat.settled()
  }
}

function notWhole(key: string, stored: number, sent: number): LifeboatError {
  const counts = `${stored} bytes are stored, ${sent} were sent`
  return new LifeboatError('storage-failed', `${JSON.stringify(key)} was not stored whole: ${counts}`)
}

function alreadyThere(id: string, cause?: unknown): LifeboatError {
  return new LifeboatError('conflict', `backup ${id} exists already, or is being written`, { cause })
}

function folderLost(id: string): LifeboatError {
  return new LifeboatError(
    'conflict',
    `the folder of backup ${id} was taken by a clean-up while it was being written`,
    {
      hint: 'look for a second lifeboat on this repository, or for a process that was suspended for long',
    },
  )
}
