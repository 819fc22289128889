import type { ValidatedConfig } from '../config/validated.ts'
import { type Isolation, probeIsolation } from '../postgres/isolation.ts'
import { assertHarmless, serverOsUser } from '../postgres/os-user.ts'
import type { OsUser } from '../postgres/programs.ts'

/** As whom a scratch server runs, and behind what. */
export interface ScratchAccount {
  /** Null: as we do, since we are not root. */
  readonly osUser: OsUser | null
  readonly isolation: Isolation
}

/** Where distributions and PostgreSQL itself put the sockets of servers. */
const usualSocketDirectories = ['/var/run/postgresql', '/tmp']

/**
 * Chooses the least that a scratch server needs, since dumps hold code that runs in it as superuser: see
 * docs/security.md.
 *
 * @param needed paths that it must reach
 * @param others more directories that it has no business in
 * @throws LifeboatError `program-missing` when there is no such OS user; `usage-invalid` when it may do harm
 */
export async function scratchAccount(
  { postgres, repositories, watch, verification, wal }: ValidatedConfig,
  needed: readonly string[],
  signal?: AbortSignal,
  others: readonly string[] = [],
): Promise<ScratchAccount> {
  const directories = [...repositories.flatMap(({ path }) => path ?? []), ...watch.map(({ directory }) => directory)]
  const socketDirectories = [...(postgres.host.startsWith('/') ? [postgres.host] : []), ...usualSocketDirectories]
  const osUser = await serverOsUser(verification.osUser)
  if (osUser !== null) await assertHarmless(osUser, { socketDirectories, directories })
  const hidden = [...directories, ...socketDirectories, ...(wal.archive === null ? [] : [wal.archive]), ...others]
  return { osUser, isolation: await probeIsolation({ user: osUser, hidden, needed, ...(signal ? { signal } : {}) }) }
}
