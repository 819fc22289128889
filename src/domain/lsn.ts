/**
 * Order of two places in the WAL, as `pg_lsn` has it: negative when `a` comes first, 0 when they are one place. Both as
 * PostgreSQL writes them, two hexadecimal numbers of up to 32 bits, the second of which some versions pad with zeros.
 * Only places of one system identifier and one timeline can be compared.
 * Source: https://www.postgresql.org/docs/current/datatype-pg-lsn.html
 */
export function compareLsn(a: string, b: string): number {
  // The halves one by one: as one number they would not fit a double, and as BigInts they cost several times this.
  return high(a) - high(b) || low(a) - low(b)
}

function high(lsn: string): number {
  return Number.parseInt(lsn, 16) // ends at the slash
}

function low(lsn: string): number {
  return Number.parseInt(lsn.slice(lsn.indexOf('/') + 1), 16)
}

/** The highest place in the WAL: 64 bits. */
const maxLsn = 0xffff_ffff_ffff_ffffn
const lsnPattern = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/

/**
 * A place in the WAL as the number of bytes before it, for arithmetic: 64 bits, more than a double holds. Null for what
 * is not two hexadecimal numbers of up to 32 bits and a slash.
 */
export function parseLsn(text: string): bigint | null {
  const [, left, right] = lsnPattern.exec(text) ?? []
  if (left === undefined || right === undefined) return null
  return (BigInt(`0x${left}`) << 32n) | BigInt(`0x${right}`)
}

/** As PostgreSQL writes it (unpadded, as all versions read it). Fails with a RangeError beyond 64 bits. */
export function formatLsn(lsn: bigint): string {
  if (lsn < 0n || lsn > maxLsn) throw new RangeError(`${lsn} is no place in the WAL`)
  return `${(lsn >> 32n).toString(16)}/${(lsn & 0xffff_ffffn).toString(16)}`.toUpperCase()
}
