import { Readable } from 'node:stream'
import type { Clock } from '../clock.ts'
import { compactUtc, isBackupId, parseBackupId } from '../domain/backup.ts'
import { LifeboatError } from '../domain/errors.ts'
import type { SortedObjects } from '../storage/sorted-objects.ts'
import type {
  CommonPrefix,
  GetOptions,
  ListOptions,
  ObjectDescription,
  ObjectInfo,
  PutOptions,
  Storage,
  StoredObject,
} from '../storage/storage.ts'
import { type ForeignObjects, SweptObjects } from '../storage/swept-objects.ts'
import { readWhole, type Stoppable } from './backup-folder.ts'
import {
  backupsPrefix,
  heldBackupId,
  holdsPrefix,
  isArtifactName,
  leaseToken,
  manifestKey,
  markerKey,
  proofBackupId,
  proofsPrefix,
  usedBackupId,
  usesPrefix,
  walPrefix,
} from './layout.ts'

/** Longer than any job takes between the start that its id tells and the first object, and than clocks differ. */
const lookBackMs = 24 * 3_600_000

/** What was listed longer ago is asked for again. */
const freshMs = 5 * 60_000

/** Small objects that are read at each look: they are read again when they have changed. */
const keptBytes = 64 * 1024

interface DescribedStorage extends Storage {
  describe(key: string, options?: Stoppable): Promise<ObjectDescription | null>
}

/**
 * A storage whose listings cost money, for who looks at it again and again. `refresh` lists all but the WAL in one go, in
 * the order of the keys: a page at a time, so that a large repository is gone through in several rounds, and then where new
 * keys are to be expected. In between what was listed answers. All else, and what is written, goes to the storage itself.
 */
export class RememberedStorage implements Storage {
  readonly #storage: DescribedStorage
  readonly #cluster: string
  readonly #clock: Clock
  readonly #swept: SweptObjects
  readonly #read = new Map<string, { readonly version: string; readonly bytes: Buffer }>()
  /** Folders of which something has changed since they were listed. */
  readonly #doubtful = new Set<string>()

