import { LifeboatError } from './errors.ts'

/** What the name of a file says about the dump in it. */
export interface NamedDump {
  /** Null where the pattern does not name one. */
  readonly database: string | null
  /** Null where the pattern has no time, or the digits are none (the 31st of February). Taken for UTC. */
  readonly at: Date | null
}

/** Gives what a name says, or null for a name that does not fit. */
export type FilePattern = (name: string) => NamedDump | null

/** The usual endings of dumps, for a regular expression. */
export const dumpExtension = String.raw`\.(?:tgz|(?:sql|dump|tar|pgdump|backup|bak|custom)(?:\.(?:gz|gzip|zst|zstd))?)`
const extension = `(?:${dumpExtension})?`

/** A time in a name, for a regular expression. Groups: year, month, day, hour, minute, second, offset from UTC; or seconds since 1970. */
export const timestamp = String.raw`(?:(\d{4})[-_.]?(\d\d)[-_.]?(\d\d)(?:[T_ .-]?(\d\d)[-:._h]?(\d\d)(?:[-:._m]?(\d\d)s?)?(?:([+-](?:0\d|1[0-4]):?(?:00|15|30|45))|(?:[.-]\d{1,9})?Z?))?|(\d{10}))`

const placeholders: ReadonlyMap<string, string> = new Map([
  ['{database}', '([^/]+?)'],
  ['{timestamp}', timestamp],
  ['{ext}', extension],
  ['*', '[^/]*'],
])

/**
 * Placeholders of any length in one pattern. Each multiplies the ways to read a name by its length, and names are given by
 * whoever may write to the directory.
 */
const mostOpen = 3

/** Everything in a pattern that is not a placeholder stands for itself. */
const parts = /\{[^{}]*\}|\*|[^{}*]+|[{}]/g

/**
 * Compiles a pattern such as `{database}_backup_{timestamp}{ext}`. `{database}` stands for any text, `{timestamp}` for a
 * date with or without a time in the usual spellings, `{ext}` for the usual endings of dumps (and none: a directory), `*` for
 * anything. Each of the first two may stand there once.
 *
 * @throws LifeboatError `usage-invalid` for a pattern that names a folder, has a placeholder twice, one that is not known, or too
 *   many of any length
 */
export function compilePattern(pattern: string): FilePattern {
  if (pattern === '' || /[/\0]/.test(pattern))
    throw new LifeboatError('usage-invalid', 'must be the name of a file, without a slash')
  const found: readonly string[] = pattern.match(parts) ?? []
  for (const part of found.filter((one) => one.startsWith('{') || one === '}')) {
    if (!placeholders.has(part)) {
      const hint = 'Placeholders are {database}, {timestamp}, {ext} and *.'
      throw new LifeboatError('usage-invalid', `has ${JSON.stringify(part)}, which is no placeholder`, { hint })
    }
    if (found.indexOf(part) !== found.lastIndexOf(part)) throw new LifeboatError('usage-invalid', `has ${part} twice`)
  }
  if (found.filter((part) => part === '*' || part === '{database}').length > mostOpen) {
    throw new LifeboatError('usage-invalid', `has more than ${mostOpen} of {database} and * together`)
  }
  const source = found
    .map((part) => placeholders.get(part) ?? part.replaceAll(/[\\^$.*+?()[\]{}|/-]/g, String.raw`\$&`))
    .join('')
  const expression = new RegExp(`^${source}$`, 's')
  const hasDatabase = found.includes('{database}')
  const timeFirst =
    hasDatabase && found.indexOf('{timestamp}') >= 0 && found.indexOf('{timestamp}') < found.indexOf('{database}')
  return (name) => {
    const match = expression.exec(name)
    if (match === null) return null
    const groups = match.slice(1)
    const database = hasDatabase ? (groups[timeFirst ? timeGroups : 0] ?? null) : null
    const time = groups.slice(hasDatabase && !timeFirst ? 1 : 0)
    return { database, at: found.includes('{timestamp}') ? momentOf(time) : null }
  }
}

/** True for a pattern that names the database. */
export function namesDatabase(pattern: string): boolean {
  return pattern.includes('{database}')
}

const timeGroups = 8

function momentOf(groups: readonly (string | undefined)[]): Date | null {
  const epoch = groups[timeGroups - 1]
  if (epoch !== undefined) return new Date(Number(epoch) * 1000)
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = groups
    .slice(0, 6)
    .map((text) => Number(text ?? 0))
  if (month < 1 || hour > 23 || minute > 59 || second > 60) return null
  const at = new Date(0)
  at.setUTCFullYear(year, month - 1, day)
  at.setUTCHours(hour, minute, second)
  // A day that the month has not got would be one of the next.
  if (at.getUTCMonth() !== month - 1 || at.getUTCDate() !== day) return null
  return new Date(at.getTime() - offsetMs(groups[6]))
}

/** `+0100`, `-05:30`; nothing is UTC. */
function offsetMs(text: string | undefined): number {
  if (text === undefined) return 0
  const minutes = Number(text.slice(1, 3)) * 60 + Number(text.slice(-2))
  return (text.startsWith('-') ? -minutes : minutes) * 60_000
}
