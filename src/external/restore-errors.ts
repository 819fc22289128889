/** What one error of a restore means for the verdict about the dump. */
export type ErrorMeaning =
  | 'harmless'
  | 'role-missing'
  | 'tablespace-missing'
  | 'extension-missing'
  | 'locale-missing'
  | 'resources-exhausted'
  | 'fault'

/** What pg_dump sets at the top of every dump and older servers do not know: it is no part of the data. */
const preamble = /^unrecognized configuration parameter "(?:transaction_timeout|default_table_access_method)"$/

/** What `--clean` writes. In an empty server there is nothing to drop, and what stays in the way makes its CREATE fail. */
const dropping = /^(?:DROP |ALTER TABLE .* (?:DROP|DETACH PARTITION) |SELECT pg_catalog\.lo_unlink\()/

/**
 * Judges an error that the server gave while a dump of another tool was restored.
 *
 * A dump of one database carries no roles and no tablespaces, so statements that give something to a role fail in a server
 * of its own; the rows are there all the same. A dump of a whole cluster makes again what initdb has made.
 *
 * @param sqlState null where the client does not tell it
 * @param statement its first line, where it is known
 * Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
 */
export function meaningOf(message: string, sqlState: string | null, statement = ''): ErrorMeaning {
  const has = (...states: readonly string[]) => sqlState === null || states.includes(sqlState)
  if (dropping.test(statement)) return 'harmless'
  // A name may hold a newline, after which a client's line says no more.
  if (has('42704') && /^role "(?:.*" does not exist|[^"]*)$/s.test(message)) return 'role-missing'
  if (has('42704') && /^tablespace "(?:.*" does not exist|[^"]*)$/s.test(message)) return 'tablespace-missing'
  if (has('22023') && /^invalid value for parameter "default_tablespace"/.test(message)) return 'tablespace-missing'
  if (has('42710') && /^role "(?:.*" already exists|[^"]*)$/s.test(message)) return 'harmless'
  if (has('42P04') && /^database "(?:.*" already exists|[^"]*)$/s.test(message)) return 'harmless'
  if (has('42704') && preamble.test(message)) return 'harmless'
  // From 16 on a membership is granted by the superuser that initdb made, who may have another name here.
  if (has('42501') && /^permission denied to grant privileges as role "/.test(message)) return 'harmless'
  if (/^extension ".*" is not available$|^could not open extension control file/s.test(message))
    return 'extension-missing'
  if (/^could not access file ".*": No such file|shared_preload_libraries|must be preloaded/s.test(message))
    return 'extension-missing'
  // Of a text search configuration: they come with packages, as extensions do.
  if (/^could not open (?:dictionary|affix|stop-word|thesaurus|synonym) file/.test(message)) return 'extension-missing'
  if (/^(?:invalid|unrecognized) (?:LC_\w+|locale)|could not create locale|^collation ".*" for encoding/s.test(message))
    return 'locale-missing'
  if (/^could not open collator for locale|^ICU is not supported/.test(message)) return 'locale-missing'
  if (
    sqlState?.startsWith('53') === true ||
    /No space left on device|out of memory|out of shared memory/.test(message)
  ) {
    return 'resources-exhausted'
  }
  return 'fault'
}

/** What psql calls a line that is no error, whatever language the server speaks. */
const noErrors = new Set(['NOTICE', 'WARNING', 'INFO', 'LOG', 'DEBUG', 'warning'])

/** Collects the errors of one restore. */
export class RestoreErrors {
  readonly #named = { 'role-missing': new Set<string>(), 'tablespace-missing': new Set<string>() }
  readonly #found = new Map<ErrorMeaning, string[]>()
  /** psql tells the statement after the error. */
  #pending: { readonly message: string; readonly sqlState: string | null } | null = null

  add(message: string, sqlState: string | null, statement = ''): void {
    const meaning = meaningOf(message, sqlState, statement)
    if (meaning === 'role-missing' || meaning === 'tablespace-missing') {
      const names = this.#named[meaning]
      const name = /(?:^(?:role|tablespace)|: ) ?"(.*)"/s.exec(message)?.[1]
      if (name !== undefined && names.size < mostKept) names.add(name)
    }
    const found = this.#found.get(meaning) ?? []
    if (found.length < mostKept) found.push(message)
    this.#found.set(meaning, found)
  }

  /**
   * Takes an error out of a line that psql (with `--echo-errors` and VERBOSITY verbose) or pg_restore has written. A line
   * of a kind that is not known is an error: a dump may set the language of messages. The jobs of one pg_restore write a line in
   * pieces, and one gets into another's.
   */
  addLine(line: string): void {
    const [, kind = '', rest = ''] = /^psql(?::<stdin>:\d+)?: ([^:]{1,40}): {1,2}(.*)$/s.exec(line) ?? []
    if (kind === 'STATEMENT') {
      this.end(rest)
      return
    }
    // Neither client tells the state otherwise; and psql's own errors have none.
    const plain = /^(?:pg_restore: error: |could not execute query: (?:ERROR: {2})?)+(.*)$/s.exec(line)?.[1]
    if (plain === undefined && (kind === '' || noErrors.has(kind))) return
    this.end()
    const [, sqlState = null, message = rest] = /^([0-9A-Z]{5}): (.*)$/s.exec(rest) ?? []
    this.#pending = plain === undefined ? { message, sqlState } : { message: plain, sqlState: null }
  }

  /** No more is said about the last error. */
  end(statement = ''): void {
    if (this.#pending !== null) this.add(this.#pending.message, this.#pending.sqlState, statement)
    this.#pending = null
  }

  /** Roles that the dump names and does not carry. */
  get roles(): readonly string[] {
    return [...this.#named['role-missing']].sort()
  }

  /** Tablespaces likewise: what lay in them is in the default one. */
  get tablespaces(): readonly string[] {
    return [...this.#named['tablespace-missing']].sort()
  }

  /** The first errors of the gravest kind that says something; null when all were harmless. What is missing explains faults. */
  worst(): {
    readonly meaning: Exclude<ErrorMeaning, 'harmless' | 'role-missing' | 'tablespace-missing'>
    readonly messages: readonly string[]
  } | null {
    for (const meaning of ['extension-missing', 'locale-missing', 'resources-exhausted', 'fault'] as const) {
      const messages = this.#found.get(meaning)
      if (messages !== undefined) return { meaning, messages }
    }
    return null
  }
}

const mostKept = 20
