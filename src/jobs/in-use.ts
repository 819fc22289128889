import { LifeboatError, toFailure } from '../domain/errors.ts'
import type { BackupUse, Repository } from '../repository/repository.ts'
import type { JobContext } from '../runner/job.ts'

/**
 * Marks a backup as in use until the returned mark is released. Where no mark can be put (a disk that is full or mounted
 * read-only) the work goes on without: a restore must not fail for that, and where nothing can be written hardly anything
 * can be removed.
 *
 * @throws LifeboatError `conflict` while the backup is being removed; the signal's reason
 */
export async function markInUse(
  repository: Repository,
  id: string,
  purpose: 'verify' | 'restore',
  { runId, signal, log }: JobContext,
): Promise<BackupUse> {
  try {
    return await repository.useBackup(id, { runId, purpose, signal })
  } catch (error) {
    signal.throwIfAborted()
    if (!(error instanceof LifeboatError) || error.code === 'conflict') throw error
    log.warn({ repository: repository.name, backup: id, ...toFailure(error) }, 'cannot mark the backup as in use')
    return { release: async () => {} }
  }
}

/**
 * Marks every copy of a backup, and leaves out those that are being removed.
 *
 * @throws LifeboatError `conflict` when all are; the signal's reason
 */
export async function markCopies<T extends { readonly repository: Repository }>(
  copies: readonly T[],
  id: string,
  context: JobContext,
): Promise<BackupUse & { readonly copies: readonly T[] }> {
  const marked: { readonly copy: T; readonly use: BackupUse }[] = []
  const problems: unknown[] = []
  const release = async () => {
    for (const { use } of marked) await use.release()
  }
  for (const copy of copies) {
    try {
      marked.push({ copy, use: await markInUse(copy.repository, id, 'restore', context) })
    } catch (error) {
      problems.push(error)
      if (context.signal.aborted) break
    }
  }
  if (context.signal.aborted || marked.length === 0) {
    await release()
    context.signal.throwIfAborted()
    throw problems[0]
  }
  return { release, copies: marked.map(({ copy }) => copy) }
}
