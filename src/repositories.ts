import process from 'node:process'
import type { Clock } from './clock.ts'
import { postureNeedsOf } from './config/posture.ts'
import type { BucketConfig, ValidatedConfig } from './config/validated.ts'
import { largeObjectBytes } from './domain/backup-objects.ts'
import type { BandwidthRule } from './domain/bandwidth.ts'
import { judgePosture, type PostureFinding, type PostureNeeds } from './domain/posture.ts'
import { Cipher } from './encryption/cipher.ts'
import { isForGood, type ObjectKind, objectKind } from './repository/layout.ts'
import { RememberedStorage } from './repository/remembered.ts'
import { type IdentityLedger, Repository } from './repository/repository.ts'
import { LimitedStorage } from './storage/limited.ts'
import { LocalStorage } from './storage/local.ts'
import { S3Storage } from './storage/s3.ts'
import type { S3Bucket } from './storage/s3-bucket.ts'
import type { RequestCount } from './storage/s3-counts.ts'
import type { Capacity, FileLook, Storage } from './storage/storage.ts'

/** A storage, with what tells whether it is there, and what clears away half-written objects. */
export interface RepositoryStorage extends Storage {
  exists(): Promise<boolean>
  cleanTemporary(options?: { readonly elsewhere?: boolean }): Promise<number>
}

/** A configured repository, and where it is stored. */
export interface CoreRepository {
  readonly repository: Repository
  readonly storage: RepositoryStorage
  /** Its directory; null for a bucket. */
  readonly path: string | null
  /** Its bucket; null for a directory. */
  readonly bucket: S3Bucket | null
  /** How that is set up. */
  readonly posture: ((signal: AbortSignal) => Promise<readonly PostureFinding[]>) | null
  /** Null where there is no end to it. */
  readonly capacity: (() => Promise<Capacity>) | null
  /** For who looks at it again and again. */
  readonly observed: {
    /** Of a bucket it answers from what `objects` has listed. */
    readonly repository: Repository
    /** Null where looking costs nothing. */
    readonly objects: RememberedStorage | null
    /** What compares the files of its backups with their manifests; null for a bucket. */
    readonly files: FileLook | null
  }
  /** What was sent to the bucket; null for a directory. */
  readonly requestCounts: (() => readonly RequestCount[]) | null
}

/**
 * The configured repositories, the nearest first: directories, then buckets, and each of them in the order of the configuration. Who
 * reads what several have takes the first that has it whole. Nothing is touched. Without a ledger nobody sees whether they
 * are the ones that they were.
 */
export function makeRepositories(
  { cluster, repositories, encryption }: Pick<ValidatedConfig, 'cluster' | 'repositories' | 'encryption'>,
  {
    clock,
    version,
    ledger,
    fence,
  }: {
    clock: Clock
    version: string
    ledger: IdentityLedger | null
    fence?: (name: string, options: { readonly signal?: AbortSignal }) => Promise<void>
  },
): readonly CoreRepository[] {
  const walCipher = new Cipher(encryption)
  const nearest = repositories.toSorted((a, b) => Number(a.path === null) - Number(b.path === null))
  return nearest.map((configured) => {
    const { name, path, bucket, bandwidth } = configured
    const local = path === null ? null : new LocalStorage({ root: path, clock })
    const remote = bucket === null ? null : bucketStorage(bucket, clock)
    const place = local ?? remote
    if (place === null) throw new TypeError('a repository is a directory or a bucket')
    const storage = limited(place, bandwidth, clock)
    const identity = ledger === null ? {} : { identity: { ledger, lifeboat: version, exists: () => storage.exists() } }
    const fenced = fence === undefined ? {} : { fence: fence.bind(null, name) }
    const repository = new Repository({ name, cluster, storage, clock, walCipher, ...identity, ...fenced })
    const objects = remote === null ? null : new RememberedStorage({ storage: remote, cluster, clock })
    const observed =
      objects === null ? repository : new Repository({ name, cluster, storage: objects, clock, walCipher, ...identity })
    return {
      ...{ path, storage, repository, observed: { repository: observed, objects, files: local?.files ?? null } },
      bucket: remote?.bucket ?? null,
      posture: postureOf(remote?.bucket, postureNeedsOf(cluster, configured)),
      capacity: local === null ? null : () => local.capacity(),
      requestCounts: remote === null ? null : () => remote.requestCounts(),
    }
  })
}

/** The buckets in which other tools put dumps. */
export function makeWatchedBuckets({ watchedBuckets }: Pick<ValidatedConfig, 'watchedBuckets'>, clock: Clock) {
  return watchedBuckets.map((place) => ({ place, storage: bucketStorage(place.bucket, clock) }))
}

/** What was sent to each bucket since the process began. */
export function bucketRequests(
  repositories: readonly CoreRepository[],
  watched: ReturnType<typeof makeWatchedBuckets>,
): readonly { readonly repository: string; readonly requests: readonly RequestCount[] }[] {
  return [
    ...repositories.flatMap(({ repository: { name }, requestCounts }) =>
      requestCounts === null ? [] : [{ repository: name, requests: requestCounts() }],
    ),
    ...watched.map(({ place: { name }, storage }) => ({ repository: name, requests: storage.requestCounts() })),
  ]
}

function limited(storage: RepositoryStorage, rules: readonly BandwidthRule[], clock: Clock): RepositoryStorage {
  if (rules.length === 0) return storage
  return Object.assign(new LimitedStorage(storage, { rules, clock }), {
    exists: () => storage.exists(),
    cleanTemporary: storage.cleanTemporary.bind(storage),
  })
}

function postureOf(bucket: S3Bucket | undefined, needs: PostureNeeds | null): CoreRepository['posture'] {
  if (bucket === undefined || needs === null) return null
  return async (signal) => judgePosture(await bucket.facts({ signal }), needs)
}

function bucketStorage(bucket: BucketConfig, clock: Clock): S3Storage {
  const classes: Partial<Record<ObjectKind, string | null>> = {
    artifact: bucket.storageClass,
    wal: bucket.walStorageClass,
  }
  const storageClass = (key: string, bytes: number) =>
    bytes >= largeObjectBytes ? (classes[objectKind(key)] ?? null) : null
  const objectLock = bucket.objectLock === null ? null : { ...bucket.objectLock, covers: isForGood }
  return new S3Storage({ settings: { ...bucket, storageClass, objectLock, env: process.env }, clock })
}
