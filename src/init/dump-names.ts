import { compilePattern, dumpExtension, timestamp } from '../domain/file-pattern.ts'

/** Files of one directory that one pattern fits. */
export interface NameGroup {
  readonly pattern: string
  /** Of all of its files, when the pattern does not name it; null: not known. */
  readonly database: string | null
  readonly names: readonly string[]
}

/** A name in its parts; `name` is what stands for the database, if anything does. */
interface Parts {
  readonly name: string
  /** The pattern with `{database}` in it where there is one. */
  readonly pattern: string
  readonly database: string | null
  readonly isTimed: boolean
}

/** Words in names of dumps that are no databases. */
const generic = new Set(
  'pg postgres postgresql db database databases full backup backups bak dump dumps pgdump all everything cluster daily nightly hourly weekly monthly globals roles data schema cron auto'.split(
    ' ',
  ),
)

/** A directory in which more patterns are needed holds something else besides dumps. */
const mostGroups = 20

const ending = new RegExp(`${dumpExtension}$`)
const time = new RegExp(`(?<!\\d)${timestamp}(?!\\d)`)
const isMoment = compilePattern('{timestamp}')

/** True for names that dumps have, and patterns can hold; a directory must have a time in its name. */
export function isDumpName(name: string, isDirectory: boolean): boolean {
  if (/[{}*]/.test(name)) return false
  return isDirectory ? time.test(name) && isMoment(timeIn(name) ?? '')?.at != null : ending.test(name)
}

/**
 * Finds the patterns that the names of dumps fit, the one with the most files first. No two of them fit the same file of the
 * directory. Of more than twenty only those are given.
 *
 * @param names such as `isDumpName` lets pass
 * @param databases names of databases that are known; others are guessed
 */
export function groupNames(names: readonly string[], databases: readonly string[]): readonly NameGroup[] {
  const known = databases.toSorted((a, b) => b.length - a.length)
  const parts = names.map((name) => takeApart(name, known))
  const groups = Map.groupBy(parts, ({ pattern, database, isTimed }) =>
    // Without a time `{database}` would fit everything.
    isTimed && pattern.includes('{database}') ? pattern : JSON.stringify([pattern, database]),
  )
  const largest = [...groups.values()].toSorted((a, b) => b.length - a.length).slice(0, mostGroups)
  const shown = largest.flat()
  const found = largest.flatMap((group) => {
    const [first] = group
    if (first === undefined) return []
    const fits = compilePattern(first.pattern)
    const isNamed = first.pattern.includes('{database}')
    const isAlone = first.isTimed && !shown.some((one) => one.pattern !== first.pattern && fits(one.name) !== null)
    return isNamed && !isAlone
      ? [...Map.groupBy(group, ({ database }) => database).values()].map(literal)
      : [groupOf(group)]
  })
  return found.toSorted((a, b) => b.names.length - a.names.length).slice(0, mostGroups)
}

function groupOf(group: readonly Parts[]): NameGroup {
  const { pattern = '', database = null } = group[0] ?? {}
  return {
    pattern,
    database: pattern.includes('{database}') ? null : database,
    names: group.map(({ name }) => name),
  }
}

/** The same with the name of the database in place of the placeholder. */
function literal(group: readonly Parts[]): NameGroup {
  const { pattern = '', database = '' } = group[0] ?? {}
  return {
    pattern: pattern.replace('{database}', () => database ?? ''),
    database,
    names: group.map(({ name }) => name),
  }
}

function takeApart(name: string, known: readonly string[]): Parts {
  const stem = name.replace(ending, '')
  const at = timeIn(stem)
  const isTimed = at !== null && isMoment(at)?.at != null
  const from = isTimed ? stem.indexOf(at) : stem.length
  const before = stem.slice(0, from)
  const after = isTimed ? stem.slice(from + at.length) : ''
  const here = databaseIn(before, known) ?? databaseIn(after, known) ?? guessed(before) ?? guessed(after)
  const put = (text: string) => {
    const start = here === null ? -1 : placeOf(text, here)
    return start < 0 || here === null ? text : `${text.slice(0, start)}{database}${text.slice(start + here.length)}`
  }
  const left = put(before)
  const right = left.includes('{database}') ? after : put(after)
  return { name, pattern: `${left}${isTimed ? '{timestamp}' : ''}${right}{ext}`, database: here, isTimed }
}

const timeIn = (text: string) => time.exec(text)?.[0] ?? null

const isBoundary = (character: string | undefined) => character === undefined || /[^\p{L}\p{N}]/u.test(character)

function placeOf(text: string, word: string): number {
  for (let at = text.indexOf(word); at >= 0; at = text.indexOf(word, at + 1)) {
    if (isBoundary(text[at - 1]) && isBoundary(text[at + word.length])) return at
  }
  return -1
}

function databaseIn(text: string, known: readonly string[]): string | null {
  return known.find((name) => name !== '' && placeOf(text, name) >= 0) ?? null
}

/** What is left of a text without the words at its ends that name no database. */
function guessed(text: string): string | null {
  const pieces = text.split(/([-_. ]+)/)
  const isWord = (piece: string) => piece !== '' && !/^[-_. ]+$/.test(piece) && !generic.has(piece.toLowerCase())
  const first = pieces.findIndex(isWord)
  const name = first < 0 ? '' : pieces.slice(first, pieces.findLastIndex(isWord) + 1).join('')
  return name === '' || Buffer.byteLength(name) > 63 ? null : name
}
