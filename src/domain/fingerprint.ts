import type { Check } from './proof.ts'

export const fingerprintFormatVersion = 1

/** Exact row count, and the sum of the 64-bit hashes of all rows: equal for equal multisets of rows in any order. */
export interface RowsHash {
  readonly rows: number
  /** Decimal; it does not fit a double. */
  readonly hash: string
}

/** A stable part of a large table: the rows whose key lies between `from` and `to`, both included. Keys are decimal integers. */
export interface KeyRange extends RowsHash {
  readonly from: string
  readonly to: string
}

export interface TableFingerprint {
  readonly schema: string
  readonly name: string
  readonly bytes: number
  /** `full`: every row; `ranges`: the rows of some key ranges; `unknown`: not looked at, `reason` says why. */
  readonly method: 'full' | 'ranges' | 'unknown'
  readonly reason?: string
  readonly whole?: RowsHash
  readonly key?: string
  readonly ranges?: readonly KeyRange[]
}

export interface ExtensionVersion {
  readonly name: string
  readonly version: string
}

/** A collation whose library had this version; another version may sort differently, and indexes then lie. */
export interface CollationVersion {
  readonly name: string
  readonly version: string
}

/**
 * What one database held at one moment, taken in the snapshot that the dump uses. A restored copy must be equal.
 * The contents of `fingerprint.json`.
 */
export interface Fingerprint {
  readonly formatVersion: typeof fingerprintFormatVersion
  /** RFC 3339. */
  readonly takenAt: string
  readonly lsn: string
  readonly serverVersionNum: number
  /** Encoding, collation, character type and locale provider of the database. */
  readonly database: Readonly<Record<string, string | number | boolean | null>>
  /** `ALTER DATABASE … SET` and `ALTER ROLE … IN DATABASE … SET`, one line each. */
  readonly settings: readonly string[]
  readonly extensions: readonly ExtensionVersion[]
  readonly collations: readonly CollationVersion[]
  /** Number of objects by kind, extension members not counted. */
  readonly objects: Readonly<Record<string, number>>
  /** null: there were none to hash, or they could not be read (then `warnings` says so). */
  readonly largeObjects: RowsHash | null
  readonly tables: readonly TableFingerprint[]
  readonly warnings: readonly string[]
}

/** A check, and the short stable cause of its verdict where its name does not give it. */
export interface Comparison extends Check {
  readonly cause?: string
}

/**
 * Compares a restored copy with what the source held. Every difference is a `fail`; what was not looked at on either
 * side is never a `pass` on its own: unless half of the tables' bytes were compared, the rows are `inconclusive`.
 */
export function compareFingerprints(expected: Fingerprint, found: Fingerprint): readonly Comparison[] {
  return [
    compareTables(expected, found),
    compareRecords('objects', expected.objects, found.objects),
    compareLargeObjects(expected, found),
    compareExtensions(expected.extensions, found.extensions),
    compareRecords('database', expected.database, found.database),
    compareLines('settings', expected.settings, found.settings),
    compareCollations(expected.collations, found.collations),
  ]
}

/** A table's name for people: qualified and quoted, so that hostile names stay on one line. */
export function tableLabel({ schema, name }: Pick<TableFingerprint, 'schema' | 'name'>): string {
  const part = (text: string) => (/^[a-z_][a-z0-9_$]*$/.test(text) ? text : JSON.stringify(text))
  return `${part(schema)}.${part(name)}`
}

const maxListed = 5

/** Of the tables' bytes, so much must be in tables that were compared: a sample of the small ones proves little. */
const leastShare = 0.5

function compareTables(expected: Fingerprint, found: Fingerprint): Comparison {
  const key = (table: TableFingerprint) => JSON.stringify([table.schema, table.name])
  const others = new Map(found.tables.map((table) => [key(table), table]))
  const wrong: string[] = []
  const unknown: string[] = []
  let equal = 0
  let inPart = 0
  let bytes = 0
  for (const table of expected.tables) {
    const other = others.get(key(table))
    others.delete(key(table))
    if (other === undefined) wrong.push(`${tableLabel(table)} is missing`)
    else if (table.method === 'unknown' || other.method === 'unknown')
      unknown.push(`${tableLabel(table)} (${table.reason ?? other.reason ?? 'not hashed'})`)
    else {
      const difference = rowsDifference(table, other)
      if (difference === null) {
        equal += 1
        bytes += table.bytes
        if (table.method === 'ranges') inPart += 1
      } else wrong.push(`${tableLabel(table)} ${difference}`)
    }
  }
  for (const extra of others.values()) wrong.push(`${tableLabel(extra)} was not in the source`)
  if (wrong.length > 0) return { name: 'rows', verdict: 'fail', detail: listed(wrong) }
  if (unknown.length === 0) return { name: 'rows', verdict: 'pass', detail: tablesEqual(equal, inPart) }
  const total = expected.tables.reduce((sum, table) => sum + table.bytes, 0)
  // Empty tables have no bytes, and are compared or not all the same.
  const share = total > 0 ? bytes / total : equal / expected.tables.length
  const detail = `${tablesEqual(equal, inPart)}, ${Math.floor(share * 100)} % of the bytes; ${unknown.length} not compared: ${listed(unknown)}`
  return share < leastShare
    ? { name: 'rows', verdict: 'inconclusive', cause: 'mostly-unknown', detail }
    : { name: 'rows', verdict: 'pass', detail }
}