  constructor({ storage, cluster, clock }: { storage: DescribedStorage; cluster: string; clock: Clock }) {
    this.#storage = storage
    this.#cluster = cluster
    this.#clock = clock
    this.#swept = new SweptObjects({
      ...{ storage, clock, prefix: `${cluster}/`, end: walPrefix(cluster) },
      kindOf: (key) => this.#kindOf(key),
      newest: () => this.#newest(),
    })
  }

  /** Lists what may have changed: a page, and where there is more than a page, the newest backups and proofs. */
  async refresh({ signal }: Stoppable = {}): Promise<void> {
    await this.#swept.refresh(signal)
    this.#doubtful.clear()
    for (const key of this.#read.keys()) if (this.#objects.find(key) === null) this.#read.delete(key)
  }

  get #objects(): SortedObjects {
    return this.#swept.kept
  }

  /** What is known to be in the folder of a backup. */
  ofBackup(id: string): readonly ObjectInfo[] {
    return [...this.#objects.list(`${backupsPrefix(this.#cluster)}${id}/`)].filter((item) => 'key' in item)
  }

  /** Null until everything was listed once. What nobody knows among the artifacts of a backup is not among them. */
  foreign(): ForeignObjects | null {
    return this.#swept.foreign
  }

  /** How many objects there are beside the WAL; null until everything was listed once. */
  count(): number | null {
    return this.#swept.count
  }

  /** What the storage itself says of an object of a backup now; null if it is not there. */
  async describe(id: string, name: string, options: Stoppable = {}): Promise<ObjectDescription | null> {
    return this.#storage.describe(`${backupsPrefix(this.#cluster)}${id}/${name}`, options)
  }

  async put(key: string, body: Readable | Uint8Array, options?: PutOptions): Promise<ObjectInfo> {
    return this.#storage.put(key, body, options)
  }

  async remove(key: string, options?: Stoppable): Promise<void> {
    return this.#storage.remove(key, options)
  }

  async head(key: string, options: Stoppable = {}): Promise<ObjectInfo | null> {
    return this.#knows(key) ? this.#objects.find(key) : this.#storage.head(key, options)
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncGenerator<ObjectInfo | CommonPrefix> {
    if (this.#knows(prefix)) yield* this.#objects.list(prefix, options)
    else yield* this.#storage.list(prefix, options)
  }

  async get(key: string, options: GetOptions = {}): Promise<StoredObject> {
    if (!this.#knows(key)) return this.#storage.get(key, options)
    const info = this.#objects.find(key)
    if (info === null)
      throw new LifeboatError('object-missing', `cannot read ${JSON.stringify(key)}: it does not exist`)
    if (!this.#isReadAgain(key) || info.bytes > keptBytes) return this.#really(key, options)
    const kept = this.#read.get(key)
    if (kept?.version === info.version) return { info, body: Readable.from([kept.bytes]) }
    const { info: found, bytes } = await this.#asking(key, () => readWhole(this.#storage, key, keptBytes, options))
    if (bytes === null) return this.#really(key, options)
    this.#read.set(key, { version: found.version, bytes })
    return { info: found, body: Readable.from([bytes]) }
  }

  #really(key: string, options: GetOptions): Promise<StoredObject> {
    return this.#asking(key, () => this.#storage.get(key, options))
  }

  /** What is not there any more was removed since, and maybe something else of its folder was put or removed with it. */
  async #asking<T>(key: string, ask: () => Promise<T>): Promise<T> {
    try {
      return await ask()
    } catch (error) {
      if (error instanceof LifeboatError && error.code === 'object-missing') this.#doubtful.add(folderOf(key))
      throw error
    }
  }

  /** The marker, and claims: nobody remembers what they say. */
  #isReadAgain(key: string): boolean {
    return key === markerKey(this.#cluster) || key.endsWith('/.inprogress') || key.startsWith(usesPrefix(this.#cluster))
  }

  /** True for what is remembered, or would be if it were there. */
  #knows(key: string): boolean {
    const { refreshedAt } = this.#swept
    if (refreshedAt === null || this.#clock.monotonic() - refreshedAt > freshMs) return false
    if (this.#doubtful.has(folderOf(key))) return false
    const of = this.#cluster
    return (
      key === markerKey(of) ||
      [backupsPrefix(of), holdsPrefix(of), proofsPrefix(of), usesPrefix(of)].some((prefix) => key.startsWith(prefix))
    )
  }

  #kindOf(key: string): 'kept' | 'ours' | 'foreign' {
    const of = this.#cluster
    if (key === markerKey(of)) return 'kept'
    if (key.startsWith(backupsPrefix(of))) {
      const [id = '', name = '', ...deeper] = key.slice(backupsPrefix(of).length).split('/')
      const isOurs = name === '.inprogress' || name === 'manifest.json' || isArtifactName(name)
      return isBackupId(id) && deeper.length === 0 && isOurs ? 'kept' : 'foreign'
    }
    if ([heldBackupId, usedBackupId, proofBackupId].some((parse) => parse(of, key) !== null)) return 'kept'
    return leaseToken(of, key) !== null || key.startsWith(`${of}/quarantine/`) ? 'ours' : 'foreign'
  }

  /** Behind which keys new backups and new proofs are. A backup that is being written for longer is looked at as well. */
  #newest() {
    const since = this.#clock.now().getTime() - lookBackMs
    let oldest = since
    const prefix = backupsPrefix(this.#cluster)
    for (const item of this.#objects.list(prefix, { delimiter: '/' })) {
      const id = 'prefix' in item ? item.prefix.slice(prefix.length, -1) : ''
      const startedAt = parseBackupId(id)?.at.getTime() ?? since
      if (startedAt >= oldest) break
      if (this.#objects.find(manifestKey(this.#cluster, id)) !== null) continue
      const isAlive = this.ofBackup(id).some(({ modified }) => modified.getTime() >= since)
      if (isAlive) oldest = startedAt
    }
    const [backups, proofs] = [prefix, proofsPrefix(this.#cluster)]
    return [
      { after: `${backups}${compactUtc(new Date(oldest))}`, before: proofs },
      { after: `${proofs}${compactUtc(new Date(since))}`, before: walPrefix(this.#cluster) },
    ]
  }
}

function folderOf(key: string): string {
  return key.slice(0, key.lastIndexOf('/') + 1)
}
