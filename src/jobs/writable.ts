import type { Repository } from '../repository/repository.ts'
import type { JobContext } from '../runner/job.ts'

/** Those of the repositories that are not another lifeboat's to write to. */
export type Writable = (repositories: readonly Repository[]) => readonly Repository[]

/**
 * What is done in several repositories leaves out those that another lifeboat writes to: it does the same there. When none
 * would be left (unless that `mayBeNone`), all stay, and the first that is written to says why not.
 */
export function leaveOut(
  repositories: readonly Repository[],
  writable: Writable,
  { log, mayBeNone = false }: Pick<JobContext, 'log'> & { readonly mayBeNone?: boolean },
): readonly Repository[] {
  const ours = writable(repositories)
  if (ours.length === 0 && !mayBeNone) return repositories
  for (const one of repositories) {
    if (!ours.includes(one)) log.warn({ repository: one.name }, 'left out: another lifeboat writes to this repository')
  }
  return ours
}
