/** What a file that another tool wrote turns out to hold. */
export const dumpFormats = ['plain', 'custom', 'tar', 'directory'] as const
export type DumpFormat = (typeof dumpFormats)[number]

/** What is around the dump; pg_dump's own compression, inside of its formats, is not meant. */
export const dumpCompressions = ['none', 'gzip', 'zstd'] as const
export type DumpCompression = (typeof dumpCompressions)[number]

/**
 * What a whole reading of a file found. `unchecked`: this machine could not tell (a program is missing or too old); it says
 * nothing about the file. `unreadable`: it cannot even be opened, so nobody can say that there is a backup.
 */
export const inspectionStates = [
  'sound',
  'empty',
  'truncated',
  'wrong-format',
  'corrupt',
  'unchecked',
  'unreadable',
] as const
export type InspectionState = (typeof inspectionStates)[number]

export interface Inspection {
  readonly state: InspectionState
  /** What was found, in words; null for a sound file. */
  readonly detail: string | null
  /** Null where it could not be told. */
  readonly format: DumpFormat | null
  readonly compression: DumpCompression | null
  /** Of the file, or of all files of a directory. */
  readonly bytes: number
  /** As the dump says it, e.g. `15.18 (Debian 15.18-0+deb12u1)`; null where it does not. */
  readonly serverVersion: string | null
  /** Of the pg_dump that made it. */
  readonly dumpVersion: string | null
  /** Made by pg_dumpall: roles and every database. */
  readonly isWholeCluster: boolean
}

/** Nothing could be told of a file, because of what `detail` says. */
export function notInspected(detail: string, state: 'unchecked' | 'unreadable' = 'unchecked'): Inspection {
  return {
    state,
    detail,
    format: null,
    compression: null,
    bytes: 0,
    serverVersion: null,
    dumpVersion: null,
    isWholeCluster: false,
  }
}

/** First bytes that tell what a file is, whatever its name says: users gzip what pg_dump has compressed already. */
export const headBytes = 64 * 1024

/** Last bytes of a dump that are looked at: its closing line, and the marker at the end of a tar. */
export const tailBytes = 4 * 1024

/** The compression around a dump, by its first bytes. Sources: RFC 1952 (2.3.1), RFC 8878 (3.1.1). */
export function compressionOf(head: Uint8Array): DumpCompression {
  if (startsWith(head, [0x1f, 0x8b])) return 'gzip'
  if (startsWith(head, [0x28, 0xb5, 0x2f, 0xfd])) return 'zstd'
  return 'none'
}

/** The line at the top of every plain dump. Some tools write lines of their own before it. */
const plainTitle = /^-- PostgreSQL database (?:cluster )?dump\r?$/m

/** The format of a dump, by its first bytes without compression; null: it is none. */
export function formatOf(head: Uint8Array): Exclude<DumpFormat, 'directory'> | null {
  const text = Buffer.from(head.subarray(0, 1024)).toString('latin1')
  if (text.startsWith('PGDMP')) return 'custom'
  // pg_dump's tar begins with its table of contents.
  if (text.startsWith('toc.dat\0') && text.slice(257, 262) === 'ustar') return 'tar'
  return plainTitle.test(Buffer.from(head.subarray(0, 4096)).toString('latin1')) ? 'plain' : null
}

/** What the first lines of a plain dump say. */
export function plainHeader(head: Uint8Array): Pick<Inspection, 'serverVersion' | 'dumpVersion' | 'isWholeCluster'> {
  const text = Buffer.from(head).toString('utf8')
  const line = (pattern: RegExp) => pattern.exec(text)?.[1]?.trim() ?? null
  return {
    serverVersion: line(/^-- Dumped from database version (.{1,200})$/m),
    dumpVersion: line(/^-- Dumped by pg_dump version (.{1,200})$/m),
    isWholeCluster: /^-- PostgreSQL database cluster dump\r?$/m.test(text.slice(0, 4096)),
  }
}

/**
 * Whether a plain dump ends as pg_dump ends it: with its closing line, and after it only comments, white space and the
 * `\unrestrict` of newer versions. Without that line it was cut off, however sound the compression around it is.
 */
export function isPlainComplete(tail: Uint8Array, isWholeCluster: boolean): boolean {
  const text = Buffer.from(tail).toString('latin1')
  const closing = isWholeCluster
    ? '-- PostgreSQL database cluster dump complete'
    : '-- PostgreSQL database dump complete'
  const at = text.lastIndexOf(closing)
  // Every line of a dump ends with a newline; where the last one has none, something was cut off.
  if (at < 0 || (at > 0 && text[at - 1] !== '\n') || !text.endsWith('\n')) return false
  return text
    .slice(at + closing.length)
    .split(/\r?\n/)
    .every((line) => /^\s*(?:--.*|\\unrestrict \S+\s*)?$/.test(line))
}

/** A tar ends with two blocks of zeros; what is cut off at a member's end has none. Source: pax(1), ustar. */
export function isTarComplete(tail: Uint8Array): boolean {
  return tail.length >= 1024 && tail.subarray(-1024).every((byte) => byte === 0)
}

function startsWith(bytes: Uint8Array, magic: readonly number[]): boolean {
  return magic.every((byte, index) => bytes[index] === byte)
}
