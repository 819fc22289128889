import { join } from 'node:path'
import { isTableDataComplete } from '../domain/external.ts'
import { type StreamFault, streamFault } from './decompress.ts'
import { type Member, readTail } from './open-dump.ts'
import { runChain } from './stages.ts'

/** Few enough names for one command line. */
const atOnce = 500

/**
 * Looks at the files of a dump in directory format for what pg_restore (tried: 15 and 17) takes for the end of the rows:
 * a file without bytes, one without compression that was cut off, and a zstd or lz4 stream that was. gzip's it sees.
 *
 * Large objects without compression (`blob_<oid>.dat`) have nothing at their end that could be looked for.
 *
 * @returns null when nothing was found
 * @throws LifeboatError `program-missing` when there is no zstd or lz4 to test its streams with
 */
export async function checkMembers(
  directory: string,
  members: readonly Member[],
  signal: AbortSignal,
): Promise<StreamFault | null> {
  for (const { name, bytes } of members) {
    const isTable = /^\d+\.dat(?:\.|$)/.test(name)
    if (bytes === 0 && (isTable || /\.(?:gz|zst|lz4)$/.test(name))) {
      return { state: 'truncated', detail: `${name} has no bytes` }
    }
    if (!/^\d+\.dat$/.test(name)) continue
    signal.throwIfAborted()
    if (!isTableDataComplete(await readTail(join(directory, name), 16))) {
      return { state: 'truncated', detail: `${name} does not end as the data of a table do` }
    }
  }
  return (
    (await testStreams({ program: 'zstd', args: ['--test', '--quiet'] }, '.zst', directory, members, signal)) ??
    (await testStreams({ program: 'lz4', args: ['--test', '--quiet', '-m'] }, '.lz4', directory, members, signal))
  )
}

async function testStreams(
  { program, args }: { readonly program: string; readonly args: readonly string[] },
  ending: string,
  directory: string,
  members: readonly Member[],
  signal: AbortSignal,
): Promise<StreamFault | null> {
  const paths = members.filter(({ name }) => name.endsWith(ending)).map(({ name }) => join(directory, name))
  for (let from = 0; from < paths.length; from += atOnce) {
    const { exits } = await runChain([{ program, args: [...args, '--', ...paths.slice(from, from + atOnce)] }], signal)
    const fault = streamFault(program, exits[0])
    if (fault !== null) return fault
  }
  return null
}
