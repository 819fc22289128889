import type { StoredWalState } from '../observe/wal-state.ts'

export type Trust =
  /** It is this server's, or was before an upgrade. */
  | 'ours'
  /** Another server's: a restored copy has the same one, and is told by its bytes instead. */
  | 'foreign'
  /** Nobody knows yet. */
  | 'undecided'

/**
 * Whether WAL of a system identifier is to be stored. It is when the server is known to have it or to have had it, or when
 * a repository holds WAL of it already: a state directory that was lost forgets what the server was before its upgrade.
 *
 * Otherwise it is foreign once anything is known of the server. Before, nobody can tell the WAL of a server that was just
 * upgraded from that of another one that writes to the wrong place: that waits for the first look at the server. Only where
 * nothing is stored anywhere, so that nothing can be mixed up, the archive is taken at its word: a server that is down when
 * its first WAL is shipped must not keep it from being safe.
 *
 * @param known of the server, and of backups; empty: nothing is known yet
 * @param stored by repository; null: not looked at yet
 */
export function judgeSystem(
  systemIdentifier: string,
  known: ReadonlySet<string>,
  stored: readonly (StoredWalState | null)[],
): Trust {
  if (known.has(systemIdentifier)) return 'ours'
  if (stored.some((state) => state?.systems.has(systemIdentifier))) return 'ours'
  if (known.size > 0) return 'foreign'
  const isNew = stored.every((state) => state !== null && state.listedAt !== null && state.systems.size === 0)
  return isNew ? 'ours' : 'undecided'
}
