/** What one error of a restore means for the verdict about the dump. */
export type ErrorMeaning =
  | 'harmless'
  | 'role-missing'
  | 'extension-missing'
  | 'locale-missing'
  | 'resources-exhausted'
  | 'fault'

/**
 * Judges an error that the server gave while a dump of another tool was restored.
 *
 * A dump of one database carries no roles, so statements that give something to a role fail in a server of its own; the
 * rows are there all the same. A dump of a whole cluster makes again what initdb has made.
 *
 * @param sqlState null where the client does not tell it
 * Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
 */
export function meaningOf(message: string, sqlState: string | null): ErrorMeaning {
  const has = (...states: readonly string[]) => sqlState === null || states.includes(sqlState)
  if (has('42704') && /^role ".*" does not exist$/s.test(message)) return 'role-missing'
  if (has('42710') && /^role ".*" already exists$/s.test(message)) return 'harmless'
  if (has('42P04') && /^database ".*" already exists$/s.test(message)) return 'harmless'
  if (/^extension ".*" is not available$|^could not open extension control file/s.test(message))
    return 'extension-missing'
  if (/^could not access file ".*": No such file/s.test(message)) return 'extension-missing'
  if (/^(?:invalid|unrecognized) (?:LC_\w+|locale)|could not create locale|^collation ".*" for encoding/s.test(message))
    return 'locale-missing'
  if (
    sqlState?.startsWith('53') === true ||
    /No space left on device|out of memory|out of shared memory/.test(message)
  ) {
    return 'resources-exhausted'
  }
  return 'fault'
}

/** Collects the errors of one restore. */
export class RestoreErrors {
  readonly #roles = new Set<string>()
  readonly #found = new Map<ErrorMeaning, string[]>()

  add(message: string, sqlState: string | null): void {
    const meaning = meaningOf(message, sqlState)
    if (meaning === 'role-missing' && this.#roles.size < mostKept) this.#roles.add(/"(.*)"/s.exec(message)?.[1] ?? '')
    const found = this.#found.get(meaning) ?? []
    if (found.length < mostKept) found.push(message)
    this.#found.set(meaning, found)
  }

  /** Takes an error out of a line that psql (with VERBOSITY verbose) or pg_restore has written. */
  addLine(line: string): void {
    const verbose = /(?:ERROR|FATAL|PANIC): {2}([0-9A-Z]{5}): (.*)$/s.exec(line)
    // Neither client tells the state otherwise; and psql's own errors have none.
    const plain =
      /^pg_restore: error: (?:could not execute query: ERROR: {2})?(.*)$/s.exec(line) ??
      /^psql(?::<stdin>:\d+)?: error: (.*)$/s.exec(line)
    if (verbose) this.add(verbose[2] as string, verbose[1] as string)
    else if (plain) this.add(plain[1] as string, null)
  }

  /** Roles that the dump names and does not carry. */
  get roles(): readonly string[] {
    return [...this.#roles].sort()
  }

  /** The first errors of the gravest kind that says something; null when all were harmless. What is missing explains faults. */
  worst(): {
    readonly meaning: Exclude<ErrorMeaning, 'harmless' | 'role-missing'>
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
