import type { Clock } from './clock.ts'
import type { ValidatedConfig } from './config/validated.ts'
import { type IdentityLedger, Repository } from './repository/repository.ts'
import { LocalStorage } from './storage/local.ts'

/** A configured repository, and where it is stored. */
export interface CoreRepository {
  readonly repository: Repository
  readonly storage: LocalStorage
  readonly path: string
}

/** The configured repositories; nothing is touched. Without a ledger nobody sees whether they are the ones that they were. */
export function makeRepositories(
  { cluster, repositories }: ValidatedConfig,
  {
    clock,
    version,
    ledger,
    fence,
  }: {
    clock: Clock
    version: string
    ledger: IdentityLedger | null
    fence?: (name: string, options: { readonly signal?: AbortSignal }) => Promise<void>
  },
): readonly CoreRepository[] {
  return repositories.map(({ name, path }) => {
    const storage = new LocalStorage({ root: path, clock })
    const identity = ledger === null ? {} : { identity: { ledger, lifeboat: version, exists: () => storage.exists() } }
    const fenced = fence === undefined ? {} : { fence: fence.bind(null, name) }
    return { path, storage, repository: new Repository({ name, cluster, storage, clock, ...identity, ...fenced }) }
  })
}
