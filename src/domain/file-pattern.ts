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

/** Those that the keys of a bucket may have besides. */
const dateParts: ReadonlyMap<string, string> = new Map([
  ['{year}', String.raw`(\d{4})`],
  ['{month}', String.raw`(\d\d)`],
  ['{day}', String.raw`(\d\d)`],
  ['{hour}', String.raw`(\d\d)`],
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
  return compile(pattern, placeholders)
}

/**
 * Like `compilePattern`, for keys of a bucket, such as `{year}/{month}/{day}/{database}_{timestamp}{ext}`: it may have
 * slashes, and parts of a date, which count where there is no `{timestamp}`. Of one that ends in a slash, all below is one dump.
 *
 * @throws LifeboatError `usage-invalid` as well for one that begins with a slash, or has two in a row
 */
export function compileKeyPattern(pattern: string): FilePattern {
  if (pattern === '' || /^\/|\/\/|\0/.test(pattern))
    throw new LifeboatError('usage-invalid', 'must be a key, without a slash before it and without two in a row')
  return compile(pattern, new Map([...placeholders, ...dateParts]))
}

function compile(pattern: string, known: ReadonlyMap<string, string>): FilePattern {
  const found: readonly string[] = pattern.match(parts) ?? []
  for (const part of found.filter((one) => one.startsWith('{') || one === '}')) {
    if (!known.has(part)) {
      const hint = `Placeholders are ${[...known.keys()].join(', ').replace(/, ([^,]*)$/, ' and $1')}.`
      throw new LifeboatError('usage-invalid', `has ${JSON.stringify(part)}, which is no placeholder`, { hint })
    }
    if (found.indexOf(part) !== found.lastIndexOf(part)) throw new LifeboatError('usage-invalid', `has ${part} twice`)
  }
  if (found.filter((part) => part === '*' || part === '{database}').length > mostOpen) {
    throw new LifeboatError('usage-invalid', `has more than ${mostOpen} of {database} and * together`)
  }
  const source = found
    .map((part) => known.get(part) ?? part.replaceAll(/[\\^$.*+?()[\]{}|/-]/g, String.raw`\$&`))
    .join('')
  const expression = new RegExp(`^${source}$`, 's')
  const places = groupsOf(found)
  const at = (match: readonly string[], part: string) => {
    const place = places.get(part)
    return place === undefined ? undefined : match[place]
  }
  return (name) => {
    const match = expression.exec(name)
    if (match === null) return null
    const time = places.get('{timestamp}')
    const date = ['{year}', '{month}', '{day}', '{hour}'].map((part) => at(match, part))
    return {
      database: at(match, '{database}') ?? null,
      at:
        time !== undefined
          ? momentOf(match.slice(time, time + timeGroups))
          : date[0] === undefined
            ? null
            : momentOf([date[0], date[1] ?? '01', date[2] ?? '01', date[3]]),
    }
  }
}

/** Where in a match the groups of each placeholder begin. */
function groupsOf(found: readonly string[]): ReadonlyMap<string, number> {
  const places = new Map<string, number>()
  let next = 1
  for (const part of found) {
    if (part === '{timestamp}') places.set(part, next)
    if (part === '{timestamp}') next += timeGroups
    else if (part === '{database}' || dateParts.has(part)) places.set(part, next++)
  }
  return places
}

/** What all keys that fit begin with. */
export function literalPrefix(pattern: string): string {
  return /^[^{}*]*/.exec(pattern)?.[0] ?? ''
}

/**
 * Where keys of a day and later begin, for a pattern in the order of time: one whose placeholders begin with `{year}`, `{month}`
 * and `{day}`. Null for another.
 */
export function keysSince(pattern: string, day: Date): string | null {
  const ordered = /^([^{}*]*)\{year\}([^{}*]*)\{month\}([^{}*]*)\{day\}/.exec(pattern)
  if (ordered === null) return null
  const [year, month, date] = day.toISOString().slice(0, 10).split('-')
  return `${ordered[1]}${year}${ordered[2]}${month}${ordered[3]}${date}`
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
