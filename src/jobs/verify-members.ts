import { join } from 'node:path'
import type { Clock } from '../clock.ts'
import { type Artifact, isEncrypted, plainName } from '../domain/backup.ts'
import { LifeboatError } from '../domain/errors.ts'
import type { HashedArtifact, LevelResult, Proof } from '../domain/proof.ts'
import type { EncryptionConfig } from '../encryption/age.ts'
import { checkMember, linkTablespaces } from '../physical/check-member.ts'
import { ArtifactFetcher } from '../physical/fetch-artifact.ts'
import { emptyDirectory, makePrivate } from '../physical/places.ts'
import type { Installation } from '../postgres/installations.ts'
import { workMarker } from '../postgres/orphans.ts'
import type { OsUser } from '../postgres/programs.ts'
import { removeTree } from '../postgres/scratch-server.ts'
import type { Repository } from '../repository/repository.ts'
import { LevelRecorder, VerdictError } from './level-recorder.ts'
import { reserveBytes } from './room.ts'
import { hashedEntry, present, readThrough, unchanged } from './verify-artifacts.ts'
import type { SeenMember } from './verify-chain.ts'
import { diskFailure, freeBytes, makePassable } from './work-folder.ts'

export interface MemberOptions {
  readonly repository: Repository
  readonly chain: readonly SeenMember[]
  readonly installation: Installation
  readonly owner: OsUser | null
  readonly encryption: EncryptionConfig
  /** The identities open what is encrypted. Otherwise that is hashed, and nothing more. */
  readonly isOpen: boolean
  /** Whoever owns the unpacked files can enter it. */
  readonly folder: string
  readonly clock: Clock
  readonly signal: AbortSignal
  /** The last proof of a backup here. */
  readonly earlier: (backupId: string) => Promise<Proof | null>
  readonly reproofSeconds: number
  readonly rehash: boolean
  readonly onBytes: (bytes: number) => void
}

/** A backup of a chain, and what its artifacts are like. */
export interface CheckedMember {
  readonly member: SeenMember
  readonly hashed: readonly HashedArtifact[]
  readonly result: LevelResult
}

/**
 * The level `artifact` of every backup of a chain, one after the other, so that the disk needs room for one of them at a
 * time: each artifact has its size and its SHA-256 and can be unpacked, and each file is what PostgreSQL's own manifest says.
 */
export async function verifyMembers(options: MemberOptions): Promise<readonly CheckedMember[]> {
  const checked: CheckedMember[] = []
  for (const member of options.chain) {
    options.signal.throwIfAborted()
    checked.push(await verifyMember(options, member))
  }
  return checked
}

async function verifyMember(options: MemberOptions, member: SeenMember): Promise<CheckedMember> {
  const { clock, signal } = options
  const recorder = new LevelRecorder(clock)
  const { manifest } = member
  const known = await recorder.look('earlier proof', 'artifact-unreadable', signal, () =>
    knownArtifacts(options, member),
  )
  if (known === null) return { member, hashed: [], result: recorder.result() }
  if (known.length === manifest.artifacts.length) {
    for (const { name, hashedAt } of known) recorder.pass(`checksum ${name}`, `unchanged since ${hashedAt}`)
    return { member, hashed: known, result: recorder.result() }
  }
  if (!options.isOpen && isEncrypted(manifest)) {
    const hashed = await hashAll(options, member, { artifacts: manifest.artifacts, recorder })
    if (recorder.verdict === 'pass') recorder.pass('contents', 'encrypted, and not opened: they were not looked at')
    return { member, hashed, result: recorder.result() }
  }
  const hashed = await recorder.look('unpack', 'artifact-unreadable', signal, () =>
    unpackAndCheck(options, member, recorder),
  )
  const others = hashed === null ? [] : await verifyOthers(options, member, recorder)
  return { member, hashed: [...(hashed ?? []), ...others], result: recorder.result() }
}

/** Those of its artifacts that an earlier proof has hashed, and that are still the same. */
async function knownArtifacts(options: MemberOptions, { manifest }: SeenMember): Promise<readonly HashedArtifact[]> {
  const { repository, clock, signal, reproofSeconds, rehash, onBytes } = options
  const earlier = rehash ? null : await options.earlier(manifest.backupId)
  const known: HashedArtifact[] = []
  for (const artifact of manifest.artifacts) {
    const version = await present({ repository, manifest, signal, onBytes }, artifact)
    const entry = unchanged({ manifest, clock, earlier, reproofSeconds, rehash }, artifact, version)
    if (entry !== null) known.push(entry)
  }
  return known
}

