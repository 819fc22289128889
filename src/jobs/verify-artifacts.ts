import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline, type TransformCallback } from 'node:stream'
import type { Clock } from '../clock.ts'
import {
  type Artifact,
  type Digest,
  isEncrypted,
  isEncryptedArtifact,
  type Manifest,
  plainName,
} from '../domain/backup.ts'
import { toFailure } from '../domain/errors.ts'
import type { HashedArtifact, Proof } from '../domain/proof.ts'
import { ageFailure, decryptStage, type EncryptionConfig } from '../encryption/age.ts'
import { decryptBytes } from '../encryption/filter.ts'
import { wasKilled } from '../postgres/failures.ts'
import { chooseClient, type Installation } from '../postgres/installations.ts'
import { listContents, readWholeDump } from '../postgres/restore.ts'
import type { Repository } from '../repository/repository.ts'
import { DigestStream } from '../storage/digest.ts'
import { digestBody } from '../storage/save.ts'
import { type LevelRecorder, VerdictError } from './level-recorder.ts'
import { unpackDirectory } from './pack.ts'
import { diskFailure, freeBytes } from './work-folder.ts'

/** What artifacts are read from. */
export type ArtifactSource = Pick<Repository, 'headArtifact' | 'readArtifact'>

/** How the artifacts of a backup are read. */
export interface ReadOptions {
  readonly repository: ArtifactSource
  readonly manifest: Manifest
  readonly signal: AbortSignal
  readonly onBytes: (bytes: number) => void
}

/** What need not be hashed again. */
export interface KnownOptions {
  readonly manifest: Manifest
  readonly clock: Clock
  /** The last proof of this backup here: bytes that it hashed and that are unchanged are not hashed again. */
  readonly earlier: Proof | null
  readonly reproofSeconds: number
  readonly rehash: boolean
}

export interface ArtifactOptions extends ReadOptions, KnownOptions {
  readonly folder: string
  readonly installations: readonly Installation[]
  readonly env: Readonly<Record<string, string>>
  readonly encryption: EncryptionConfig
  /** It is not encrypted, or the identities open it. Otherwise it is hashed, and nothing more. */
  readonly isOpen: boolean
  /** The dump is needed unpacked, for a restore. */
  readonly unpack: boolean
}

/** What the checks of the artifacts leave for the deeper levels. */
export interface FetchedArtifacts {
  readonly hashed: readonly HashedArtifact[]
  /** The unpacked dump; null when it was not needed. */
  readonly directory: string | null
  /** The artifacts but the dump by name; without those that are too large to be held in memory. */
  readonly files: ReadonlyMap<string, string>
}

/** The largest artifact that is held in memory, bytes. */
const small = 64 * 1024 * 1024

/**
 * The level `artifact`: every artifact that the manifest names is there, with its size and its SHA-256; the dump is a
 * whole archive whose every member can be read to its end, if it can be opened at all.
 */
export async function verifyArtifacts(
  options: ArtifactOptions,
  recorder: LevelRecorder,
): Promise<FetchedArtifacts | null> {
  const { manifest, signal } = options
  const hashed: HashedArtifact[] = []
  const files = new Map<string, string>()
  let directory: string | null = null
  for (const artifact of manifest.artifacts) {
    const name = `checksum ${artifact.name}`
    const outcome = await recorder.look(name, 'artifact-unreadable', signal, async () => {
      const version = await present(options, artifact)
      const known = unchanged(options, artifact, version)
      const isDump = plainName(artifact) === 'dump.tar'
      const isText = !isDump && artifact.stored.bytes <= small && isReadable(options, artifact)
      if (known !== null && !(isDump && options.unpack)) {
        if (isText) files.set(plainName(artifact), await readText(options, artifact))
        return { entry: known, detail: `unchanged since ${known.hashedAt}` }
      }
      if (isDump && isReadable(options, artifact)) directory = await fetchDump(options, artifact)
      else if (isText) files.set(plainName(artifact), await readText(options, artifact))
      else await readThrough(options, artifact)
      return { entry: hashedEntry(options, artifact, version), detail: undefined }
    })
    if (outcome === null) continue
    hashed.push(outcome.entry)
    recorder.pass(name, outcome.detail)
  }
  if (recorder.verdict !== 'pass') return null
  if (!options.isOpen && isEncrypted(manifest))
    recorder.pass('contents', 'encrypted, and not opened: they were not looked at')
  if (directory !== null)
    await recorder.look('contents', 'contents-unreadable', signal, () =>
      readContents(options, directory as string, recorder),
    )
  return recorder.verdict === 'pass' ? { hashed, directory, files } : null
}

function isReadable({ isOpen }: ArtifactOptions, artifact: Artifact): boolean {
  return isOpen || !isEncryptedArtifact(artifact)
}

/** @throws VerdictError `artifact-missing`, `size-mismatch` */
export async function present(
  { repository, manifest, signal }: ReadOptions,
  { name, stored }: Artifact,
): Promise<string> {
  const info = await repository.headArtifact(manifest.backupId, name, { signal })
  if (info === null) throw new VerdictError('fail', 'artifact-missing', `checksum ${name}`, `${name} is not there`)
  if (info.bytes !== stored.bytes) {
    throw new VerdictError(
      'fail',
      'size-mismatch',
      `checksum ${name}`,
      `${name} has ${info.bytes} bytes instead of ${stored.bytes}`,
    )
  }
  return info.version
}

