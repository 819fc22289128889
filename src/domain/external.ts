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
  /** A plain dump (`pg_dump --create`, pg_dumpall) that makes its database and connects to it. */
  readonly createsDatabase: boolean
  /** What its text is in, by PostgreSQL's name: as a rule that of the database. Null where it does not say. */
  readonly encoding: string | null
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
    createsDatabase: false,
    encoding: null,
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
  if (foreignFormatOf(head) !== null) return null // the title may be readable behind its magic
  return plainTitle.test(Buffer.from(head.subarray(0, 4096)).toString('latin1')) ? 'plain' : null
}

const beginsWith = (text: string) => new RegExp(`^${Buffer.from(text).toString('hex')}`)

/** What other tools make of a dump and Lifeboat cannot look into, by its first bytes in hexadecimal digits. */
const foreign: readonly (readonly [name: string, magic: RegExp])[] = [
  ['xz', /^fd377a585a/],
  ['bzip2', /^425a683/],
  ['lz4', /^04224d18/],
  ['zip', /^504b0304/],
  ['7z', /^377abcaf271c/],
  ['encrypted by age', beginsWith('age-encryption.org/')],
  ['encrypted by age', beginsWith('-----BEGIN AGE ENCRYPTED FILE-----')],
  ['encrypted by openssl', beginsWith('Salted__')],
  ['encrypted by gpg', beginsWith('-----BEGIN PGP MESSAGE-----')],
  // A packet with the session key, for a public key (version 3) or a password (version 4). Source: RFC 9580, 4.2 and 5.
  ['encrypted by gpg', /^(?:850[0-8]..03|84..03|8c[0-2].040[789a])/],
  // Of a dump in directory format, or of a data directory (pg_basebackup).
  ['a tar that pg_dump did not write', /^.{514}7573746172/],
]

/** Which of them it is, in words; null: none. It may hold a sound dump. */
export function foreignFormatOf(head: Uint8Array): string | null {
  const digits = Buffer.from(head.subarray(0, 512)).toString('hex')
  return foreign.find(([, magic]) => magic.test(digits))?.[0] ?? null
}

type PlainHeader = Pick<Inspection, 'serverVersion' | 'dumpVersion' | 'isWholeCluster' | 'createsDatabase' | 'encoding'>

/** What the first lines of a plain dump say, or those of the script that pg_restore makes of an archive. */
export function plainHeader(head: Uint8Array): PlainHeader {
  const text = Buffer.from(head).toString('utf8')
  const line = (pattern: RegExp) => pattern.exec(text)?.[1]?.trim() ?? null
  const isWholeCluster = /^-- PostgreSQL database cluster dump\r?$/m.test(text.slice(0, 4096))
  return {
    serverVersion: line(/^-- Dumped from database version (.{1,200})$/m),
    dumpVersion: line(/^-- Dumped by pg_dump version (.{1,200})$/m),
    isWholeCluster,
    createsDatabase: isWholeCluster || /^-- Name: .*; Type: DATABASE; Schema: -;/m.test(text),
    encoding: line(/^SET client_encoding = '(\w{1,40})';\r?$/m),
  }
}

/**
 * Whether the data of a table in a directory dump without compression was written to its end. pg_restore takes the end of
 * the file for the end of the rows, so that one that was cut off restores without an error, and without the rest.
 *
 * @param tail its last bytes: COPY ends with `\\.`, statements with a semicolon; an empty table may have neither
 */
export function isTableDataComplete(tail: Uint8Array): boolean {
  return /(?:(?:^|\n)\\\.|;)\r?\n\r?\n|^[\r\n]{2,}$/.test(Buffer.from(tail.subarray(-16)).toString('latin1'))
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
