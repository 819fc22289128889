import { LifeboatError } from '../domain/errors.ts'

/** What keeps one segment of a key from being a file's name, or null if nothing does. */
function segmentProblem(segment: string): string | null {
  if (segment === '') return 'an empty segment'
  if (segment === '.' || segment === '..') return `a "${segment}" segment`
  if (segment.includes('\0')) return 'a NUL'
  if (segment.includes('\\')) return 'a backslash'
  // Written as UTF-8 an unpaired surrogate becomes U+FFFD: two different keys would be one file.
  if (!segment.isWellFormed()) return 'an unpaired surrogate'
  return null
}

function refuse(what: string, text: string, problem: string): never {
  throw new LifeboatError('usage-invalid', `${what} ${JSON.stringify(text)} must not hold ${problem}`)
}

/** True if a file of this name can be part of a key. A listing leaves out what no key could name. */
export function isSegment(name: string): boolean {
  return !name.includes('/') && segmentProblem(name) === null
}

/**
 * Returns the key, or fails with `usage-invalid` if it is empty, absolute, or holds an empty segment, a `.` or `..`
 * segment, a NUL, a backslash or an unpaired surrogate.
 */
export function checkKey(key: string): string {
  for (const segment of key.split('/')) {
    const problem = segmentProblem(segment)
    if (problem !== null) refuse('key', key, problem)
  }
  return key
}

/**
 * Splits a prefix after its last slash: `a/b/c` is the names beginning with `c` in the folder `a/b/`. The folder obeys
 * the rules of a key; what follows it is only ever compared, so that it may be any text that a name can begin with.
 */
export function splitPrefix(prefix: string): { readonly folder: string; readonly rest: string } {
  const cut = prefix.lastIndexOf('/') + 1
  const rest = prefix.slice(cut)
  const problem = segmentProblem(`${rest}x`)
  if (problem !== null) refuse('prefix', prefix, problem)
  if (cut > 0) checkKey(prefix.slice(0, cut - 1))
  return { folder: prefix.slice(0, cut), rest }
}

/**
 * Orders two keys by their UTF-8 bytes, as S3 does. JavaScript's own order of strings is that of UTF-16, which puts
 * what lies beyond U+FFFF before U+E000.
 */
export function compareKeys(a: string, b: string): number {
  const common = Math.min(a.length, b.length)
  for (let index = 0; index < common; index++) {
    const left = a.charCodeAt(index)
    const right = b.charCodeAt(index)
    if (left !== right) return utf8Rank(left) - utf8Rank(right)
  }
  return a.length - b.length
}

/** Moves surrogates behind the rest of the sixteen bits, where the four-byte sequences of UTF-8 are. */
function utf8Rank(unit: number): number {
  if (unit < 0xd800) return unit
  return unit < 0xe000 ? unit + 0x2000 : unit - 0x800
}
