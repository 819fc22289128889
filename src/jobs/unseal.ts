import { findArtifact, isEncrypted, type Manifest } from '../domain/backup.ts'
import { LifeboatError } from '../domain/errors.ts'
import type { EncryptionConfig } from '../encryption/age.ts'
import { decryptStage } from '../encryption/age.ts'
import { decryptBytes } from '../encryption/filter.ts'
import { detailsName, mostDetails, withDetails } from '../repository/details.ts'
import type { Repository } from '../repository/repository.ts'
import { readStored } from './read-stored.ts'

/**
 * A manifest with what it keeps to itself, which also shows that the identities open the backup: it is done before anything is
 * touched. One of a backup that is not encrypted comes back as it is.
 *
 * @param repositories that have the backup; the first whose details are the ones that were stored is taken
 * @throws LifeboatError `identity-missing`, `identity-mismatch`, `config-invalid`, `program-missing`; `artifact-invalid` when no
 * repository has the details as they were stored; what the repositories fail with
 */
export async function unseal(
  encryption: EncryptionConfig,
  manifest: Manifest,
  { repositories, signal }: { readonly repositories: readonly Repository[]; readonly signal: AbortSignal },
): Promise<Manifest> {
  if (!isEncrypted(manifest)) return manifest
  await decryptStage(encryption) // nothing is read for nothing
  const { backupId } = manifest
  const artifact = findArtifact(manifest, detailsName)
  if (artifact === undefined) throw new LifeboatError('artifact-invalid', `${backupId} has no ${detailsName}`)
  let problem: unknown = new LifeboatError('not-recoverable', `no repository is left that has ${backupId}`)
  for (const repository of repositories) {
    try {
      const stored = await readStored(repository, { backupId, artifact, mostBytes: mostDetails }, signal)
      return withDetails(manifest, await decryptBytes(encryption, stored, { mostBytes: mostDetails, signal }))
    } catch (error) {
      signal.throwIfAborted()
      if (isOfKeys(error)) throw error
      problem = error
    }
  }
  throw problem
}

/** What is wrong with the keys, or with age, and would be in any repository. */
export function isOfKeys(error: unknown): error is LifeboatError {
  if (!(error instanceof LifeboatError)) return false
  return ['identity-missing', 'identity-mismatch', 'config-invalid', 'program-missing'].includes(error.code)
}
