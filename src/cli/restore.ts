import { readSecretFile } from '../config/secrets.ts'
import { LifeboatError } from '../domain/errors.ts'
import type { ConnectionSource } from '../postgres/connection.ts'
import {
  type CliContext,
  type Command,
  configHelp,
  configOf,
  configOption,
  jsonHelp,
  jsonOption,
  parse,
  verboseHelp,
  verboseOption,
} from './command.ts'
import { errorText } from './error-text.ts'
import { oneLine, printable } from './format.ts'
import { clusterHelp, clusterOptions, isOfCluster, runClusterRestore } from './restore-cluster.ts'
import { runJob } from './run-job.ts'
import { findBackup, refuseUnfitTarget } from './slips.ts'

const options = {
  ...configOption,
  ...jsonOption,
  ...verboseOption,
  database: { type: 'string', short: 'd' },
  repository: { type: 'string', short: 'r' },
  to: { type: 'string', short: 't' },
  replace: { type: 'boolean' },
  host: { type: 'string' },
  port: { type: 'string' },
  user: { type: 'string', short: 'U' },
  'password-file': { type: 'string' },
  'no-owner': { type: 'boolean' },
  'no-compare': { type: 'boolean' },
  'force-foreign': { type: 'boolean' },
  ...clusterOptions,
} as const

export const restoreCommand: Command = {
  name: 'restore',
  summary: 'restore a dump into a new database, or the whole cluster, as of any moment, into a new directory',
  usage: `restore [BACKUP-ID] [--database NAME] [--to NAME | --replace] [--repository NAME] [--json]
                or: lifeboat restore --to DIRECTORY [--at MOMENT | --lsn PLACE | --name NAME | --latest | --immediate] [OPTION]…

What is restored says --to: a path (with a slash) is the directory of a new cluster, anything else the name of a database. An
option that only one of the two has says it as well.`,
  options: [
    ['The whole cluster, from a physical backup and WAL:', ''],
    ...clusterHelp,
    ['One database, from a dump:', ''],
    ['BACKUP-ID', 'this backup (default: the newest of --database)'],
    ['-d, --database NAME', 'the database whose newest backup is restored'],
    ['-t, --to NAME', 'name of the new database (default: the original name, which must be free)'],
    ['--replace', 'restore beside the database, compare, swap the names, keep the old one under a dated name'],
    ['-r, --repository NAME', 'from this repository'],
    ['--host, --port, -U, --user, --password-file', 'another server or role than the configured one'],
    ['--no-owner', 'leave out owners and privileges, where the roles do not exist'],
    ['--no-compare', 'do not compare what was restored with the fingerprint'],
    ['--force-foreign', 'with --replace: also when the backup is of another cluster than the server'],
    configHelp,
    verboseHelp,
    jsonHelp,
  ],
  async run(argv, context) {
    const { values, positionals } = parse('restore', argv, options, 1)
    const [backup] = positionals
    if (isOfCluster(values, backup))
      return runClusterRestore(await configOf(values, context), values, { backup, context })
    if (backup === undefined && values.database === undefined)
      throw new LifeboatError('usage-invalid', 'which backup? give its id, or --database for the newest one', {
        hint: '`lifeboat list` shows them',
      })
    if (backup?.startsWith('external-')) throw notOurs(backup)
    if (backup !== undefined && values.database !== undefined)
      throw new LifeboatError('usage-invalid', 'a backup id and --database exclude each other', {
        hint: 'the name of the new database goes into --to',
      })
    if (values.replace && values['no-compare'])
      throw new LifeboatError(
        'usage-invalid',
        '--replace needs the comparison: a database is only replaced by one that was proven equal',
      )
    const config = await configOf(values, context)
    const restoreTarget = await targetOf(values, config.postgres)
    const params = {
      backup: backup ?? null,
      database: values.database ?? null,
      repository: values.repository ?? null,
      target: values.to ?? null,
      replace: values.replace === true,
      noOwner: values['no-owner'] === true,
      compare: values['no-compare'] !== true,
      foreign: values['force-foreign'] === true,
    }
    return runJob(
      {
        config,
        verbose: values.verbose === true,
        job: 'restore',
        params,
        restoreTarget,
        refuse: async (core) => {
          const manifest = await findBackup(core, params, {
            ...context,
            patienceMs: 1000 * config.observe.timeoutSeconds,
          })
          const name = params.target ?? manifest?.database?.name
          if (name === undefined) return
          const { maintenanceDatabase } = config.postgres
          const { replace } = params
          await refuseUnfitTarget(restoreTarget, { maintenanceDatabase, name, replace, signal: context.signal })
        },
        report: (run) => report(run, values.json === true, context),
      },
      context,
    )
  },
}

/** In the worst hour a dead end must say where the way goes on. */
function notOurs(id: string): LifeboatError {
  return new LifeboatError(
    'usage-invalid',
    `${id} is a file that another tool wrote: restore it with psql or pg_restore`,
    {
      hint: '`lifeboat list` shows its name; docs/restore.md#a-dump-of-another-tool has the commands',
    },
  )
}

function report(
  run: Parameters<Parameters<typeof runJob>[0]['report']>[0],
  json: boolean,
  { out, err }: CliContext,
): void {
  if (json) out.write(`${JSON.stringify(run, null, 2)}\n`)
  else if (run.failure !== null) err.write(errorText(run.failure))
  else
    for (const { backupId, database, warnings = [] } of run.items) {
      out.write(`restored ${backupId} of ${printable(database)}: ${oneLine(run.progress?.message ?? '')}\n`)
      for (const warning of warnings) err.write(`  warning: ${oneLine(warning)}\n`)
    }
}

async function targetOf(
  values: {
    host?: string | undefined
    port?: string | undefined
    user?: string | undefined
    'password-file'?: string | undefined
  },
  configured: ConnectionSource,
): Promise<ConnectionSource> {
  const port = values.port === undefined ? configured.port : Number(values.port)
  if (!Number.isInteger(port) || port < 1 || port > 65_535)
    throw new LifeboatError('usage-invalid', `--port cannot be ${JSON.stringify(values.port)}`)
  const file = values['password-file']
  if (file !== undefined) await readSecretFile(file) // complains now, not at the first connection
  // A password belongs to its role: another role without a file of its own has none.
  const own = values.user === undefined && values.host === undefined ? configured.password : null
  return {
    ...configured,
    host: values.host ?? configured.host,
    port,
    user: values.user ?? configured.user,
    password: file === undefined ? own : () => readSecretFile(file),
  }
}