function tablesEqual(equal: number, inPart: number): string {
  return `${equal} tables equal${inPart > 0 ? ` (${inPart} of them by key ranges)` : ''}`
}

function rowsDifference(expected: TableFingerprint, found: TableFingerprint): string | null {
  if (expected.method !== found.method) return `was fingerprinted by ${expected.method}, but by ${found.method} here`
  const pairs: [RowsHash | undefined, RowsHash | undefined][] =
    expected.method === 'full'
      ? [[expected.whole, found.whole]]
      : (expected.ranges ?? []).map((range, index) => [range, found.ranges?.[index]])
  // Nothing compared is never equal, and a hash is bound to its keys.
  if (pairs.length === 0 || expected.key !== found.key) return 'has no hash to compare'
  for (const [one, other] of pairs) {
    if (one === undefined || other === undefined) return 'has no hash to compare'
    if (one.rows !== other.rows) return `has ${other.rows} rows instead of ${one.rows}`
    if (one.hash !== other.hash) return `has ${one.rows} rows, but not the same ones`
  }
  return null
}

function compareLargeObjects(
  { largeObjects: expected, objects }: Fingerprint,
  { largeObjects: found }: Fingerprint,
): Check {
  const name = 'large objects'
  if (expected === null || found === null) {
    if ((objects['large object'] ?? 0) === 0) return { name, verdict: 'pass', detail: 'there are none' }
    if (expected === null)
      return { name, verdict: 'inconclusive', detail: 'they could not be read in the source: only counted' }
    return { name, verdict: 'inconclusive', detail: 'they could be read on one side only' }
  }
  if (expected.rows !== found.rows)
    return { name, verdict: 'fail', detail: `${found.rows} instead of ${expected.rows}` }
  if (expected.hash !== found.hash) return { name, verdict: 'fail', detail: `${expected.rows}, but not the same ones` }
  return { name, verdict: 'pass', detail: `${expected.rows} equal` }
}

/** Another library version is not the backup's fault, but the restored server's indexes on text cannot be trusted alike. */
function compareCollations(expected: readonly CollationVersion[], found: readonly CollationVersion[]): Check {
  const versions = new Map(found.map(({ name, version }) => [name, version]))
  const changed = expected.filter(({ name, version }) => versions.has(name) && versions.get(name) !== version)
  if (changed.length === 0) return { name: 'collations', verdict: 'pass' }
  const detail = changed.map(({ name, version }) => `${name} ${version}, here ${versions.get(name)}`)
  return { name: 'collations', verdict: 'pass', detail: `library versions differ: ${listed(detail)}` }
}

function compareRecords(
  name: string,
  expected: Readonly<Record<string, unknown>>,
  found: Readonly<Record<string, unknown>>,
): Check {
  const keys = [...new Set([...Object.keys(expected), ...Object.keys(found)])].sort()
  const wrong = keys
    .filter((key) => (expected[key] ?? null) !== (found[key] ?? null)) // older servers lack a column: that is null
    .map((key) => `${key}: ${JSON.stringify(found[key] ?? null)} instead of ${JSON.stringify(expected[key] ?? null)}`)
  return wrong.length === 0 ? { name, verdict: 'pass' } : { name, verdict: 'fail', detail: listed(wrong) }
}

function compareLines(name: string, expected: readonly string[], found: readonly string[]): Check {
  const missing = expected.filter((line) => !found.includes(line)).map((line) => `missing: ${line}`)
  const extra = found.filter((line) => !expected.includes(line)).map((line) => `not in the source: ${line}`)
  const wrong = [...missing, ...extra]
  return wrong.length === 0 ? { name, verdict: 'pass' } : { name, verdict: 'fail', detail: listed(wrong) }
}

/** A dump says CREATE EXTENSION without a version, so a flawless restore may well have a newer one: noted, not failed. */
function compareExtensions(expected: readonly ExtensionVersion[], found: readonly ExtensionVersion[]): Check {
  const name = 'extensions'
  const names = (list: readonly ExtensionVersion[]) => list.map((extension) => extension.name)
  const same = compareLines(name, names(expected), names(found))
  if (same.verdict === 'fail') return same
  const versions = new Map(found.map((extension) => [extension.name, extension.version]))
  const changed = expected.filter((extension) => versions.get(extension.name) !== extension.version)
  if (changed.length === 0) return { name, verdict: 'pass' }
  const detail = changed.map(
    (extension) => `${extension.name} ${extension.version}, here ${versions.get(extension.name)}`,
  )
  return { name, verdict: 'pass', detail: `versions differ: ${listed(detail)}` }
}

function listed(items: readonly string[]): string {
  const rest = items.length - maxListed
  return items.slice(0, maxListed).join('; ') + (rest > 0 ? `; and ${rest} more` : '')
}
