import type { Logger } from 'pino'
import type { Manifest } from '../domain/backup.ts'
import { type ErrorCode, type Failure, isStorageFailure, LifeboatError, toFailure } from '../domain/errors.ts'
import type { Proof } from '../domain/proof.ts'
import type { Capacity, FileLook, ObjectInfo } from '../storage/storage.ts'
import type { BackupSummary, ProofSummary, RepositoryState, UnusableBackup } from './catalog.ts'
import { createClaimsLook, type ObservableClaims } from './claims.ts'
import { ComparedArtifacts, type Pace } from './compared-artifacts.ts'
import { mapConcurrently } from './concurrent.ts'
import { createReplicationLook } from './replication.ts'
import {
  type ArtifactListing,
  type ArtifactSurvey,
  type RememberedObjects,
  StoredArtifacts,
} from './stored-artifacts.ts'
import { createIntern, summarizeManifest, summarizeProof } from './summaries.ts'

interface Stoppable {
  readonly signal?: AbortSignal
}

type ReadManifest = { readonly info: ObjectInfo } & (
  | { readonly manifest: Manifest }
  | { readonly problem: LifeboatError }
)

interface ProofEntry {
  readonly key: string
  readonly backupId: string
  readonly info: ObjectInfo
}

/** What the observer needs of a repository; `Repository` has it. */
export interface ObservableRepository extends ObservableClaims {
  readonly name: string
  readonly cluster: string
  /** Fails when this is not the repository that it was, or nothing is there. */
  checkPresence(options?: Stoppable): Promise<void>
  listBackups(options?: Stoppable): AsyncIterable<string>
  inspect(
    id: string,
    options?: Stoppable,
  ): Promise<{
    readonly state: 'complete' | 'in-progress' | 'incomplete'
    readonly manifest: ObjectInfo | null
  } | null>
  headManifest(id: string, options?: Stoppable): Promise<ObjectInfo | null>
  readManifestObject(id: string, options?: Stoppable): Promise<ReadManifest>
  listProofs(options?: Stoppable): AsyncIterable<ProofEntry>
  readProof(key: string, options?: Stoppable): Promise<Proof>
}

export interface RepositoryLookOptions {
  readonly repository: ObservableRepository
  /** Space of the storage; null where it has no known limit. */
  readonly capacity: (() => Promise<Capacity>) | null
  /** What the repository answers from, where to ask for each object would cost too much. Default: there is no such thing. */
  readonly objects?: RememberedObjects | null
  /** The files of its backups, to be compared with their manifests. Default: `objects`. */
  readonly artifacts?: ArtifactListing | null
  /** What compares those files instead, where they lie in a directory. Default: nothing. */
  readonly files?: FileLook | null
  /** How much of a look that may take. Default: what it takes. */
  readonly pace?: Pace | null
  readonly log: Logger
}

/** What was learned from bytes of this version; a failure is remembered as well, so that it is read and told of once. */
type Known<T> = { readonly version: string } & ({ readonly summary: T } | { readonly failure: Failure })

/** Asked for together: a storage may answer many at once at little more than the cost of one. */
const concurrency = 64

/**
 * Makes the look at one repository. It lists everything each time (the listing is the truth) but reads a manifest or a
 * proof only when its `ObjectInfo.version` is new. Artifacts are compared with the manifest where they are listed (a bucket)
 * or can be looked at cheaply (a directory). A manifest that cannot be read makes that backup `invalid` and leaves the
 * others alone; an invalid proof is logged once and proves nothing. The look fails, and the last known
 * state stays, when the storage itself does: it is not the one that it was (an unmounted disk looks like an empty
 * repository), cannot list, cannot find a backup again that was there, or reads none.
 */
