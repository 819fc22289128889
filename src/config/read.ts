import { readFile, stat } from 'node:fs/promises'
import { isAlias, isMap, isNode, isSeq, LineCounter, type Node, parseDocument, visit, type YAMLError } from 'yaml'
import type { KeyPath } from './problems.ts'

/** A text of YAML, read. `tree` is undefined when it could not be. */
export interface ReadYaml {
  readonly tree: unknown
  readonly errors: readonly { readonly message: string; readonly line: number }[]
  /** Line of a key, or of the innermost key around it that is there. */
  lineOf(path: KeyPath): number | undefined
}

const maxBytes = 1 << 20

const aliases = 'aliases (*…) are not supported: put a text that begins with * in quotes'
const quotes = 'it is not valid YAML: put a text with a colon or another special character in quotes'

/**
 * What is wrong, by the parser's code. Its own messages are not used: they repeat parts of the text, which may be a
 * password.
 */
const messages: Readonly<Partial<Record<YAMLError['code'], string>>> = {
  BAD_ALIAS: aliases,
  BAD_SCALAR_START: quotes,
  BLOCK_AS_IMPLICIT_KEY: quotes,
  MULTILINE_IMPLICIT_KEY: quotes,
  UNEXPECTED_TOKEN: quotes,
  DUPLICATE_KEY: 'the same key stands twice in one section',
  TAB_AS_INDENT: 'a tab is used for indentation: use spaces',
  MULTIPLE_DOCS: 'a second document begins here: use one',
  TAG_RESOLVE_FAILED: 'tags (!…) are not supported',
  NON_STRING_KEY: 'a key must be plain text',
  BAD_INDENT: 'the indentation is wrong, or a bracket before it is not closed',
  MISSING_CHAR: 'a bracket, a brace, a quote or a comma is missing',
  BAD_DQ_ESCAPE: 'a backslash in double quotes begins no escape: use single quotes',
  RESOURCE_EXHAUSTION: 'it is nested too deeply',
}

/** Parses YAML 1.2. Aliases and tags are refused: no configuration needs them, and a few lines of them can fill the memory. */
export function readYaml(text: string): ReadYaml {
  const lines = new LineCounter()
  const lineAt = (offset: number) => lines.linePos(offset).line
  if (Buffer.byteLength(text) > maxBytes) {
    return { tree: undefined, errors: [{ message: 'it is larger than 1 MiB', line: 1 }], lineOf: () => undefined }
  }
  // logLevel: warnings would otherwise go to the process as such, with parts of the text.
  const document = parseDocument(text, {
    lineCounter: lines,
    logLevel: 'error',
    prettyErrors: false,
    resolveKnownTags: false,
    stringKeys: true,
    version: '1.2',
  })
  const errors = [...document.errors, ...document.warnings].map((error) => ({
    message: messages[error.code] ?? 'it is not valid YAML',
    line: lineAt(error.pos[0]),
  }))
  if (errors.length === 0) {
    visit(document, {
      Alias: (_, alias) => {
        errors.push({ message: aliases, line: lineAt(alias.range?.[0] ?? 0) })
      },
    })
  }
  const usable = errors.length === 0
  return {
    tree: usable ? document.toJS() : undefined,
    // One slip makes the parser stumble many times on a line: the first says it.
    errors: errors.filter(({ line }, index) => errors.findIndex((other) => other.line === line) === index).slice(0, 5),
    lineOf: (path) => {
      const offset = offsetOf(document.contents, path)
      return offset === undefined ? undefined : lineAt(offset)
    },
  }
}

function offsetOf(contents: unknown, path: KeyPath): number | undefined {
  let node: unknown = contents
  let offset: number | undefined
  for (const part of path) {
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => isNode(key) && !isAlias(key) && keyText(key) === part)
      if (pair === undefined) return offset
      offset = startOf(pair.key) ?? offset
      node = pair.value
    } else if (isSeq(node) && typeof part === 'number') {
      node = node.items[part]
      offset = startOf(node) ?? offset
    } else return offset
  }
  return offset
}

function keyText(key: Node): string {
  return 'value' in key ? String(key.value) : ''
}

function startOf(node: unknown): number | undefined {
  return isNode(node) ? node.range?.[0] : undefined
}

/** The text of a configuration file, or why it cannot be read, in words. */
export async function readConfigFile(path: string): Promise<{ text: string } | { message: string; hint?: string }> {
  try {
    // Looked at first: reading a pipe or a device might never end.
    const info = await stat(path)
    if (!info.isFile()) return { message: 'cannot be read: it is not a regular file' }
    if (info.size > maxBytes) return { message: 'cannot be read: it is larger than 1 MiB' }
    return { text: new TextDecoder('utf-8', { fatal: true }).decode(await readFile(path)) }
  } catch (error) {
    const message = whyUnreadable(error)
    const hint = message === noFile ? missingHint : message === denied ? deniedHint : undefined
    return { message: `cannot be read: ${message}`, ...(hint === undefined ? {} : { hint }) }
  }
}

const noFile = 'there is no such file'
const denied = 'permission denied'
const missingHint = 'Is the path right? `lifeboat init --output FILE` makes a configuration.'
const deniedHint = 'It must be readable for the OS user that runs this, and its directory too: chown or chmod it.'

/** The reason of a failed read, in words, from the error's code. */
export function whyUnreadable(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  if (code === 'ENOENT' || code === 'ENOTDIR') return noFile
  if (code === 'EACCES' || code === 'EPERM') return denied
  if (code === 'ERR_ENCODING_INVALID_ENCODED_DATA') return 'it is not UTF-8'
  return code === '' ? 'unknown reason' : code
}
