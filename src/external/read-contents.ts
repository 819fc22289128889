import type { Inspection } from '../domain/external.ts'
import { type Installation, programPath } from '../postgres/installations.ts'
import type { ProgramOptions } from '../postgres/programs.ts'
import { runChain } from './stages.ts'

/**
 * What an archive says about itself in the head of its table of contents; what it does not say is null.
 *
 * @param before decompresses it into pg_restore; empty where `args` name the file
 */
export async function readContents(
  installation: Installation,
  before: readonly ProgramOptions[],
  args: readonly string[],
  signal: AbortSignal,
): Promise<Pick<Inspection, 'serverVersion' | 'dumpVersion'>> {
  const list = { program: programPath(installation, 'pg_restore'), args: ['--list', ...args] }
  const { output } = await runChain([...before, list, { program: 'head', args: ['-c', '4096'] }], signal)
  const text = output.toString('utf8')
  const line = (pattern: RegExp) => pattern.exec(text)?.[1]?.trim() ?? null
  return {
    serverVersion: line(/^; +Dumped from database version: (.{1,200})$/m),
    dumpVersion: line(/^; +Dumped by pg_dump version: (.{1,200})$/m),
  }
}
