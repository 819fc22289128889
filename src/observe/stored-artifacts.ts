import type { Artifact, Manifest } from '../domain/backup.ts'
import { LifeboatError } from '../domain/errors.ts'
import type { Proof } from '../domain/proof.ts'
import type { ObjectDescription, ObjectInfo } from '../storage/storage.ts'

interface Stoppable {
  readonly signal?: AbortSignal
}

/** What is known of the files of backups without asking for each. */
export interface ArtifactListing {
  refresh(options?: Stoppable): Promise<void>
  ofBackup(id: string): readonly ObjectInfo[]
  describe(id: string, name: string, options?: Stoppable): Promise<ObjectDescription | null>
}

/** What is known of the objects of a repository; `RememberedStorage` has it. */
export interface RememberedObjects extends ArtifactListing {
  foreign(): { readonly count: number; readonly examples: readonly string[] } | null
  count(): number | null
}

/** What tells of the artifacts of complete backups whether they are what the manifests say. */
export interface ArtifactSurvey {
  /** Tells what a manifest says that was just read. */
  expect(manifest: Manifest): void
  /** What is wrong with the artifacts of these backups, by id: the same error for as long as the same is wrong. */
  survey(ids: readonly string[], signal: AbortSignal): Promise<ReadonlyMap<string, LifeboatError>>
  /** Forgets all other backups. */
  retain(ids: ReadonlySet<string>): void
}

interface StoredArtifactsOptions {
  readonly objects: Pick<ArtifactListing, 'ofBackup' | 'describe'>
  readonly proofs: {
    listProofs(options?: Stoppable): AsyncIterable<{ readonly key: string; readonly backupId: string }>
    readProof(key: string, options?: Stoppable): Promise<Proof>
  }
}

type Expected = Pick<Artifact, 'name' | 'stored'>

interface Seen {
  readonly checksum: string
  readonly artifacts: readonly Expected[]
  /** Identities of the bytes that are taken for those of the backup, by name. */
  readonly versions: ReadonlyMap<string, string>
  /** What was listed when something was wrong; it is not asked again while the same is listed. */
  readonly doubted: string | null
  readonly problem: LifeboatError | null
}

/** Files that a folder has besides the artifacts of its backup. */
const others = new Set(['manifest.json', '.inprogress'])

/**
 * Compares what is listed of complete backups with their manifests, and with what was there when a backup was first seen:
 * artifacts that are missing, truncated or replaced are found without reading a byte of them. Where the listing raises a
 * doubt, the server is asked for that object, once.
 */
export class StoredArtifacts implements ArtifactSurvey {
  readonly #options: StoredArtifactsOptions
  readonly #backups = new Map<string, Seen>()

  constructor(options: StoredArtifactsOptions) {
    this.#options = options
  }

