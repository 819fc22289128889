import { basename, dirname, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { readDsn } from './dsn.ts'

/** Stands for what is not known before a script runs. A text that was read holds no NUL. */
const hole = '\0'

/** A call of pg_dump or pg_dumpall. */
export interface DumpCall {
  readonly program: 'pg_dump' | 'pg_dumpall'
  /** Null when it is not known before it runs, and for all of them. */
  readonly database: string | null
  /** Directory of the file that it writes; null when that is not known. */
  readonly directory: string | null
}

/** What a script says about dumps. */
export interface ShellFacts {
  readonly calls: readonly DumpCall[]
  /** Absolute paths that it names: directories, files and other scripts alike. Up to where they are known. */
  readonly paths: readonly string[]
}

const most = 1000
/** What is in such a variable is not wanted anywhere. */
export const isSecret = (name: string) => /pass|secret|token|key/i.test(name)

/**
 * Reads a shell script as far as simple scripts need it: words, quotes, assignments, pipes and redirections, in the order in
 * which they stand. Nothing is run; conditions, loops and functions are read as if they were not there. It may well find a
 * path too many: whether dumps are there is asked of the disk.
 *
 * @param text read already, and no longer than a small file
 * @param variables what is known before; assignments are added
 */
export function readShell(text: string, variables: Map<string, string>, depth = 0): ShellFacts {
  const calls: DumpCall[] = []
  const paths = new Set<string>()
  let words: string[] = []
  let output: string | null = null
  let call: Omit<DumpCall, 'directory'> | null = null
  let file: string | null = null
  let cwd = hole
  let isCalling = false
  const endCommand = (isPiped: boolean) => {
    const own = isCalling ? readCall(words.slice(words.findIndex(isDump)), variables) : null
    if (own !== null) {
      call = own.call
      file = own.file
    }
    if (words[0] === 'cd') cwd = absolute(words[1] ?? hole, cwd)
    file = output ?? file
    if (call !== null && !isPiped) {
      if (calls.length < most) calls.push({ ...call, directory: directoryOf(file, cwd) })
      call = null
      file = null
    }
    words = []
    output = null
    isCalling = false
  }
  const read = (value: string) => {
    words.push(value)
    isCalling ||= isDump(value)
    const path = /^(?:-\w|--?[\w-]+=)?([/.][\s\S]*)$/.exec(value)?.[1]
    if (path !== undefined && paths.size < most) {
      const known = knownPart(absolute(path, cwd))
      if (isPlace(known)) paths.add(known)
    }
    if (depth < 2 && /\s/.test(value) && /pg_dump/.test(value)) {
      // `su -c "pg_dump … > file"`: a command in quotes.
      const inner = readShell(value, variables, depth + 1)
      calls.push(...inner.calls.slice(0, most - calls.length))
      for (const one of inner.paths) if (paths.size < most) paths.add(one)
    }
  }
  for (const { word, operator } of tokens(text)) {
    if (word === undefined) endCommand(operator === '|' || operator === '|&')
    else if (/^[&\d]*>/.test(operator)) {
      const target = expand(word, variables)
      if (/^[1&]?>/.test(operator) && !/^(?:\/dev\/|&|\d+$)/.test(target)) output = target
    } else if (operator === '') {
      const assignment = isCalling ? null : /^([A-Za-z_]\w*)=([\s\S]*)$/.exec(word)
      const value = expand(assignment?.[2] ?? word, variables)
      if (assignment === null) read(value)
      else {
        const [, name = ''] = assignment
        if (isSecret(name)) variables.delete(name)
        else {
          if (variables.size < most) variables.set(name, value.slice(0, 4096))
          const known = knownPart(value)
          if (isPlace(known) && paths.size < most) paths.add(known)
        }
      }
    }
  }
  endCommand(false)
  return { calls, paths: [...paths] }
}

const isDump = (word: string) => /^pg_dump(?:all)?$/.test(basename(word))

/** Everything that matters of their options; of the others pg_dump's own page tells which have a value. */
const dumpOptions = {
  dbname: { type: 'string', short: 'd' },
  file: { type: 'string', short: 'f' },
  ...Object.fromEntries(
    Object.entries({ F: 'format', h: 'host', p: 'port', U: 'username', l: 'database', j: 'jobs', Z: 'compress' }).map(
      ([short, name]) => [name, { type: 'string', short } as const],
    ),
  ),
  ...Object.fromEntries(
    Object.entries({ n: 'schema', N: 'exclude-schema', t: 'table', T: 'exclude-table', E: 'encoding' }).map(
      ([short, name]) => [name, { type: 'string', short } as const],
    ),
  ),
  role: { type: 'string' },
} as const

function readCall(
  [name = '', ...args]: readonly string[],
  variables: ReadonlyMap<string, string>,
): { call: Omit<DumpCall, 'directory'>; file: string | null } {
  const program = basename(name) === 'pg_dumpall' ? 'pg_dumpall' : 'pg_dump'
  const { values, positionals } = parseArgs({ args, options: dumpOptions, strict: false, allowPositionals: true })
  const text = (value: unknown) => (typeof value === 'string' ? value : null)
  const named = text(values.dbname) ?? positionals[0] ?? variables.get('PGDATABASE') ?? hole
  const database = program === 'pg_dumpall' ? null : databaseOf(named)
  return { call: { program, database }, file: text(values.file) }
}

/** A name alone; of a connection string nothing but the name, since it may hold a password. */
function databaseOf(named: string): string | null {
  const isDsn = named.includes('=') || named.includes('://')
  const name = isDsn ? (readDsn(named)?.database ?? '') : named
  return name === '' || /[{}\0]/.test(name) || Buffer.byteLength(name) > 63 ? null : name
}

function absolute(path: string, cwd: string): string {
  return path.startsWith('/') ? path : `${cwd}/${path}`
}

function directoryOf(file: string | null, cwd: string): string | null {
  if (file === null) return null
  const whole = absolute(file, cwd)
  const known = whole.includes(hole) ? knownPart(whole) : dirname(whole)
  return isPlace(known) ? known : null
}

/** A path up to the last folder before what is not known. */
function knownPart(path: string): string {
  const at = path.indexOf(hole)
  const known = at < 0 ? path : path.slice(0, path.lastIndexOf('/', at))
  return known.startsWith('/') ? resolve(known) : ''
}

function isPlace(path: string): boolean {
  return path.startsWith('/') && path !== '/' && path.length < 4096 && !/^\/(?:dev|proc|sys)(?:\/|$)/.test(path)
}

interface Token {
  /** As it is written; undefined at the end of a command. */
  readonly word?: string
  /** What ends the command; the arrow before a word that is a target of a redirection. */
  readonly operator: string
}

const blanks = /(?:[ \t\r]|\\\n)*(?:#[^\n]*)?/y
const ends = /\n|\|\||&&|;;?|\|&?|[()]|&(?!>)/y
const arrows = /(?:\d{0,3}|&)(?:>>|>\||>&|>|<<<|<&|<>|<)/y
const wordPieces = /[^\s"'\\;|&<>()]+|\\[\s\S]|"(?:[^"\\]|\\[\s\S])*"?|'[^']*'?/y

function* tokens(source: string): Generator<Token> {
  const text = withoutSubstitutions(withoutHeredocs(source))
  let at = 0
  const take = (pattern: RegExp) => {
    pattern.lastIndex = at
    const found = pattern.exec(text)?.[0] ?? ''
    at += found.length
    return found
  }
  while (at < text.length) {
    take(blanks)
    const end = take(ends)
    if (end !== '') {
      yield { operator: end }
      continue
    }
    const operator = take(arrows)
    if (operator !== '') take(/[ \t]*/y)
    const from = at
    while (take(wordPieces) !== '');
    if (at > from) yield { operator, word: text.slice(from, at) }
    else if (operator === '') at += 1 // a backslash at the very end
  }
}

/** What stands between `<<END` and `END` is text for a program. */
function withoutHeredocs(text: string): string {
  let end: string | null = null
  const kept = text.split('\n').filter((line) => {
    const isInside = end !== null
    if (isInside && line.trim() === end) end = null
    if (!isInside) end = /(?<![<\w])<<-?[ \t]*\\?["']?([A-Za-z_]\w*)/.exec(line)?.[1] ?? null
    return !isInside
  })
  return kept.join('\n')
}

/** `$(date …)` and its like are not known; a dump that is taken inside of one is a command of its own. */
function withoutSubstitutions(text: string): string {
  return text.replace(/\$\(([^()]*)\)|`([^`]*)`/g, (_, round?: string, back?: string) => {
    const inside = round ?? back ?? ''
    return inside.includes('pg_dump') ? `;${inside};` : hole
  })
}

/** The text that a word stands for. */
function expand(word: string, variables: ReadonlyMap<string, string>): string {
  const open = (text: string) =>
    text.replace(
      /\\([\s\S])|\$\{(\w+)(?::?[-=]([^}]*))?\}|\$\{[^}]*\}?|\$(\w+|[@*#?$!-])/g,
      (_, escaped?: string, braced?: string, fallback?: string, bare?: string) => {
        if (escaped !== undefined) return escaped === '\n' ? '' : escaped
        return variables.get(braced ?? bare ?? '') ?? fallback ?? hole
      },
    )
  const home = word.startsWith('~/') ? `${variables.get('HOME') ?? hole}${word.slice(1)}` : word
  return home
    .replace(
      /'([^']*)'?|"((?:[^"\\]|\\[\s\S])*)"?|((?:[^'"\\]|\\[\s\S])+)/g,
      (_, single?: string, double?: string, bare?: string) => single ?? open(double ?? bare ?? ''),
    )
    .slice(0, 8192)
}
