import { rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { ValidatedConfig } from '../config/validated.ts'
import { isEncrypted, type Manifest } from '../domain/backup.ts'
import { toFailure } from '../domain/errors.ts'
import { chooseParent, type ParentChoice } from '../domain/incremental-parent.ts'
import { ArtifactFetcher, type FetchOptions } from '../physical/fetch-artifact.ts'
import type { BackupUse, Repository } from '../repository/repository.ts'
import type { JobContext } from '../runner/job.ts'
import { markInUse } from './in-use.ts'
import { takeKeptManifest } from './kept-manifests.ts'
import { readableManifest } from './newest-dumps.ts'
import type { PhysicalPlan } from './physical-plan.ts'

/** The repositories that could be read, and those that could not: a chain must be whole wherever it is continued. */
export interface ParentSearch {
  readonly choice: ParentChoice
  readonly unread: readonly { readonly repository: Repository; readonly error: unknown }[]
}

/** Looks for a parent that every repository holds, with its whole chain. */
export async function findParent(
  repositories: readonly Repository[],
  plan: PhysicalPlan,
  { chainLimit, signal }: { readonly chainLimit: number; readonly signal: AbortSignal },
): Promise<ParentSearch> {
  const unread: { repository: Repository; error: unknown }[] = []
  const held: Map<string, Manifest>[] = []
  const refuted = new Set<string>()
  for (const repository of repositories) {
    try {
      held.push(await physicalBackups(repository, signal))
    } catch (error) {
      signal.throwIfAborted()
      unread.push({ repository, error })
    }
  }
  const [first = new Map<string, Manifest>(), ...others] = held
  const everywhere = [...first.values()].filter(({ backupId, checksum }) =>
    others.every((one) => one.get(backupId)?.checksum === checksum),
  )
  const question = {
    systemIdentifier: plan.cluster.systemIdentifier,
    timeline: plan.facts.timeline,
    summarizesWal: plan.summarizesWal,
    ...{ backups: everywhere, chainLimit },
  }
  const readable = repositories.filter((one) => !unread.some(({ repository }) => repository === one))
  const choice = chooseParent({ ...question, refuted })
  for (const repository of readable)
    for (const { backupId } of choice.chain ?? [])
      if (await isRefuted(repository, backupId, signal)) refuted.add(backupId)
  return { choice: refuted.size > 0 ? chooseParent({ ...question, refuted }) : choice, unread }
}

async function physicalBackups(repository: Repository, signal: AbortSignal): Promise<Map<string, Manifest>> {
  const found = new Map<string, Manifest>()
  for await (const id of repository.listBackups({ signal })) {
    if (id.includes('-dump-')) continue
    const manifest = await readableManifest(repository, id, signal)
    if (manifest?.physical !== undefined) found.set(id, manifest)
  }
  return found
}

async function isRefuted(repository: Repository, id: string, signal: AbortSignal): Promise<boolean> {
  try {
    const proof = await repository.latestProof(id, { signal })
    return Object.values(proof?.levels ?? {}).some((level) => level?.verdict === 'fail')
  } catch (error) {
    signal.throwIfAborted()
    if (toFailure(error).code === 'proof-invalid') return false // what cannot be read says nothing
    throw error
  }
}

/** Marks the parent as in use in every repository: it stays, and so does what it builds on, while it gets a child. */
export async function markParent(
  repositories: readonly Repository[],
  parent: Manifest | null,
  context: JobContext,
): Promise<BackupUse> {
  const uses: BackupUse[] = []
  const release = async () => {
    for (const use of uses) await use.release()
  }
  try {
    if (parent === null) return { release }
    for (const repository of repositories) uses.push(await markInUse(repository, parent.backupId, 'restore', context))
    return { release }
  } catch (error) {
    await release()
    throw error
  }
}

/**
 * Fetches the parent's backup_manifest, from the first repository that has it as its manifest says. One that is encrypted is
 * kept here; else a private key opens it.
 *
 * @param path is written anew
 * @throws LifeboatError `artifact-invalid` when none has; `identity-missing`, `identity-mismatch`; the last one's failure
 */
export async function fetchBackupManifest(
  repositories: readonly Repository[],
  manifest: Manifest,
  path: string,
  {
    config,
    clock,
    signal,
  }: Pick<FetchOptions, 'clock'> & { readonly config: ValidatedConfig; readonly signal: AbortSignal },
): Promise<void> {
  await rm(path, { force: true })
  if (isEncrypted(manifest) && (await takeKeptManifest(config.stateDir, manifest.backupId, path))) return
  const { encryption } = config
  const folder = dirname(path)
  const fetcher = new ArtifactFetcher({ folder, owner: null, env: {}, clock, encryption, onBytes: () => {} })
  await fetcher.read({ manifest, repositories }, 'backup_manifest', path, signal)
}
