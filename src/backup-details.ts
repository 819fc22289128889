import { type Failure, LifeboatError, toFailure } from './domain/errors.ts'
import type { Proof } from './domain/proof.ts'
import { whichAnswer } from './fetch/answering.ts'
import type { Asking } from './fetch/ask.ts'
import type { BackupCopy } from './http/ports.ts'
import type { Catalog } from './observe/catalog.ts'
import type { ExternalProofStore } from './observe/external-proofs.ts'
import type { Repository } from './repository/repository.ts'

/**
 * Every copy of one backup with all its proofs, newest first, read from the repositories themselves. What is wrong with one
 * copy stands with it. Fails only when no repository is known to hold the backup: with what kept one from being asked, or
 * with `not-found`.
 */
export async function backupDetails(
  repositories: readonly Repository[],
  id: string,
  asking: Asking,
): Promise<readonly BackupCopy[]> {
  const { signal } = asking
  const copies: BackupCopy[] = []
  const { answering, silent } = await whichAnswer(repositories, asking)
  const unasked: unknown[] = silent.map(({ error }) => error)
  const problems = silent.map(
    ({ repository, error }): BackupCopy => ({
      ...{ repository: repository.name, manifest: null, proofs: [], problems: [toFailure(error)] },
    }),
  )
  for (const repository of answering) {
    try {
      if ((await repository.headManifest(id, { signal })) !== null) copies.push(await readCopy(repository, id, signal))
    } catch (error) {
      signal.throwIfAborted()
      unasked.push(error)
      problems.push({ repository: repository.name, manifest: null, proofs: [], problems: [toFailure(error)] })
    }
  }
  if (copies.length === 0) throw unasked[0] ?? new LifeboatError('not-found', `there is no backup ${id}`)
  return [...copies, ...problems]
}

/** A file of another tool has no manifest; its proofs are in the state file. */
export function externalDetails(
  { watches }: Catalog,
  store: ExternalProofStore,
  id: string,
  watch: string | null,
): readonly BackupCopy[] {
  const holders = watches.filter(({ name, details }) => (watch === null || name === watch) && details(id) !== null)
  if (holders.length === 0) throw new LifeboatError('not-found', `there is no backup ${id}`)
  const proofs = (store.externalProofs().get(id) ?? []).map((text) => JSON.parse(text) as Proof)
  return holders.map(({ name }) => ({ repository: name, manifest: null, proofs, problems: [] }))
}

async function readCopy(repository: Repository, id: string, signal: AbortSignal): Promise<BackupCopy> {
  const problems: Failure[] = []
  const orNull = async <T>(read: Promise<T>): Promise<T | null> => {
    try {
      return await read
    } catch (error) {
      signal.throwIfAborted()
      problems.push(toFailure(error))
      return null
    }
  }
  const manifest = await orNull(repository.readManifest(id, { signal }))
  const proofs: Proof[] = []
  const readProofs = async () => {
    for await (const { key, backupId } of repository.listProofs({ signal })) {
      const proof = backupId === id ? await orNull(repository.readProof(key, { signal })) : null
      if (proof !== null) proofs.unshift(proof)
    }
  }
  await orNull(readProofs())
  return { repository: repository.name, manifest, proofs, problems }
}