export function createRepositoryLook(
  options: RepositoryLookOptions,
): (signal: AbortSignal) => Promise<RepositoryState> {
  const { repository, capacity, objects = null, artifacts: listing = objects, files = null, pace = null, log } = options
  const intern = createIntern()
  const stored = listing === null ? null : new StoredArtifacts({ objects: listing, proofs: repository })
  const artifacts: ArtifactSurvey | null = files === null ? stored : new ComparedArtifacts({ files, repository, pace })
  const lookAtReplication = objects === null ? null : createReplicationLook(objects)
  const told = new WeakSet<LifeboatError>()
  let toldForeign = 0
  const lookAtClaims = createClaimsLook(repository)
  let manifests: ReadonlyMap<string, Known<BackupSummary>> = new Map()
  let proofs: ReadonlyMap<string, Known<ProofSummary>> = new Map()
  let last: Pick<RepositoryState, 'backups' | 'proofs'> | null = null
  let capacityFailed = false

  function cannotBeUsed(error: unknown, key: string, version: string, former: Known<unknown> | undefined) {
    // Neither a defect of ours nor the end of the look says anything about the object.
    if (!(error instanceof LifeboatError) || error.code === 'cancelled') throw error
    const failure = toFailure(error)
    const told = former !== undefined && 'failure' in former && former.failure.message === failure.message
    if (!told) log.warn({ repository: repository.name, key, failure }, 'object cannot be used')
    // Wrong bytes stay wrong until they change; a disk or a network may read them well the next time.
    return { version: isStorageFailure(error.code) ? '' : version, failure }
  }

  /** Null if there is none. */
  async function readManifest(id: string, signal: AbortSignal): Promise<ReadManifest | null> {
    try {
      return await repository.readManifestObject(id, { signal })
    } catch (error) {
      if (hasCode(error, 'manifest-missing')) return null
      throw error
    }
  }

  async function lookAtBackup(
    id: string,
    signal: AbortSignal,
  ): Promise<{ id: string; known: Known<BackupSummary> } | UnusableBackup | null> {
    const former = manifests.get(id)
    let version = ''
    try {
      if (former !== undefined) {
        version = (await repository.headManifest(id, { signal }))?.version ?? ''
        if (former.version !== '' && former.version === version) return { id, known: former }
      }
      let read = await readManifest(id, signal)
      if (read === null) {
        const found = await repository.inspect(id, { signal })
        if (found === null) return null
        if (found.state !== 'complete') return Object.freeze({ id, state: found.state })
        // Published between the two looks.
        read = await readManifest(id, signal)
        if (read === null) return null
      }
      version = read.info.version
      if ('problem' in read) throw read.problem
      artifacts?.expect(read.manifest)
      return { id, known: { version, summary: summarizeManifest(read.manifest, intern, read.info.lock) } }
    } catch (error) {
      if (version === '' && former !== undefined && 'summary' in former) throw error
      return { id, known: cannotBeUsed(error, id, version, former) }
    }
  }

  function spoiledBy(problem: LifeboatError, summary: BackupSummary): UnusableBackup {
    const { id } = summary
    const failure = toFailure(problem)
    if (!told.has(problem)) log.warn({ repository: repository.name, backup: id, failure }, 'backup cannot be used')
    told.add(problem)
    return Object.freeze({ id, state: 'invalid', failure, summary })
  }

  /** Null where nobody has counted. */
  function foreignAmong(ids: Iterable<string>): number | null {
    const outside = objects?.foreign() ?? null
    if (stored === null || outside === null) return null
    const inside = stored.foreign(ids)
    const count = outside.count + inside.length
    if (count > 0 && count !== toldForeign) {
      const examples = [...outside.examples, ...inside].slice(0, 5)
      log.warn({ repository: repository.name, count, examples }, 'objects of somebody else are in the repository')
    }
    toldForeign = count
    return count
  }

  async function lookAtProof({ key, info }: ProofEntry, signal: AbortSignal): Promise<Known<ProofSummary> | null> {
    const former = proofs.get(key)
    if (former?.version === info.version) return former
    try {
      const summary = summarizeProof(await repository.readProof(key, { signal }), intern)
      return { version: info.version, summary }
    } catch (error) {
      if (hasCode(error, 'object-missing')) return null
      return cannotBeUsed(error, key, info.version, former)
    }
  }

  async function measureCapacity(): Promise<Capacity | null> {
    if (capacity === null) return null
    try {
      const measured = Object.freeze(await capacity())
      capacityFailed = false
      return measured
    } catch (error) {
      if (!capacityFailed)
        log.warn({ repository: repository.name, failure: toFailure(error) }, 'free space is not known')
      capacityFailed = true
      return null
    }
  }

  return async (signal) => {
    await listing?.refresh({ signal })
    await repository.checkPresence({ signal })
    const ids = repository.listBackups({ signal })
    const found = await mapConcurrently(ids, concurrency, signal, (id) => lookAtBackup(id, signal))
    const complete = found.flatMap((one) => (one !== null && 'known' in one && 'summary' in one.known ? [one.id] : []))
    const problems = await artifacts?.survey(complete, signal)
    const nextManifests = new Map<string, Known<BackupSummary>>()
    const backups: BackupSummary[] = []
    const unusable: UnusableBackup[] = []
    // The checksum that a proof must name: of the present manifest, or empty where there is none that can be read.
    const checksums = new Map<string, string>()
    for (const backup of found) {
      if (backup === null) continue
      if (!('known' in backup)) {
        unusable.push(backup)
        continue
      }
      const { id, known } = backup
      nextManifests.set(id, known)
      const problem = problems?.get(id)
      if ('summary' in known && problem !== undefined) {
        unusable.push(spoiledBy(problem, known.summary))
        checksums.set(id, '')
      } else if ('summary' in known) {
        backups.push(known.summary)
        checksums.set(id, known.summary.manifestChecksum)
      } else {
        unusable.push(Object.freeze({ id, state: 'invalid', failure: known.failure }))
        checksums.set(id, '')
      }
    }
    const unread = unusable.filter((backup) => isStorageFailure(backup.failure?.code))
    if (unread.length === found.length && unread[0]?.failure) {
      throw new LifeboatError(unread[0].failure.code, unread[0].failure.message, unread[0].failure)
    }

    const nextProofs = new Map<string, Known<ProofSummary>>()
    const counted = new Map<string, ProofSummary[]>()
    const unreadProofs = new Set<string>()
    let listedProofs = 0
    await mapConcurrently(repository.listProofs({ signal }), concurrency, signal, async (entry) => {
      const { key, backupId } = entry
      listedProofs += 1
      const checksum = checksums.get(backupId)
      if (checksum === undefined) return
      const known = await lookAtProof(entry, signal)
      if (known === null) return
      nextProofs.set(key, known)
      if (!('summary' in known)) unreadProofs.add(backupId)
      if (!('summary' in known) || known.summary.manifestChecksum !== checksum) return
      const others = counted.get(backupId)
      if (others === undefined) counted.set(backupId, [known.summary])
      else others.push(known.summary)
    })
    for (const list of counted.values()) {
      list.sort((a, b) => b.finishedAt.getTime() - a.finishedAt.getTime())
      Object.freeze(list)
    }

    artifacts?.retain(new Set(nextManifests.keys()))
    const foreign = foreignAmong(nextManifests.keys())
    const replication = (await lookAtReplication?.(backups, signal)) ?? null
    const claims = await lookAtClaims(signal)
    const measured = await measureCapacity()
    const seen = backups.reduce((sum, { objects: of }) => sum + 1 + (of?.large ?? 0) + (of?.small ?? 0), 0)
    const count = objects === null ? seen + listedProofs + claims.holds.size + claims.uses.length : objects.count()
    // The disk may have gone while it was listed: then some of it seemed to have been removed.
    await repository.checkPresence({ signal })
    // A look that was given up may end after a newer one: what it learned must not replace what that one knows.
    signal.throwIfAborted()
    manifests = nextManifests
    proofs = nextProofs
    // Who goes through all of them can tell by the identity that there is nothing new.
    if (last === null || !areSame(last.backups, backups)) last = { backups: Object.freeze(backups), proofs: counted }
    else if (!haveSameProofs(last.proofs, counted)) last = { ...last, proofs: counted }
    return Object.freeze({
      name: repository.name,
      ...last,
      unusable: Object.freeze(unusable),
      unreadProofs,
      ...claims,
      capacity: measured,
      ...(foreign === null ? {} : { foreign }),
      ...(count === null ? {} : { objects: count }),
      ...(replication === null ? {} : { replication }),
    })
  }
}

function hasCode(error: unknown, code: ErrorCode): boolean {
  return error instanceof LifeboatError && error.code === code
}

function areSame<T>(a: readonly T[], b: readonly T[]): boolean {
  return a.length === b.length && a.every((one, index) => one === b[index])
}

function haveSameProofs(a: RepositoryState['proofs'], b: RepositoryState['proofs']): boolean {
  return a.size === b.size && [...a].every(([id, proofs]) => areSame(proofs, b.get(id) ?? []))
}
