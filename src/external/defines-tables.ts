import type { Inspection } from '../domain/external.ts'
import { type Installation, programPath } from '../postgres/installations.ts'
import { decompressor } from './decompress.ts'
import { runChain } from './stages.ts'

/** As pg_dump writes it, at the beginning of a line. In a function's body or a row it may stand too. */
const statement = '^CREATE (UNLOGGED |FOREIGN )?TABLE '

/**
 * Whether a sound dump holds a table, by its own words: the way to tell a restore that gave none from a dump of an empty
 * database. Reads until it meets the first one.
 *
 * @throws LifeboatError `program-missing`; the signal's reason
 */
export async function definesTables(
  path: string,
  { format, compression }: Inspection,
  clients: Installation,
  signal: AbortSignal,
): Promise<boolean> {
  const before = compression === 'gzip' || compression === 'zstd' ? [decompressor(compression, path)] : []
  const named = before.length === 0 ? [path] : []
  const script = { program: programPath(clients, 'pg_restore'), args: ['--schema-only', '--file=-', ...named] }
  const text =
    format !== 'plain' ? [...before, script] : before.length > 0 ? before : [{ program: 'cat', args: ['--', path] }]
  const grep = { program: 'grep', args: ['-a', '-E', '-m', '1', '-o', '-e', statement], env: { LC_ALL: 'C' } }
  const { output } = await runChain([...text, grep], signal)
  return output.length > 0
}
