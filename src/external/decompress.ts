import type { DumpCompression } from '../domain/external.ts'
import type { ProgramExit, ProgramOptions } from '../postgres/programs.ts'

/** The program that writes what is inside of a compressed file to its standard output. */
export function decompressor(compression: Exclude<DumpCompression, 'none'>, path: string): ProgramOptions {
  return compression === 'gzip'
    ? { program: 'gzip', args: ['--decompress', '--stdout', '--', path] }
    : { program: 'zstd', args: ['--decompress', '--stdout', '--quiet', '--no-progress', '--', path] }
}

/** What is wrong with the bytes of a stream. */
export interface StreamFault {
  readonly state: 'truncated' | 'corrupt' | 'unchecked'
  readonly detail: string
}

/** What is wrong with a compressed stream by how its decompressor ended; null: nothing. */
export function streamFault(name: string, exit: ProgramExit | undefined): StreamFault | null {
  if (exit === undefined || exit.code === 0) return null
  if (exit.signal !== null) return { state: 'unchecked', detail: `${name} was ended by ${exit.signal}` }
  const said = exit.stderr.split('\n').findLast((line) => line.trim() !== '') ?? `exit status ${exit.code}`
  const detail = said.trim().slice(0, 500)
  // Not the file's fault: `zstd --long` wants more memory for reading than anybody gives unasked.
  if (/too much memory|Window size larger|No space left|Permission denied|Input\/output error/.test(exit.stderr)) {
    return { state: 'unchecked', detail }
  }
  // gzip: "unexpected end of file"; zstd: "premature end", "unexpected end of file" or "Truncated"; lz4: "Unfinished stream".
  const isCutOff = /unexpected end|premature end|truncated|unfinished stream/i.test(exit.stderr)
  return { state: isCutOff ? 'truncated' : 'corrupt', detail }
}
