import { compactUtc } from '../domain/backup.ts'
import { LifeboatError } from '../domain/errors.ts'
import type { Session } from './connection.ts'
import { quoteIdentifier, quoteLiteral } from './conninfo.ts'

/** Each takes ten seconds at most: PostgreSQL waits five for the sessions of a database to be gone. */
const maxAttempts = 4

/**
 * Puts `replacement` in the place of `name` and keeps the old one as `kept`: two renames in one transaction, so that
 * there is a database of that name at every moment that others can see, and whatever cuts us off (an abort, a crash, the
 * network) leaves everything as it was. PostgreSQL renames no database that is in use, so its sessions are ended right
 * before; from then on the rename's own lock keeps new ones waiting. (One that waits there is refused when it is over,
 * "it seems to have just been dropped or renamed", and gets in when it tries again.)
 * Source: https://www.postgresql.org/docs/current/sql-alterdatabase.html and RenameDatabase() in dbcommands.c
 *
 * @param session in another database than these two
 * @throws LifeboatError `conflict` when a prepared transaction is in the way, or sessions come back faster than they can be
 * ended; nothing has changed then
 */
export async function swapDatabases(
  session: Session,
  { name, replacement, kept }: { name: string; replacement: string; kept: string },
): Promise<void> {
  await assertNothingPrepared(session, [name, replacement])
  for (let attempt = 1; ; attempt += 1) {
    await session.query('begin')
    try {
      await session.query(renameFreed(name, kept))
      await session.query(renameFreed(replacement, name))
      await session.query('commit')
      return
    } catch (error) {
      await session.query('rollback').catch(() => {}) // a session that is gone has rolled back
      const { details, message } = error as LifeboatError
      if (details?.sqlState !== objectInUse) throw error
      if (attempt < maxAttempts) continue
      throw new LifeboatError('conflict', message, {
        hint: 'stop the application and try again: the restored database is kept',
        cause: error,
      })
    }
  }
}

const objectInUse = '55006'

/** A prepared transaction is in use of its database without a session that could be ended. */
async function assertNothingPrepared(session: Session, names: readonly string[]): Promise<void> {
  const found = await session.query<{ gid: string; database: string }>(
    'select gid, database from pg_prepared_xacts where database = any($1)',
    [names],
  )
  const [first] = found
  if (first === undefined) return
  throw new LifeboatError(
    'conflict',
    `${found.length} prepared transactions use the database ${JSON.stringify(first.database)}`,
    {
      hint: `commit or roll back the prepared transaction ${JSON.stringify(first.gid)} and try again: the restored database is kept`,
    },
  )
}

/** One message to the server, so that hardly a session can slip in between the two statements. */
function renameFreed(from: string, to: string): string {
  return (
    `select pg_terminate_backend(pid) from pg_stat_activity where datname = ${quoteLiteral(from)} and pid <> pg_backend_pid(); ` +
    `alter database ${quoteIdentifier(from)} rename to ${quoteIdentifier(to)}`
  )
}

/**
 * The name of a database that stands beside `name` for a restore: the restored one until the swap, the former one from
 * then on.
 */
export function asideName(name: string, what: 'before' | 'restored', at: Date): string {
  return suffixedName(name, `${what}_${compactUtc(at).toLowerCase()}`)
}

/** True for such a name. Nobody needs a backup of it: what it is a copy or the former state of is backed up. */
export function isAsideName(name: string): boolean {
  return /._(?:before|restored)_\d{8}t\d{6}z$/s.test(name)
}

/** `<name>_<suffix>`, the name cut so that the whole fits PostgreSQL's 63 bytes and no character is split. */
export function suffixedName(name: string, suffix: string): string {
  const room = 63 - Buffer.byteLength(suffix) - 1
  let kept = name
  while (kept !== '' && Buffer.byteLength(kept) > room) kept = Array.from(kept).slice(0, -1).join('')
  return `${kept}_${suffix}`
}
