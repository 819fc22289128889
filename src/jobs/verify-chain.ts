import { type Manifest, type PhysicalFacts, parseBackupId } from '../domain/backup.ts'
import { buildsOn } from '../domain/chain.ts'
import { toFailure } from '../domain/errors.ts'
import type { Repository } from '../repository/repository.ts'
import { VerdictError } from './level-recorder.ts'
import type { SeenManifest } from './verify-unchanged.ts'

/** A physical backup of a chain that was read. */
export interface SeenMember extends SeenManifest {
  readonly manifest: Manifest & { readonly physical: PhysicalFacts }
}

/**
 * The chain of a physical backup in one repository, the full one first, it itself last. One that is not whole is no backup.
 *
 * @param others that may have what is missing here: it can be restored with them, and is not proven here
 * @throws VerdictError `parent-missing`, `parent-elsewhere`, `parent-invalid`, `chain-broken`; LifeboatError what the repository fails with
 */
export async function readChain(
  repository: Repository,
  last: SeenManifest,
  signal: AbortSignal,
  others: readonly Repository[] = [],
): Promise<readonly SeenMember[]> {
  const chain: SeenMember[] = []
  for (let member = last; ; ) {
    const { physical, type, parent, backupId } = member.manifest
    const child = chain[0]
    if (physical === undefined)
      throw broken('chain-broken', `${child?.manifest.backupId} builds on ${backupId}, a dump`)
    chain.unshift({ ...member, manifest: { ...member.manifest, physical } })
    if (parent === null) {
      if (type === 'full') return chain
      throw broken('chain-broken', `${backupId} is incremental and names no parent`)
    }
    member = await readParent({ repository, others }, member.manifest, signal)
    if (chain.some(({ manifest }) => manifest.backupId === member.manifest.backupId))
      throw broken('chain-broken', `${member.manifest.backupId} builds on itself`)
  }
}

async function readParent(
  { repository, others }: { readonly repository: Repository; readonly others: readonly Repository[] },
  child: Manifest,
  signal: AbortSignal,
): Promise<SeenManifest> {
  const parent = child.parent ?? ''
  try {
    const read = await repository.readManifestObject(parent, { signal })
    if ('problem' in read) throw read.problem
    if (buildsOn(child, read.manifest)) return { manifest: read.manifest, version: read.info.version }
  } catch (error) {
    signal.throwIfAborted()
    const { code, message } = toFailure(error)
    if (code === 'manifest-invalid') throw broken('parent-invalid', `${child.backupId} builds on ${parent}: ${message}`)
    if (code !== 'manifest-missing') throw error
    const twin = await findTwin(repository, child, signal)
    if (twin !== null) return twin
    for (const other of others) {
      if ((await other.headManifest(parent, { signal }).catch(() => null)) === null) continue
      const words = `${parent}, on which ${child.backupId} builds, is in repository ${other.name}, and not here`
      throw new VerdictError('inconclusive', 'parent-elsewhere', 'chain', words)
    }
    signal.throwIfAborted()
    throw broken('parent-missing', `${parent}, on which ${child.backupId} builds, is not there`)
  }
  throw broken('chain-broken', `${child.backupId} builds on ${parent}, which is of another cluster or major version`)
}

/** Another backup that starts where the parent did, such as a full one that was put together from a chain. */
async function findTwin(repository: Repository, child: Manifest, signal: AbortSignal): Promise<SeenManifest | null> {
  if (child.physical?.basis === undefined) return null
  let found: SeenManifest | null = null
  for await (const id of repository.listBackups({ signal })) {
    const type = parseBackupId(id)?.type
    if (type === 'dump' || id === child.backupId || (found !== null && type !== 'full')) continue
    const read = await repository.readManifestObject(id, { signal }).catch(() => null) // it is another backup's
    signal.throwIfAborted()
    if (read === null || 'problem' in read || !buildsOn(child, read.manifest)) continue
    found = { manifest: read.manifest, version: read.info.version }
  }
  return found
}

function broken(cause: string, words: string): VerdictError {
  return new VerdictError('fail', cause, 'chain', words)
}