async function unpackAndCheck(
  { repository, installation, owner, encryption, folder: parent, clock, signal, onBytes }: MemberOptions,
  { manifest }: SeenMember,
  recorder: LevelRecorder,
): Promise<readonly HashedArtifact[]> {
  const { physical, backupId } = manifest
  const archives = [['base.tar.zst', 'data'], ...physical.tablespaces.map(({ oid, artifact }) => [artifact, `${oid}`])]
  const folder = join(parent, 'member')
  const needed = unpackedBytes(manifest.artifacts) + reserveBytes
  const free = await freeBytes(parent)
  if (free < needed)
    throw new VerdictError(
      'inconclusive',
      'disk-full',
      'unpack',
      `${backupId} needs ${needed} bytes in ${parent}, which has ${free} free`,
    )
  try {
    await makePassable(folder)
    const env = { [workMarker]: parent }
    const member = { manifest, repositories: [repository] }
    const fetcher = new ArtifactFetcher({ folder, owner, env, encryption, clock, onBytes })
    const dataDirectory = join(folder, 'data')
    for (const [name = '', place = ''] of archives) {
      const directory = join(folder, place)
      await makePrivate(directory, owner)
      await fetcher.unpack(member, name, { directory, clear: () => emptyDirectory(directory), signal })
      recorder.pass(`checksum ${name}`)
    }
    const tablespaces = new Map(physical.tablespaces.map(({ oid }) => [oid, join(folder, `${oid}`)] as const))
    const unpacked = { manifest, dataDirectory, tablespaces }
    const checking = { installation, owner, env, signal }
    await linkTablespaces(unpacked, checking)
    await fetcher.read(member, 'backup_manifest', join(dataDirectory, 'backup_manifest'), signal)
    recorder.pass('checksum backup_manifest')
    await checkMember(unpacked, checking)
    recorder.pass('pg_verifybackup')
    return fetcher.hashed.map(entryOf)
  } catch (error) {
    throw asFault(error) ?? diskFailureOf(error)
  } finally {
    await removeTree(folder)
  }
}

/** As proofs have it: they are of one backup. */
export function entryOf({ name, version, stored, hashedAt }: HashedArtifact): HashedArtifact {
  return { name, version, stored, hashedAt }
}

/** Hashes the artifacts that are not needed to make a data directory. */
export async function verifyOthers(
  options: Pick<MemberOptions, 'repository' | 'clock' | 'signal' | 'onBytes'>,
  member: SeenMember,
  recorder: LevelRecorder,
): Promise<readonly HashedArtifact[]> {
  const artifacts = member.manifest.artifacts.filter((one) => !isUnpacked(one))
  return hashAll(options, member, { artifacts, recorder })
}

async function hashAll(
  { repository, clock, signal, onBytes }: Pick<MemberOptions, 'repository' | 'clock' | 'signal' | 'onBytes'>,
  { manifest }: SeenMember,
  { artifacts, recorder }: { readonly artifacts: readonly Artifact[]; readonly recorder: LevelRecorder },
): Promise<readonly HashedArtifact[]> {
  const hashed: HashedArtifact[] = []
  for (const artifact of artifacts) {
    const name = `checksum ${artifact.name}`
    const entry = await recorder.look(name, 'artifact-unreadable', signal, async () => {
      const version = await present({ repository, manifest, signal, onBytes }, artifact)
      await readThrough({ repository, manifest, signal, onBytes }, artifact)
      return hashedEntry({ clock }, artifact, version)
    })
    if (entry === null) continue
    hashed.push(entry)
    recorder.pass(name)
  }
  return hashed
}

function isUnpacked(artifact: Artifact): boolean {
  const name = plainName(artifact)
  return name.endsWith('.tar.zst') || name === 'backup_manifest'
}

/** What the archives take once they are unpacked. */
export function unpackedBytes(artifacts: readonly Artifact[]): number {
  return artifacts.filter(isUnpacked).reduce((sum, { plain }) => sum + plain.bytes, 0)
}

/** Which backup, and which of its parts, an error of the module that unpacks says to be wrong; null: it says no such thing. */
export function faultOf(
  error: unknown,
): { readonly backupId: string; readonly cause: string; readonly check: string } | null {
  if (!(error instanceof LifeboatError) || error.code !== 'artifact-invalid') return null
  const { backupId, cause, artifact } = error.details ?? {}
  if (typeof backupId !== 'string' || typeof cause !== 'string') return null
  return { backupId, cause, check: typeof artifact === 'string' ? `checksum ${artifact}` : 'pg_verifybackup' }
}

function asFault(error: unknown): VerdictError | null {
  const fault = faultOf(error)
  return fault === null ? null : new VerdictError('fail', fault.cause, fault.check, (error as Error).message)
}

function diskFailureOf(error: unknown): unknown {
  const { code } = error as NodeJS.ErrnoException
  return code === 'ENOSPC' || code === 'EDQUOT' ? diskFailure(error, 'cannot unpack the backup') : error
}
