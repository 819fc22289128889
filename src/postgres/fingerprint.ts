import type { LifeboatError } from '../domain/errors.ts'
import type { Fingerprint, KeyRange, RowsHash, TableFingerprint } from '../domain/fingerprint.ts'
import type { Session } from './connection.ts'
import { quoteIdentifier, quoteLiteral } from './conninfo.ts'
import { describeDatabase, hashLargeObjects, listTables, type TableToHash } from './fingerprint-catalog.ts'
import { sessionIsLost, underSavepoint } from './fingerprint-locks.ts'

/**
 * How rows become text must not depend on the session, the database or the role. `row_security=off` makes a table whose
 * rows are filtered an error rather than a wrong count of 0.
 */
export const fingerprintSettings: Readonly<Record<string, string>> = {
  search_path: 'pg_catalog',
  row_security: 'off',
  DateStyle: 'ISO, MDY',
  IntervalStyle: 'postgres',
  TimeZone: 'UTC',
  extra_float_digits: '1',
  bytea_output: 'hex',
  lc_monetary: 'C',
  xmloption: 'content',
  quote_all_identifiers: 'off', // regclass and its like print names
}

export interface FingerprintBudget {
  /** For all tables together. */
  readonly maxSeconds: number
  /** A larger table is hashed by key ranges of about this size in all, or left unknown. */
  readonly maxTableBytes: number
}

export interface FingerprintOptions {
  readonly budget: FingerprintBudget
  readonly monotonic: () => number
  /** Called after each table, in bytes. */
  readonly onProgress?: (done: number, total: number, table: string) => void
}

/** A shorter one would hit the statements that set and unset it as well. */
const minTimeoutMs = 100

/**
 * Takes the fingerprint of one database inside the session's open REPEATABLE READ transaction, which must have been
 * opened with `fingerprintSettings`. A table that cannot be read, or not within the budget, is left `unknown`.
 *
 * The hash is `hashtextextended` of each row's text, summed: equal for equal multisets of rows. (Hashing the record
 * itself would hash an enum's OID and cannot tell 1.0 from 1.000; many types have no extended hash at all.) The text
 * comes from `record_out`: a cast to text may be one that the table's owner has made, which would run with our rights.
 */
export async function takeFingerprint(session: Session, options: FingerprintOptions): Promise<Fingerprint> {
  const head = await describeDatabase(session)
  const found = await listTables(session)
  const deadline = options.monotonic() + options.budget.maxSeconds * 1000
  const total = found.reduce((sum, table) => sum + table.bytes, 0)
  const tables: TableFingerprint[] = []
  let done = 0
  // Small tables first: a budget that runs out leaves the fewest tables unknown.
  for (const table of found.toSorted((a, b) => a.bytes - b.bytes)) {
    const remainingMs = Math.floor(deadline - options.monotonic())
    tables.push(await hashWithin(session, table, options.budget, remainingMs))
    done += table.bytes
    options.onProgress?.(done, total, `${table.schema}.${table.name}`)
  }
  const remainingMs = Math.max(minTimeoutMs, Math.floor(deadline - options.monotonic()))
  const largeObjects = await hashLargeObjects(session, remainingMs)
  return { ...head, largeObjects: largeObjects.hash, tables: sorted(tables), warnings: largeObjects.warnings }
}

/**
 * Takes the fingerprint of a restored copy in the same terms as the source's: the same tables in full, the same key
 * ranges, nothing where the source knew nothing. `sessions` work side by side.
 */
export async function retakeFingerprint(
  sessions: readonly [Session, ...Session[]],
  expected: Fingerprint,
): Promise<Fingerprint> {
  const [first] = sessions
  const head = await describeDatabase(first)
  const wanted = new Map(expected.tables.map((table) => [JSON.stringify([table.schema, table.name]), table]))
  const queue = (await listTables(first)).toSorted((a, b) => b.bytes - a.bytes)
  const tables: TableFingerprint[] = []
  const work = async (session: Session) => {
    for (let table = queue.shift(); table !== undefined; table = queue.shift()) {
      const like = wanted.get(JSON.stringify([table.schema, table.name]))
      tables.push(await underSavepoint(session, () => hashLike(session, table, like)))
    }
  }
  await Promise.all(sessions.map(work))
  const largeObjects = expected.largeObjects === null ? { hash: null, warnings: [] } : await hashLargeObjects(first, 0)
  return { ...head, largeObjects: largeObjects.hash, tables: sorted(tables), warnings: largeObjects.warnings }
}

async function hashWithin(
  session: Session,
  table: TableToHash,
  budget: FingerprintBudget,
  remainingMs: number,
): Promise<TableFingerprint> {
  const { schema, name, bytes } = table
  const unknown = (reason: string): TableFingerprint => ({ schema, name, bytes, method: 'unknown', reason })
  if (remainingMs <= 0) return unknown('time budget used up')
  if (bytes > budget.maxTableBytes && table.key === null)
    return unknown('larger than the size budget, without an integer primary key')
  return guarded(session, remainingMs, unknown, async () => {
    if (bytes <= budget.maxTableBytes)
      return { schema, name, bytes, method: 'full', whole: await hashRows(session, table) }
    const ranges = await chooseRanges(session, table, budget.maxTableBytes / bytes)
    // It has no rows, whatever its file holds. No range at all would let any copy pass for equal.
    if (ranges.length === 0) return { schema, name, bytes, method: 'full', whole: { rows: 0, hash: '0' } }
    return {
      schema,
      name,
      bytes,
      method: 'ranges',
      key: table.key as string,
      ranges: await hashRanges(session, table, ranges),
    }
  })
}

