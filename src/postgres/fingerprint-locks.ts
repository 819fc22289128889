import type { LifeboatError } from '../domain/errors.ts'
import type { Session } from './connection.ts'
import { quoteIdentifier } from './conninfo.ts'

/** So that thousands of tables are not thousands of round trips. */
const tablesAtOnce = 200

/**
 * Locks the tables against changes of their shape until the transaction ends (ACCESS SHARE, as pg_dump does; it waits as
 * pg_dump does, too). A table that is gone, or that we may not lock, is left out: hashing it will say why.
 * Source: https://www.postgresql.org/docs/current/explicit-locking.html
 */
export async function lockTables(
  session: Session,
  tables: readonly { readonly schema: string; readonly name: string }[],
): Promise<void> {
  for (let from = 0; from < tables.length; from += tablesAtOnce) {
    const batch = tables.slice(from, from + tablesAtOnce)
    if (await tryLock(session, batch)) continue
    for (const table of batch) await tryLock(session, [table])
  }
}

/**
 * Does its work under a savepoint and goes back to it, also when all went well: that gives back the locks which the work
 * took on tables and each of their indexes. Kept to the end they would fill the lock table that all sessions share.
 */
export async function underSavepoint<T>(session: Session, work: () => Promise<T>): Promise<T> {
  await session.query('savepoint fingerprint')
  const outcome = await work().then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  )
  if ('error' in outcome && sessionIsLost(outcome.error)) throw outcome.error
  await session.query('rollback to savepoint fingerprint')
  await session.query('release savepoint fingerprint')
  if ('error' in outcome) throw outcome.error
  return outcome.value
}

/** True unless the server refused a statement and is there for the next one. */
export function sessionIsLost(error: unknown): boolean {
  const state = (error as LifeboatError).details?.sqlState
  return typeof state !== 'string' || state === '' || state.startsWith('57P')
}

async function tryLock(
  session: Session,
  tables: readonly { readonly schema: string; readonly name: string }[],
): Promise<boolean> {
  const names = tables.map(({ schema, name }) => `only ${quoteIdentifier(schema)}.${quoteIdentifier(name)}`)
  await session.query('savepoint locks')
  try {
    await session.query(`lock table ${names.join(', ')} in access share mode`)
    await session.query('release savepoint locks')
    return true
  } catch (error) {
    if (sessionIsLost(error)) throw error
    await session.query('rollback to savepoint locks')
    await session.query('release savepoint locks')
    return false
  }
}
