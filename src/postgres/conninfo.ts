/** Where a PostgreSQL program or driver connects to. */
export interface Target {
  /** A host name, an address, or the directory of a Unix socket. */
  readonly host: string
  readonly port: number
  readonly user: string
  readonly database: string
}

/**
 * A libpq connection string with every value quoted, safe for names that hold quotes, spaces, newlines or `=`.
 * Source: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING
 */
export function conninfo(target: Target): string {
  const quote = (value: string) => `'${value.replace(/[\\']/g, '\\$&')}'`
  return `host=${quote(target.host)} port=${target.port} user=${quote(target.user)} dbname=${quote(target.database)}`
}

/** An SQL identifier, always quoted. */
export function quoteIdentifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

/** An SQL string constant, right whatever `standard_conforming_strings` says. */
export function quoteLiteral(text: string): string {
  const quoted = `'${text.replaceAll("'", "''").replaceAll('\\', '\\\\')}'`
  return text.includes('\\') ? `E${quoted}` : quoted
}

/**
 * One line of a password file that fits every connection.
 * Source: https://www.postgresql.org/docs/current/libpq-pgpass.html
 */
export function passfileLine(password: string): string {
  return `*:*:*:*:${password.replace(/[\\:]/g, '\\$&')}\n`
}