  /** See ArtifactSurvey. */
  expect({ backupId, checksum, artifacts }: Manifest): void {
    if (this.#backups.get(backupId)?.checksum === checksum) return
    const expected = artifacts.map(({ name, stored }) => ({ name, stored }))
    this.#backups.set(backupId, { checksum, artifacts: expected, versions: new Map(), doubted: null, problem: null })
  }

  /** See ArtifactSurvey. */
  retain(ids: ReadonlySet<string>): void {
    for (const id of this.#backups.keys()) if (!ids.has(id)) this.#backups.delete(id)
  }

  /** Objects in the folders of these backups that are none of theirs. */
  foreign(ids: Iterable<string>): readonly string[] {
    const found: string[] = []
    for (const id of ids) {
      const known = new Set(this.#backups.get(id)?.artifacts.map(({ name }) => name))
      for (const { key } of this.#options.objects.ofBackup(id)) {
        const name = nameOf(key)
        if (!known.has(name) && !others.has(name)) found.push(key)
      }
    }
    return found
  }

  /** See ArtifactSurvey. */
  async survey(ids: readonly string[], signal: AbortSignal): Promise<ReadonlyMap<string, LifeboatError>> {
    const problems = new Map<string, LifeboatError>()
    for (const id of ids) {
      const problem = await this.#look(id, signal)
      if (problem !== null) problems.set(id, problem)
    }
    return problems
  }

  /** What is wrong with the artifacts of a backup; null: nothing that can be seen, or it is gone by now. */
  async #look(id: string, signal: AbortSignal): Promise<LifeboatError | null> {
    const seen = this.#backups.get(id)
    if (seen === undefined) return null
    const found = new Map(this.#options.objects.ofBackup(id).map((info) => [nameOf(info.key), info]))
    const doubtful = seen.artifacts.filter(({ name, stored }) => {
      const info = found.get(name)
      return info?.bytes !== stored.bytes || info.version !== (seen.versions.get(name) ?? info.version)
    })
    const keep = (changes: Partial<Seen>) => this.#backups.set(id, { ...seen, ...changes })
    if (doubtful.length === 0) {
      if (seen.versions.size === 0 || seen.problem !== null)
        keep({ versions: versionsOf(seen.artifacts, found), doubted: null, problem: null })
      return null
    }
    const proofKey = await this.#newestProof(id, signal)
    const doubted = JSON.stringify([
      proofKey,
      ...doubtful.map(({ name }) => [name, found.get(name)?.bytes, found.get(name)?.version]),
    ])
    if (doubted === seen.doubted) return seen.problem
    const hashed = await this.#hashedIn(proofKey, seen.checksum, signal)
    for (const artifact of doubtful) {
      const is = await this.#options.objects.describe(id, artifact.name, { signal })
      const problem = problemOf(id, artifact, is, { version: seen.versions.get(artifact.name), hashed })
      if (problem === null) {
        if (is !== null) found.set(artifact.name, is.info)
        continue
      }
      // Expiry takes the manifest away first.
      if ((await this.#options.objects.describe(id, 'manifest.json', { signal })) === null) return null
      keep({ doubted, problem })
      return problem
    }
    keep({ versions: versionsOf(seen.artifacts, found), doubted: null, problem: null })
    return null
  }

  async #newestProof(id: string, signal: AbortSignal): Promise<string | null> {
    let newest: string | null = null
    for await (const { key, backupId } of this.#options.proofs.listProofs({ signal })) if (backupId === id) newest = key
    return newest
  }

  /** What a verification has read, and found to be as the manifest says. */
  async #hashedIn(key: string | null, checksum: string, signal: AbortSignal): Promise<Proof['hashed']> {
    if (key === null) return []
    try {
      const proof = await this.#options.proofs.readProof(key, { signal })
      return proof.manifestChecksum === checksum ? proof.hashed : []
    } catch (error) {
      if (error instanceof LifeboatError && (error.code === 'proof-invalid' || error.code === 'object-missing'))
        return []
      throw error
    }
  }
}

function problemOf(
  id: string,
  { name, stored }: Expected,
  is: ObjectDescription | null,
  known: { readonly version: string | undefined; readonly hashed: Proof['hashed'] },
): LifeboatError | null {
  if (is === null) return damaged(id, name, 'is missing')
  const { bytes, version } = is.info
  if (bytes !== stored.bytes) return damaged(id, name, lengthProblem(bytes, stored.bytes))
  if (known.version === undefined || known.version === version) return null
  // Copied within the bucket, into another class or under another key, bytes get another ETag as well.
  const wasRead = known.hashed.some((one) => one.name === name && one.version === version)
  if (wasRead || is.sha256 === stored.sha256) return null
  return damaged(id, name, 'was replaced')
}

/** What is said of an artifact that is not what it was. */
export function damaged(id: string, name: string, what: string): LifeboatError {
  return new LifeboatError('artifact-invalid', `${name} of backup ${id} ${what}`, {
    hint: 'restore another backup, and find out who writes to the repository; `lifeboat verify` reads it whole',
  })
}

export function lengthProblem(bytes: number, expected: number): string {
  return `has ${bytes} bytes, not the ${expected} of its manifest`
}

function versionsOf(artifacts: readonly Expected[], found: ReadonlyMap<string, ObjectInfo>): Map<string, string> {
  return new Map(artifacts.map(({ name }) => [name, found.get(name)?.version ?? '']))
}

function nameOf(key: string): string {
  return key.slice(key.lastIndexOf('/') + 1)
}
