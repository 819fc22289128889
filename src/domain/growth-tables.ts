import { type Fingerprint, type TableFingerprint, tableLabel } from './fingerprint.ts'

/** A table by what it has to do with a deviation. Null: not known (not counted, or not there). */
export interface TableChange {
  /** Qualified, and quoted where needed, on one line. */
  readonly table: string
  readonly change: 'new' | 'dropped' | 'changed'
  readonly rowsBefore: number | null
  readonly rowsAfter: number | null
  readonly bytesBefore: number | null
  readonly bytesAfter: number | null
}

/** What the fingerprints of two backups tell about their difference. */
export interface GrowthComparison {
  /**
   * Rows after against rows before, of the tables that were counted both times, were dropped or are new. Null where these
   * have less than half of the bytes, and where there were no rows before.
   */
  readonly rowsRatio: number | null
  /** Most of the difference first. */
  readonly tables: readonly TableChange[]
  /** How many tables differ, those included that are not among `tables`. */
  readonly differing: number
}

/** A delete leaves the table's file as large as it was: rows tell then, at some bytes for each. */
const bytesOfRow = 100
/** Large objects have no size in a fingerprint; half of this fills one page of theirs. */
const bytesOfLargeObject = 4096
/** The rows of the small tables alone tell nothing of a database that is mostly in one that was not counted. */
const leastShare = 0.5

/** What is known of a table at one moment; a table that is not there has no rows and no bytes. */
interface Side {
  readonly isThere: boolean
  readonly rows: number | null
  readonly bytes: number | null
}

const absent: Side = { isThere: false, rows: 0, bytes: 0 }

const mostTables = 10

/** The tables that explain the difference of two backups. */
export function compareGrowth(before: Fingerprint, after: Fingerprint): GrowthComparison {
  const changes: { readonly change: TableChange; readonly weight: number }[] = []
  let [rowsBefore, rowsAfter, countedBytes, bytes] = [0, 0, 0, 0]
  for (const { table, old, now } of pairsOf(before, after)) {
    const bothBytes = (old.bytes ?? 0) + (now.bytes ?? 0)
    bytes += bothBytes
    if (old.rows !== null && now.rows !== null) {
      rowsBefore += old.rows
      rowsAfter += now.rows
      countedBytes += bothBytes
    }
    const weight = Math.max(differenceOf(old.bytes, now.bytes), differenceOf(old.rows, now.rows) * bytesOfRow)
    if (weight > 0 || old.isThere !== now.isThere) changes.push({ change: changeOf(table, old, now), weight })
  }
  const [old, now] = [largeObjectsOf(before), largeObjectsOf(after)]
  const weight = differenceOf(old.rows, now.rows) * bytesOfLargeObject
  if (weight > 0) changes.push({ change: changeOf('large objects', old, now), weight })
  changes.sort((a, b) => b.weight - a.weight || (a.change.table < b.change.table ? -1 : 1))
  const isKnown = countedBytes >= leastShare * bytes && (rowsBefore > 0 || rowsAfter === 0)
  return {
    rowsRatio: !isKnown ? null : rowsBefore === rowsAfter ? 1 : rowsAfter / rowsBefore,
    tables: changes.slice(0, mostTables).map(({ change }) => change),
    differing: changes.length,
  }
}

/** A change in a few words, on one line: `public.orders (1,000,000 to 10 rows)`. */
export function describeChange({ table, change, ...sides }: TableChange): string {
  const { rowsBefore, rowsAfter, bytesBefore, bytesAfter } = sides
  if (change === 'new') return `${table} (new, ${amount(rowsAfter, bytesAfter)})`
  if (change === 'dropped') return `${table} (dropped, had ${amount(rowsBefore, bytesBefore)})`
  const parts: string[] = []
  if (differenceOf(rowsBefore, rowsAfter) > 0) parts.push(`${grouped(rowsBefore)} to ${grouped(rowsAfter)} rows`)
  if (differenceOf(bytesBefore, bytesAfter) > 0) parts.push(`${grouped(bytesBefore)} to ${grouped(bytesAfter)} bytes`)
  return `${table} (${parts.join(', ')})`
}

function amount(rows: number | null, bytes: number | null): string {
  return rows === null ? `${grouped(bytes)} bytes` : `${grouped(rows)} rows`
}

/** `1,234,567`: digits in threes can be read at a glance. */
export function grouped(value: number | null): string {
  return value === null ? '?' : Math.round(value).toLocaleString('en-US')
}

/** Every table of either side once. */
function* pairsOf(before: Fingerprint, after: Fingerprint): Iterable<{ table: string; old: Side; now: Side }> {
  const former = new Map(before.tables.map((table) => [keyOf(table), table]))
  for (const table of after.tables) {
    const old = former.get(keyOf(table))
    former.delete(keyOf(table))
    yield { table: tableLabel(table), old: old === undefined ? absent : sideOf(old), now: sideOf(table) }
  }
  for (const table of former.values()) yield { table: tableLabel(table), old: sideOf(table), now: absent }
}

function keyOf({ schema, name }: TableFingerprint): string {
  return `${schema}\0${name}`
}

function sideOf({ whole, bytes }: TableFingerprint): Side {
  return { isThere: true, rows: countOf(whole?.rows), bytes: countOf(bytes) }
}

/** The file was not compared with its hash: what is no count in it is not known. */
function countOf(value: number | undefined): number | null {
  return value !== undefined && Number.isSafeInteger(value) && value >= 0 ? value : null
}

/** They are counted also where they could not be read. */
function largeObjectsOf({ largeObjects, objects }: Fingerprint): Side {
  return { isThere: true, rows: countOf(largeObjects?.rows ?? objects['large object'] ?? 0), bytes: null }
}

function differenceOf(before: number | null, after: number | null): number {
  return before === null || after === null ? 0 : Math.abs(after - before)
}

function changeOf(table: string, old: Side, now: Side): TableChange {
  return {
    table,
    change: !old.isThere ? 'new' : now.isThere ? 'changed' : 'dropped',
    rowsBefore: old.isThere ? old.rows : null,
    rowsAfter: now.isThere ? now.rows : null,
    bytesBefore: old.isThere ? old.bytes : null,
    bytesAfter: now.isThere ? now.bytes : null,
  }
}
