import type { ValidatedConfig } from '../config/validated.ts'
import { chooseClient, findInstallations } from '../postgres/installations.ts'
import { runProgram } from '../postgres/programs.ts'
import { type Finding, looked, ok, problem, warning } from './finding.ts'
import { missingPrograms } from './programs.ts'

/**
 * The programs of a physical backup, and those that check and unpack one: these must be of the server's own major version.
 *
 * @param major of the server; null: it is not known
 */
export async function checkPhysicalPrograms(
  config: ValidatedConfig,
  major: number | null,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const zstd = await looked('programs', async () => {
    const { stdout } = await runProgram({ program: 'zstd', args: ['--version'], signal })
    return [ok('programs', stdout.trim().replace(/^\*+ | \*+$|,.*$/g, ''))]
  })
  if (major === null) return zstd
  const rest = await looked('programs', async () => {
    const installations = await findInstallations(config.postgres.binDir)
    const client = chooseClient(installations, major)
    if ((await missingPrograms(client, ['pg_basebackup'])).length > 0)
      return [problem('programs', `${client.directory} has no pg_basebackup`, `install postgresql-client-${major}`)]
    const names = ['pg_verifybackup', 'pg_controldata', ...(major >= 17 ? ['pg_combinebackup'] : [])]
    const same = installations.filter((one) => one.major === major)
    const lacks = await Promise.all(same.map((one) => missingPrograms(one, names)))
    if (lacks.some((missing) => missing.length === 0)) return []
    const missing = lacks.toSorted((a, b) => a.length - b.length)[0] ?? names
    const what = `PostgreSQL ${major} has no ${missing.join(', ')} here: a physical backup cannot be verified or restored on this machine`
    return [warning('programs', what, `install postgresql-${major}, or set postgres.binDir`)]
  })
  return [...zstd, ...rest]
}
