import type { Logger } from 'pino'
import type { Repository } from '../repository/repository.ts'
import type { RepositoryState } from './catalog.ts'
import { ListedArtifacts } from './listed-artifacts.ts'
import { createRepositoryLook } from './repository.ts'

export interface ExpiryLookOptions {
  readonly log: Logger
  /** What who watches the repository all the time saw last: only that knows what was replaced. Null: nobody does. */
  readonly watched?: RepositoryState | null
  readonly signal: AbortSignal
}

/**
 * Looks at a whole repository for its expiry: also whether the files of each backup are there, and as long as its manifest says.
 *
 * @throws what the storage fails with: a look at a part would not do
 */
export async function lookForExpiry(
  repository: Repository,
  { log, watched = null, signal }: ExpiryLookOptions,
): Promise<RepositoryState> {
  const { files = null } = repository.storage
  const artifacts = files === null ? new ListedArtifacts(repository) : null
  const state = await createRepositoryLook({ repository, capacity: null, artifacts, files, log })(signal)
  const known = (watched?.unusable ?? []).filter((one) => one.summary !== undefined)
  const spoiled = state.backups.flatMap((backup) => {
    const same = (one: (typeof known)[number]) =>
      one.id === backup.id && one.summary?.manifestChecksum === backup.manifestChecksum
    return known.find(same) ?? []
  })
  if (spoiled.length === 0) return state
  const ids = new Set(spoiled.map(({ id }) => id))
  return {
    ...state,
    backups: state.backups.filter(({ id }) => !ids.has(id)),
    unusable: [...state.unusable, ...spoiled],
  }
}
