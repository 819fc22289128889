import { hash } from 'node:crypto'
import type { Artifact } from '../domain/backup.ts'
import { LifeboatError } from '../domain/errors.ts'
import type { Repository } from '../repository/repository.ts'

/**
 * A small artifact as it is stored, compared with what its manifest says.
 *
 * @throws LifeboatError `artifact-invalid`; what the repository fails with
 */
export async function readStored(
  repository: Repository,
  {
    backupId,
    artifact,
    mostBytes,
  }: { readonly backupId: string; readonly artifact: Artifact; readonly mostBytes: number },
  signal: AbortSignal,
): Promise<Buffer> {
  const { name, stored } = artifact
  const where = `${name} of ${backupId} in repository ${repository.name}`
  if (stored.bytes > mostBytes) throw new LifeboatError('artifact-invalid', `${where} has more than ${mostBytes} bytes`)
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of await repository.readArtifact(backupId, name, { signal })) {
    bytes += (chunk as Buffer).length
    if (bytes > stored.bytes) break
    chunks.push(chunk as Buffer)
  }
  const found = Buffer.concat(chunks)
  if (bytes === stored.bytes && hash('sha256', found) === stored.sha256) return found
  throw new LifeboatError('artifact-invalid', `${where} does not hold the bytes that were stored`)
}
