import { createWriteStream } from 'node:fs'
import { chown, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type Readable, Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Clock } from '../clock.ts'
import { type Artifact, type Digest, findArtifact, isEncryptedArtifact, type Manifest } from '../domain/backup.ts'
import { LifeboatError } from '../domain/errors.ts'
import type { HashedArtifact } from '../domain/proof.ts'
import { ageFailure, decryptStage, type EncryptionConfig } from '../encryption/age.ts'
import { filterThrough } from '../encryption/filter.ts'
import { wasKilled, withCause } from '../postgres/failures.ts'
import type { OsUser, ProgramOptions } from '../postgres/programs.ts'
import { chooseTools, type UnpackTools, unpackTar } from '../postgres/unpacked-tar.ts'
import type { Repository } from '../repository/repository.ts'
import { DigestStream } from '../storage/digest.ts'
import { storageFailure } from '../storage/failures.ts'
import { FileStream } from '../storage/file-stream.ts'
import { saveBody } from '../storage/save.ts'
import { ByteCount } from './byte-count.ts'
import { incompleteMarker } from './places.ts'

/** One member of a chain and where it can be read, nearest first. */
export interface ChainMember {
  readonly manifest: Manifest
  readonly repositories: readonly Repository[]
}

/** What is wrong with an artifact; stands in `details.cause` of the error. */
export type ArtifactFault = 'artifact-missing' | 'size-mismatch' | 'checksum-mismatch' | 'archive-broken'

export interface FetchOptions {
  /** For FIFOs. */
  readonly folder: string
  readonly owner: OsUser | null
  readonly env: Readonly<Record<string, string>>
  readonly clock: Clock
  /** For what is encrypted. */
  readonly encryption: EncryptionConfig
  /** Of what is stored; negative for what is read again. */
  readonly onBytes: (bytes: number) => void
}

/** One artifact in one repository. */
interface Copy {
  readonly repository: Repository
  readonly backupId: string
  readonly artifact: Artifact
}

/**
 * PostgreSQL's manifest is an artifact of its own; the map would have a server use the directories of another one; and a mark
 * that was backed up names those of another restore.
 */
const leftOut = ['backup_manifest', 'tablespace_map', incompleteMarker]

/** Reads artifacts, from the first repository that has them as the manifest says. */
export class ArtifactFetcher {
  readonly hashed: (HashedArtifact & { readonly backupId: string })[] = []
  readonly #options: FetchOptions
  #tools: Promise<UnpackTools> | null = null
  #fifos = 0

  constructor(options: FetchOptions) {
    this.#options = options
  }

