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