/** The earlier entry of bytes that were hashed, have not changed since, and are not due for another look. */
export function unchanged(
  { earlier, rehash, reproofSeconds, clock, manifest }: KnownOptions,
  artifact: Artifact,
  version: string,
): HashedArtifact | null {
  if (rehash || earlier === null || earlier.manifestChecksum !== manifest.checksum) return null
  const entry = earlier.hashed.find(({ name }) => name === artifact.name)
  if (entry === undefined || entry.version !== version || entry.stored.sha256 !== artifact.stored.sha256) return null
  const ageSeconds = (clock.now().getTime() - Date.parse(entry.hashedAt)) / 1000
  // A date in the future is a clock that jumped: look again.
  return ageSeconds >= 0 && ageSeconds < reproofSeconds ? entry : null
}

export function hashedEntry(
  { clock }: Pick<KnownOptions, 'clock'>,
  artifact: Artifact,
  version: string,
): HashedArtifact {
  return { name: artifact.name, version, stored: artifact.stored, hashedAt: clock.now().toISOString() }
}

/** Unpacks the dump while its bytes are hashed: it is read once. */
async function fetchDump(options: ArtifactOptions, artifact: Artifact): Promise<string> {
  const { folder, signal, env } = options
  const directory = join(folder, 'dump')
  await mkdir(directory, { mode: 0o700 }).catch((error: unknown) => {
    throw diskFailure(error, 'cannot unpack the dump')
  })
  const needed = artifact.stored.bytes
  if ((await freeBytes(folder)) < needed) {
    throw new VerdictError(
      'inconclusive',
      'disk-full',
      `checksum ${artifact.name}`,
      `unpacking needs ${needed} bytes in ${folder}`,
    )
  }
  const bytes = await read(options, artifact)
  const decrypt = isEncryptedArtifact(artifact) ? await decryptStage(options.encryption) : null
  const unpacked = await unpackDirectory({ directory, env, decrypt, signal }, bytes).then(
    () => null,
    (error: unknown) => ageFailure(error),
  )
  signal.throwIfAborted()
  // A broken archive whose bytes differ was altered; one whose bytes are right was broken from the start.
  if (unpacked === null) assertSame(artifact, bytes.digest())
  else await explainBroken(options, artifact, unpacked)
  return directory
}

/** age and tar stop at the first fault, so the bytes are read again to tell which of them it is. */
async function explainBroken(options: ArtifactOptions, artifact: Artifact, error: unknown): Promise<never> {
  const { code } = toFailure(error)
  const isOfKeys = code === 'identity-mismatch' // or of a damaged header
  if ((code !== 'program-failed' && code !== 'artifact-invalid' && !isOfKeys) || wasKilled(error)) throw error
  await readThrough(options, artifact)
  if (isOfKeys) throw error
  throw new VerdictError(
    'fail',
    'archive-broken',
    `checksum ${artifact.name}`,
    `${artifact.name}: ${(error as Error).message}`,
  )
}

async function readText(options: ArtifactOptions, artifact: Artifact): Promise<string> {
  const bytes = await read(options, artifact)
  const chunks: Buffer[] = []
  for await (const chunk of bytes) chunks.push(chunk as Buffer)
  assertSame(artifact, bytes.digest())
  const stored = Buffer.concat(chunks)
  if (!isEncryptedArtifact(artifact)) return stored.toString('utf8')
  const opened = await decryptBytes(options.encryption, stored, { mostBytes: small, signal: options.signal })
  return opened.toString('utf8')
}

/** @throws VerdictError `checksum-mismatch`; what the repository fails with */
export async function readThrough(options: ReadOptions, artifact: Artifact): Promise<void> {
  const { repository, manifest, signal, onBytes } = options
  const source = await repository.readArtifact(manifest.backupId, artifact.name, { signal })
  assertSame(artifact, await digestBody(source, async (piece) => onBytes(piece.length)))
}

/** The artifact's bytes, hashed and counted on their way. An error of the source destroys what is returned. */
async function read(
  { repository, manifest, signal, onBytes }: ReadOptions,
  artifact: Artifact,
): Promise<CountingDigest> {
  const source = await repository.readArtifact(manifest.backupId, artifact.name, { signal })
  const digest = new CountingDigest(onBytes)
  pipeline(source, digest, () => {})
  return digest
}

class CountingDigest extends DigestStream {
  readonly #onBytes: (bytes: number) => void

  constructor(onBytes: (bytes: number) => void) {
    super()
    this.#onBytes = onBytes
  }

  override _transform(chunk: Buffer, encoding: BufferEncoding, done: TransformCallback): void {
    this.#onBytes(chunk.length)
    super._transform(chunk, encoding, done)
  }
}

function assertSame({ name, stored }: Artifact, found: Digest): void {
  if (found.sha256 === stored.sha256 && found.bytes === stored.bytes) return
  const what =
    found.bytes === stored.bytes
      ? 'its bytes are not the ones that were stored'
      : `it has ${found.bytes} bytes instead of ${stored.bytes}`
  throw new VerdictError('fail', 'checksum-mismatch', `checksum ${name}`, `${name}: ${what}`)
}

async function readContents(options: ArtifactOptions, directory: string, recorder: LevelRecorder): Promise<void> {
  const { manifest, env, signal } = options
  const installation = chooseClient(options.installations, dumpMajor(manifest))
  const entries = await listContents({ installation, directory, env, signal })
  // A restore reads every member anyway.
  if (!options.unpack) await readWholeDump({ installation, directory, env, signal })
  recorder.pass('contents', `${entries.length} entries`)
}

/** The major version of the pg_dump that made it: an older pg_restore cannot read it. */
export function dumpMajor(manifest: Manifest): number {
  const made = Number.parseInt(manifest.producer.programs.pg_dump ?? '', 10)
  return Number.isNaN(made) ? Math.floor(manifest.serverVersionNum / 10_000) : made
}
