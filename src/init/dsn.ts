/** What a connection string says; what it does not say is null. */
export interface Dsn {
  readonly host: string | null
  readonly port: number | null
  readonly user: string | null
  readonly password: string | null
  readonly database: string | null
  readonly sslMode: string | null
}

/**
 * Reads a connection string, a URI or `key=value`. Null for what is neither.
 * Source: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING
 */
export function readDsn(text: string): Dsn | null {
  const values = /^postgres(?:ql)?:\/\//.test(text) ? fromUri(text) : fromPairs(text)
  if (values === null) return null
  const value = (key: string) => values.get(key) || null
  const port = value('port')
  return {
    host: value('host') ?? value('hostaddr'),
    port: port === null ? null : Number(port),
    user: value('user'),
    password: value('password'),
    database: value('dbname'),
    sslMode: value('sslmode'),
  }
}

function fromUri(text: string): Map<string, string> | null {
  const parts =
    /^[a-z]+:\/\/(?:([^:@/?]*)(?::([^@/?]*))?@)?(?:\[([^\]]*)\]|([^:/?]*))(?::(\d*))?(?:\/([^?]*))?(?:\?(.*))?$/s
  const found = parts.exec(text)
  if (found === null) return null
  const [, user, password, address, host, port, dbname, query] = found
  try {
    const named = Object.entries({ user, password, host: address ?? host, port, dbname })
    const decoded = named.map(([key, value]) => [key, decodeURIComponent(value ?? '')] as const)
    return new Map([...decoded, ...new URLSearchParams(query)])
  } catch {
    return null // a % that stands for nothing
  }
}

function fromPairs(text: string): Map<string, string> | null {
  const pair = /\s*([a-z_]+)\s*=\s*(?:'((?:[^'\\]|\\[\s\S])*)'|((?:[^\s'\\]|\\[\s\S])*))\s*/y
  const values = new Map<string, string>()
  while (pair.lastIndex < text.length) {
    const [, key, quoted, bare] = pair.exec(text) ?? []
    if (key === undefined) return null
    values.set(key, (quoted ?? bare ?? '').replace(/\\([\s\S])/g, '$1'))
  }
  return values.size === 0 ? null : values
}