  /**
   * Unpacks an artifact into a directory, which `clear` empties when the next repository has to be tried.
   *
   * @throws LifeboatError `artifact-invalid`; what the repositories fail with; `disk-full`
   */
  async unpack(
    member: ChainMember,
    name: string,
    { directory, clear, signal }: { directory: string; clear: () => Promise<void>; signal: AbortSignal },
  ): Promise<void> {
    this.#tools ??= chooseTools(signal)
    const tools = await this.#tools // before there is a source that could fail, and nobody who listens
    await this.#fromAny(member, name, { signal, clear }, async (copy, source, { count, decrypt }) => {
      const { folder, owner, env } = this.#options
      const fifo = join(folder, `${++this.#fifos}.fifo`)
      const descriptor = source instanceof FileStream ? source.whole : null
      const stop = descriptor === null ? count.follow(source) : count.watch(descriptor)
      const how = { directory, exclude: leftOut, owner, fifo, env, decrypt, tools, signal }
      // Its descriptor may be another file's from here on.
      const sha256 = await unpackTar({ source, descriptor, ...how })
        .finally(stop)
        .catch((error: unknown) => this.#explain(copy, error, signal))
      assertSame(copy, { bytes: copy.artifact.stored.bytes, sha256 })
    })
  }

  /** Reads an artifact into a file, which must not be there. @throws LifeboatError as `unpack` */
  async read(member: ChainMember, name: string, path: string, signal: AbortSignal): Promise<void> {
    const clear = () => rm(path, { force: true })
    await this.#fromAny(member, name, { signal, clear }, async (copy, source, { count, decrypt }) => {
      count.follow(source)
      const failed = (error: unknown) => {
        throw storageFailure(`cannot write ${path}`, error)
      }
      if (decrypt === null) assertSame(copy, await saveBody(source, path).catch(failed))
      else {
        const hashing = new DigestStream()
        const file = createWriteStream(path, { flags: 'wx', mode: 0o600 })
        pipeline(source, hashing).catch(() => {}) // it fails with what the source does
        await filterThrough(decrypt, hashing, signal, (output) =>
          pipeline(output, file, { signal }).catch(failed),
        ).catch((error: unknown) => this.#explain(copy, error, signal))
        assertSame(copy, hashing.digest())
      }
      const { owner } = this.#options
      if (owner !== null) await chown(path, owner.uid, owner.gid)
    })
  }

  async #fromAny(
    member: ChainMember,
    name: string,
    { signal, clear }: { readonly signal: AbortSignal; readonly clear: () => Promise<void> },
    use: (
      copy: Copy,
      source: Readable,
      how: { readonly count: ByteCount; readonly decrypt: ProgramOptions | null },
    ) => Promise<void>,
  ): Promise<void> {
    const { backupId, artifacts } = member.manifest
    const artifact = findArtifact({ artifacts }, name)
    if (artifact === undefined) throw new LifeboatError('artifact-invalid', `${backupId} has no ${name}`)
    const decrypt = isEncryptedArtifact(artifact) ? await decryptStage(this.#options.encryption) : null
    const problems: unknown[] = []
    for (const repository of member.repositories) {
      const copy = { repository, backupId, artifact }
      const count = new ByteCount(this.#options)
      try {
        const version = await present(copy, signal)
        await use(copy, await repository.readArtifact(backupId, artifact.name, { signal }), { count, decrypt })
        count.set(artifact.stored.bytes)
        const hashedAt = this.#options.clock.now().toISOString()
        this.hashed.push({ backupId, name: artifact.name, version, stored: artifact.stored, hashedAt })
        return
      } catch (error) {
        count.set(0) // it is read again, or not at all
        signal.throwIfAborted()
        if (isOurs(error)) throw error
        problems.push(error)
        await clear()
      }
    }
    throw together(problems) ?? new LifeboatError('not-recoverable', `no repository is left that has ${backupId}`)
  }

  /** age, zstd and tar stop at the first fault, so the bytes are read again to tell whether they are the ones that were stored. */
  async #explain(copy: Copy, error: unknown, signal: AbortSignal): Promise<never> {
    const told = ageFailure(withCause(error))
    if (!(told instanceof LifeboatError) || !mayBeDamage.has(told.code) || wasKilled(error)) throw told
    const hashing = new DigestStream()
    const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() })
    const { backupId, artifact, repository } = copy
    await pipeline(await repository.readArtifact(backupId, artifact.name, { signal }), hashing, nowhere, { signal })
    assertSame(copy, hashing.digest())
    if (told.code === 'identity-mismatch') throw told // the bytes are right
    throw invalid(copy, 'archive-broken', `was broken when it was stored: ${told.message}`)
  }
}

/** What age, zstd and tar fail with at damaged bytes; a damaged header looks like one for other keys. */
const mayBeDamage = new Set(['program-failed', 'artifact-invalid', 'identity-mismatch'])

const ours = new Set([
  ...['disk-full', 'program-missing', 'program-failed'],
  ...['identity-missing', 'identity-mismatch', 'config-invalid'],
])

/** What no other repository can mend. */
function isOurs(error: unknown): boolean {
  return !(error instanceof LifeboatError) || ours.has(error.code)
}

/** The first of several failures, with the words of the others. */
function together(problems: readonly unknown[]): unknown {
  const [first, ...others] = problems
  if (!(first instanceof LifeboatError) || others.length === 0) return first
  const { code, message, hint, details } = first
  const words = [message, ...others.map((error) => (error instanceof Error ? error.message : String(error)))]
  return new LifeboatError(code, words.join('; '), {
    cause: first,
    ...(hint === undefined ? {} : { hint }),
    ...(details === undefined ? {} : { details }),
  })
}

async function present(copy: Copy, signal: AbortSignal): Promise<string> {
  const { repository, backupId, artifact } = copy
  const info = await repository.headArtifact(backupId, artifact.name, { signal })
  if (info === null) throw invalid(copy, 'artifact-missing', 'is not there')
  if (info.bytes === artifact.stored.bytes) return info.version
  throw invalid(copy, 'size-mismatch', `has ${info.bytes} bytes instead of ${artifact.stored.bytes}`)
}

function assertSame(copy: Copy, found: Digest): void {
  const { stored } = copy.artifact
  if (found.bytes !== stored.bytes)
    throw invalid(copy, 'size-mismatch', `has ${found.bytes} bytes instead of ${stored.bytes}`)
  if (found.sha256 !== stored.sha256)
    throw invalid(copy, 'checksum-mismatch', 'does not hold the bytes that were stored')
}

function invalid({ repository, backupId, artifact }: Copy, cause: ArtifactFault, why: string): LifeboatError {
  const words = `${artifact.name} of ${backupId} in repository ${repository.name} ${why}`
  return new LifeboatError('artifact-invalid', words, {
    hint: `note it by \`lifeboat verify ${backupId}\`: the same command takes an older backup then; or name one: \`lifeboat list\` shows them`,
    details: { cause, backupId, artifact: artifact.name, repository: repository.name },
  })
}
