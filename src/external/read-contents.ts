import { type Inspection, plainHeader } from '../domain/external.ts'
import { type Installation, programPath } from '../postgres/installations.ts'
import type { ProgramOptions } from '../postgres/programs.ts'
import { runChain } from './stages.ts'

/**
 * What an archive says about itself at the top of the script that pg_restore makes of it; what it does not say is null.
 *
 * @param before decompresses it into pg_restore; empty where `args` name the file
 */
export async function readContents(
  installation: Installation,
  before: readonly ProgramOptions[],
  args: readonly string[],
  signal: AbortSignal,
): Promise<Pick<Inspection, 'serverVersion' | 'dumpVersion' | 'encoding'>> {
  const script = { program: programPath(installation, 'pg_restore'), args: ['--schema-only', '--file=-', ...args] }
  const { output } = await runChain([...before, script, { program: 'head', args: ['-c', '4096'] }], signal)
  const { serverVersion, dumpVersion, encoding } = plainHeader(output)
  return { serverVersion, dumpVersion, encoding }
}