async function hashLike(
  session: Session,
  table: TableToHash,
  like: TableFingerprint | undefined,
): Promise<TableFingerprint> {
  const { schema, name, bytes } = table
  if (like === undefined || like.method === 'unknown') {
    return { schema, name, bytes, method: 'unknown', reason: like?.reason ?? 'not in the source' }
  }
  if (like.method === 'full') return { schema, name, bytes, method: 'full', whole: await hashRows(session, table) }
  if (table.key !== like.key) return { schema, name, bytes, method: 'unknown', reason: 'its primary key differs' }
  return {
    schema,
    name,
    bytes,
    method: 'ranges',
    key: like.key as string,
    ranges: await hashRanges(session, table, like.ranges ?? []),
  }
}

/** A failed statement must not end the dump's transaction: each table has a savepoint and a deadline of its own. */
async function guarded(
  session: Session,
  timeoutMs: number,
  unknown: (reason: string) => TableFingerprint,
  work: () => Promise<TableFingerprint>,
): Promise<TableFingerprint> {
  try {
    return await underSavepoint(session, async () => {
      await session.query(`set local statement_timeout = ${Math.max(minTimeoutMs, timeoutMs)}`) // until the savepoint
      return work()
    })
  } catch (error) {
    if (sessionIsLost(error)) throw error
    return unknown(isTimeout(error) ? 'time budget used up' : (error as Error).message)
  }
}

function isTimeout(error: unknown): boolean {
  return (error as LifeboatError).details?.sqlState === '57014'
}

async function hashRows(session: Session, table: TableToHash, where = ''): Promise<RowsHash> {
  const alias = freeAlias(table.columns)
  const [row] = await session.query<{ rows: string; hash: string }>(
    `select count(*)::text as rows, coalesce(sum(hashtextextended(textin(record_out(${alias})) collate "C", 0)), 0)::text as hash ` +
      `from only ${quoteIdentifier(table.schema)}.${quoteIdentifier(table.name)} ${alias} ${where}`,
  )
  return { rows: Number(row?.rows), hash: row?.hash ?? '' }
}

const numberOfRanges = 16n

/**
 * Key ranges that begin evenly spread over the keys, each with as many rows as make up `share` of the table together;
 * the last one is the table's end, where a cut-off copy lacks rows. Ranges are counted in rows, since keys may be sparse:
 * a range of keys that nobody uses would compare nothing with nothing. None if the table has no rows.
 */
async function chooseRanges(
  session: Session,
  table: TableToHash,
  share: number,
): Promise<readonly Pick<KeyRange, 'from' | 'to'>[]> {
  const key = quoteIdentifier(table.key as string)
  const relation = `only ${quoteIdentifier(table.schema)}.${quoteIdentifier(table.name)}`
  const ends = async (rows: string) => {
    const [row] = await session.query<{ low: string | null; high: string | null }>(
      `select min(k)::text as low, max(k)::text as high from (${rows}) chosen`,
    )
    return row?.low == null || row.high == null ? null : { from: row.low, to: row.high }
  }
  const whole = await ends(
    `(select ${key} as k from ${relation} order by ${key} limit 1) union all (select ${key} from ${relation} order by ${key} desc limit 1)`,
  )
  if (whole === null) return []
  const [low, high] = [BigInt(whole.from), BigInt(whole.to)]
  const rows = Math.max(1, Math.floor((Math.max(table.rows, 0) * share) / Number(numberOfRanges)))
  const last = await ends(`select ${key} as k from ${relation} order by ${key} desc limit ${rows}`)
  if (last === null) return []
  const ranges: Pick<KeyRange, 'from' | 'to'>[] = []
  const step = (high - low) / numberOfRanges || 1n
  let next = low
  for (let index = 0n; index < numberOfRanges - 1n; index += 1n) {
    const start = low + step * index
    if (start > next) next = start
    if (next >= BigInt(last.from)) break
    const bounds = `${key} >= ${quoteLiteral(String(next))}::bigint and ${key} < ${quoteLiteral(last.from)}::bigint`
    const range = await ends(`select ${key} as k from ${relation} where ${bounds} order by ${key} limit ${rows}`)
    if (range === null) break
    ranges.push(range)
    next = BigInt(range.to) + 1n
  }
  return [...ranges, last]
}

async function hashRanges(
  session: Session,
  table: TableToHash,
  ranges: readonly Pick<KeyRange, 'from' | 'to'>[],
): Promise<readonly KeyRange[]> {
  const hashed: KeyRange[] = []
  const key = `${freeAlias(table.columns)}.${quoteIdentifier(table.key as string)}`
  for (const { from, to } of ranges) {
    const where = `where ${key} >= ${quoteLiteral(from)}::bigint and ${key} <= ${quoteLiteral(to)}::bigint`
    hashed.push({ from, to, ...(await hashRows(session, table, where)) })
  }
  return hashed
}

/** An alias that no column bears: `t::text` on a table with a column t would hash that column alone. */
function freeAlias(columns: readonly string[]): string {
  let alias = 'row_'
  while (columns.includes(alias)) alias += '_'
  return alias
}

function sorted(tables: readonly TableFingerprint[]): readonly TableFingerprint[] {
  const key = (table: TableFingerprint) => `${table.schema}\0${table.name}`
  return tables.toSorted((a, b) => (key(a) < key(b) ? -1 : 1))
}
