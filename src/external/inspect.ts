import { LifeboatError } from '../domain/errors.ts'
import {
  compressionOf,
  type DumpCompression,
  foreignFormatOf,
  formatOf,
  headBytes,
  type Inspection,
  type InspectionState,
  isPlainComplete,
  isTarComplete,
  notInspected,
  plainHeader,
  tailBytes,
} from '../domain/external.ts'
import { type Installation, programPath } from '../postgres/installations.ts'
import type { ProgramExit, ProgramOptions } from '../postgres/programs.ts'
import { checkMembers } from './check-members.ts'
import { decompressor, streamFault } from './decompress.ts'
import { type FileEnds, openDump } from './open-dump.ts'
import { readContents } from './read-contents.ts'
import { runChain, wasCutByReader } from './stages.ts'

export interface InspectOptions {
  /** For the formats that only pg_restore reads; the newest one is taken. */
  readonly installations: readonly Installation[]
  readonly signal: AbortSignal
}

type Finding = Partial<Inspection> & { readonly state: InspectionState }

/**
 * Reads a dump that another tool wrote to its end and says whether it is whole. It decides by what is in the file, never by
 * its name. A compressed stream is decompressed to its end with all of its checksums; a plain dump must have its closing
 * line, and of the other formats every member must be readable: their tables of contents alone prove nothing.
 *
 * @param path absolute
 * @throws the signal's reason; every other failure is a state of the file, or `unchecked`
 */
export async function inspectDump(path: string, options: InspectOptions): Promise<Inspection> {
  try {
    return { ...notInspected(''), detail: null, ...(await inspect(path, options)) }
  } catch (error) {
    options.signal.throwIfAborted()
    const words =
      error instanceof LifeboatError && error.hint
        ? `${error.message}; ${error.hint}`
        : String((error as Error).message)
    return notInspected(words)
  }
}

async function inspect(path: string, options: InspectOptions): Promise<Finding> {
  const opened = await openDump(path)
  if (opened.kind === 'other') return { state: 'wrong-format', detail: `it is ${opened.what}` }
  if (opened.kind === 'directory') {
    const about = { format: 'directory', compression: 'none', bytes: opened.bytes } as const
    if (!opened.members.some(({ name }) => name === 'toc.dat')) {
      return {
        ...about,
        format: null,
        state: 'truncated',
        detail: 'the directory has no toc.dat, which pg_dump writes last',
      }
    }
    const fault = await checkMembers(path, opened.members, options.signal)
    return { ...about, ...(fault ?? (await readArchive([], [path], options))) }
  }
  if (opened.bytes === 0) return { state: 'empty', detail: 'it has no bytes' }
  const compression = compressionOf(opened.head)
  const finding =
    compression === 'none' ? await inspectFile(path, opened, options) : await inspectStream(path, compression, options)
  return { bytes: opened.bytes, compression, ...finding }
}

async function inspectFile(path: string, { bytes, head, tail }: FileEnds, options: InspectOptions): Promise<Finding> {
  const format = formatOf(head)
  if (format === null) return notADump(head)
  if (format === 'plain') return plainFinding(head, tail)
  if (format === 'tar' && !(bytes % 512 === 0 && isTarComplete(tail))) return { format, ...noTarEnd }
  return { format, ...(await readArchive([], [path], options)) }
}

/** Two readings of what can be long: one for its beginning, which ends at once, and one of all of it. */
async function inspectStream(
  path: string,
  compression: Exclude<DumpCompression, 'none'>,
  options: InspectOptions,
): Promise<Finding> {
  const decompress = decompressor(compression, path)
  const { output: head } = await runChain(
    [decompress, { program: 'head', args: ['-c', String(headBytes)] }],
    options.signal,
  )
  const format = formatOf(head)
  if (format === 'custom') return { format, ...(await readArchive([decompress], [], options)) }
  const { output: tail, exits } = await runChain(
    [decompress, { program: 'tail', args: ['-c', String(tailBytes)] }],
    options.signal,
  )
  const broken = streamFault(compression, exits[0]) ?? streamFault('tail', exits[1])
  if (broken !== null) return { format, ...broken }
  if (tail.length === 0) return { state: 'empty', detail: `nothing is inside of the ${compression} stream` }
  if (format === null) return notADump(head)
  if (format === 'plain') return plainFinding(head, tail)
  if (!isTarComplete(tail)) return { format, ...noTarEnd }
  return { format, ...(await readArchive([decompress], [], options)) }
}

const noTarEnd = { state: 'truncated', detail: 'the tar has no end marker: it was cut off' } as const

function plainFinding(head: Buffer, tail: Buffer): Finding {
  const about = { format: 'plain' as const, ...plainHeader(head) }
  if (isPlainComplete(tail, about.isWholeCluster)) return { ...about, state: 'sound' }
  return {
    ...about,
    state: 'truncated',
    detail: 'the closing line of pg_dump is not there: it was cut off, or pg_dump failed',
  }
}

function notADump(head: Buffer): Finding {
  const foreign = foreignFormatOf(head)
  if (foreign !== null) return { state: 'unchecked', detail: `it is ${foreign}, which Lifeboat does not look into` }
  const isBlank = head.every((byte) => byte === 0)
  return {
    state: 'wrong-format',
    detail: isBlank
      ? 'it begins with zeros: its blocks were never written'
      : 'it is none of plain, custom, tar and directory format of pg_dump',
  }
}

/** Has pg_restore read every member to its end. `before` decompresses into it; else `args` names the file. */
async function readArchive(
  before: readonly ProgramOptions[],
  args: readonly string[],
  { installations, signal }: InspectOptions,
): Promise<Finding> {
  const [newest] = installations.toSorted((a, b) => b.major - a.major)
  if (newest === undefined) {
    return { state: 'unchecked', detail: 'only pg_restore can read this format: install the PostgreSQL client package' }
  }
  const restore = { program: programPath(newest, 'pg_restore'), args: ['--file=/dev/null', ...args] }
  const { exits } = await runChain([...before, restore], signal)
  const last = exits.at(-1)
  const stream = before.length === 0 ? undefined : exits[0]
  const broken = stream === undefined || wasCutByReader(stream) ? null : streamFault('stream', stream)
  if (broken !== null) return broken
  if (last !== undefined && last.code !== 0) return archiveFault(last)
  return { state: 'sound', ...(await readContents(newest, before, args, signal)) }
}

function archiveFault(exit: ProgramExit): Finding {
  if (exit.signal !== null) return { state: 'unchecked', detail: `pg_restore was ended by ${exit.signal}` }
  const said = exit.stderr.split('\n').find((line) => /error:|fatal:/i.test(line)) ?? exit.stderr
  const detail = said.trim().slice(0, 500)
  // A newer pg_dump has written it: it may be sound, and this pg_restore cannot tell.
  if (/unsupported version/.test(said))
    return { state: 'unchecked', detail: `${detail}; install a newer PostgreSQL client` }
  if (/No space left|out of memory|Permission denied/.test(said)) return { state: 'unchecked', detail }
  const isCutOff =
    /end of file|could not read from input|could not close data file|did not find|No such file or directory/.test(said)
  return { state: isCutOff ? 'truncated' : 'corrupt', detail }
}
