import type { Artifact, Digest } from '../domain/backup.ts'
import { LifeboatError } from '../domain/errors.ts'
import type { BackupWriter, Repository } from '../repository/repository.ts'

/**
 * Copies the artifacts of a backup that is not published yet from one repository into another: the server is read once,
 * however many repositories there are.
 *
 * @throws LifeboatError `artifact-invalid` when what is read back is not what was stored
 */
export async function copyArtifacts(
  from: { readonly repository: Repository; readonly id: string },
  artifacts: readonly Artifact[],
  writer: BackupWriter,
  signal: AbortSignal,
): Promise<void> {
  for (const { name, plain, stored } of artifacts) {
    const body = await from.repository.readArtifact(from.id, name, { signal })
    const copy = await writer.put(name, body, async () => plain)
    if (!isEqual(copy.stored, stored)) {
      const words = `${name} of ${from.id} came out of repository ${from.repository.name} other than it went in`
      throw new LifeboatError('artifact-invalid', words, { hint: 'look at the disk of that repository' })
    }
  }
}

function isEqual(a: Digest, b: Digest): boolean {
  return a.bytes === b.bytes && a.sha256 === b.sha256
}
