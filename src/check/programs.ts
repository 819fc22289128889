import { access } from 'node:fs/promises'
import type { ValidatedConfig } from '../config/validated.ts'
import { scratchAccount } from '../jobs/scratch-account.ts'
import {
  chooseClient,
  chooseServer,
  findInstallations,
  type Installation,
  programPath,
} from '../postgres/installations.ts'
import { runProgram } from '../postgres/programs.ts'
import { type Finding, looked, ok, problem, warning } from './finding.ts'

/** Looks for every program that a dump and a verification start, in the versions that this server needs. */
export async function checkPrograms(config: ValidatedConfig, serverMajor: number | null): Promise<readonly Finding[]> {
  let installations: readonly Installation[] = []
  const found = await looked('programs', async () => {
    installations = await findInstallations(config.postgres.binDir)
    return []
  })
  if (found.length > 0) return [...(await looked('programs', checkTar)), ...found]
  return [
    ...(await looked('programs', checkTar)),
    ...(serverMajor === null ? describeAll(installations) : []),
    ...(serverMajor === null ? [] : await looked('programs', () => checkClient(installations, serverMajor))),
    ...(serverMajor === null
      ? []
      : await looked('programs', () => checkScratchServer(config, installations, serverMajor))),
  ]
}

async function checkTar(): Promise<readonly Finding[]> {
  const { stdout } = await runProgram({ program: 'tar', args: ['--version'] })
  const [first = ''] = stdout.split('\n')
  return first.includes('GNU tar')
    ? [ok('programs', first)]
    : [problem('programs', `tar is not GNU tar but ${first}`, 'install the package tar')]
}

function describeAll(installations: readonly Installation[]): readonly Finding[] {
  if (installations.length === 0)
    return [
      problem('programs', 'no PostgreSQL programs were found', 'install postgresql-client, or set postgres.binDir'),
    ]
  return installations.map(({ version, directory }) => ok('programs', `PostgreSQL ${version} in ${directory}`))
}

async function checkClient(installations: readonly Installation[], serverMajor: number): Promise<readonly Finding[]> {
  const client = chooseClient(installations, serverMajor)
  const missing = await missingPrograms(client, ['pg_dump', 'pg_dumpall', 'pg_restore', 'psql'])
  if (missing.length > 0)
    return [
      problem(
        'programs',
        `${client.directory} has no ${missing.join(', ')}`,
        `install postgresql-client-${client.major}`,
      ),
    ]
  return [ok('programs', `pg_dump ${client.version}`)]
}

async function checkScratchServer(
  config: ValidatedConfig,
  installations: readonly Installation[],
  serverMajor: number,
): Promise<readonly Finding[]> {
  const server = chooseServer(installations, serverMajor)
  const { osUser, isolation } = await scratchAccount(config, [config.workDir, server.directory])
  const missing = await missingPrograms(server, ['pg_amcheck'])
  return [
    ok(
      'programs',
      `a scratch server can be started: PostgreSQL ${server.version}${osUser === null ? '' : ` as OS user ${osUser.name}`}`,
    ),
    isolation.through === null
      ? warning(
          'programs',
          isolation.detail,
          'let it make namespaces (docs/security.md), since whoever owns tables in a dumped database has code run in it',
        )
      : ok('programs', isolation.detail),
    ...(missing.length === 0
      ? []
      : [
          warning(
            'programs',
            'pg_amcheck is not installed: indexes cannot be checked',
            `install postgresql-contrib for PostgreSQL ${serverMajor}`,
          ),
        ]),
  ]
}

export async function missingPrograms(
  installation: Installation,
  names: readonly string[],
): Promise<readonly string[]> {
  const found = await Promise.all(
    names.map((name) =>
      access(programPath(installation, name)).then(
        () => null,
        () => name,
      ),
    ),
  )
  return found.filter((name) => name !== null)
}
