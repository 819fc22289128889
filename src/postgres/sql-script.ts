/** One statement of a psql script, with everything before it (comments, blank lines); joined they give the script again. */
export interface ScriptPart {
  readonly text: string
  /** `meta`: a psql command such as `\restrict`; `rest`: what follows the last statement. */
  readonly kind: 'sql' | 'meta' | 'rest'
}

/** A token of a statement. `value` is the name that an identifier stands for, or the text of a string constant. */
export interface Token {
  readonly kind: 'identifier' | 'quoted' | 'string' | 'symbol'
  readonly value: string
  readonly start: number
  readonly end: number
}

const space = /\s+|--[^\n]*(?:\n|$)/y
const patterns: readonly [Token['kind'], RegExp][] = [
  ['string', /[eE]'[^'\\]*(?:(?:\\[\s\S]|'')[^'\\]*)*'/y],
  ['string', /'[^']*(?:''[^']*)*'/y],
  ['string', /\$([A-Za-z_][A-Za-z0-9_]*)?\$[\s\S]*?\$\1\$/y],
  ['quoted', /"[^"]*(?:""[^"]*)*"/y],
  ['identifier', /[\p{L}_][\p{L}\p{N}_$]*/uy],
  ['symbol', /[\s\S]/y],
]

/**
 * Cuts what pg_dumpall and pg_restore print into statements. Names may hold semicolons, quotes and newlines, so lines
 * say nothing: this follows the lexical rules.
 * Source: https://www.postgresql.org/docs/current/sql-syntax-lexical.html
 */
export function splitScript(script: string): readonly ScriptPart[] {
  const parts: ScriptPart[] = []
  let start = 0
  let position = 0
  let inStatement = false
  while (position < script.length) {
    const skipped = match(space, script, position)
    if (skipped !== null) {
      position += skipped.length
      continue
    }
    if (script[position] === '\\' && !inStatement) {
      const newline = script.indexOf('\n', position)
      position = newline === -1 ? script.length : newline + 1
      parts.push({ text: script.slice(start, position), kind: 'meta' })
      start = position
      continue
    }
    const token = next(script, position)
    position = token.end
    inStatement = token.kind !== 'symbol' || token.value !== ';'
    if (!inStatement) {
      parts.push({ text: script.slice(start, position), kind: 'sql' })
      start = position
    }
  }
  if (start < script.length) parts.push({ text: script.slice(start), kind: 'rest' })
  return parts
}

/** The tokens of one statement, comments and blanks left out. */
export function tokens(statement: string): readonly Token[] {
  const found: Token[] = []
  let position = 0
  while (position < statement.length) {
    const skipped = match(space, statement, position)
    if (skipped !== null) {
      position += skipped.length
      continue
    }
    const token = next(statement, position)
    found.push(token)
    position = token.end
  }
  return found
}

/** True when the statement begins with these key words. */
export function beginsWith(found: readonly Token[], ...words: readonly string[]): boolean {
  return words.every((word, index) => found[index]?.kind === 'identifier' && found[index].value === word.toLowerCase())
}

/** The name that a token stands for, if it is one. */
export function nameOf(token: Token | undefined): string | null {
  return token !== undefined && (token.kind === 'identifier' || token.kind === 'quoted') ? token.value : null
}

function next(text: string, start: number): Token {
  for (const [kind, pattern] of patterns) {
    const found = match(pattern, text, start)
    if (found !== null) return { kind, value: meaning(kind, found), start, end: start + found.length }
  }
  return { kind: 'symbol', value: '', start, end: start + 1 }
}

function meaning(kind: Token['kind'], text: string): string {
  if (kind === 'identifier') return text.toLowerCase()
  if (kind === 'quoted') return text.slice(1, -1).replaceAll('""', '"')
  if (kind === 'string' && text.startsWith("'")) return text.slice(1, -1).replaceAll("''", "'")
  // PostgreSQL's programs write E'' for the sake of backslashes alone, and escape nothing else.
  if (kind === 'string' && /^e/i.test(text)) return text.slice(2, -1).replace(/''|\\(.)/gs, (_, after) => after ?? "'")
  return text
}

function match(pattern: RegExp, text: string, position: number): string | null {
  pattern.lastIndex = position
  return pattern.exec(text)?.[0] ?? null
}
