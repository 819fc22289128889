import { LifeboatError } from '../domain/errors.ts'
import { type BackupJob, backupJobs } from '../runner/job.ts'
import { shipMeanwhile } from '../ship-meanwhile.ts'
import {
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
import { failedItemsText } from './failed-items.ts'
import { formatBytes, formatSeconds, oneLine, printable } from './format.ts'
import { runJob } from './run-job.ts'
import { refuseUnknownDatabase } from './slips.ts'

export const backupCommand: Command = {
  name: 'backup',
  summary: 'back up every database, or one, or the whole cluster, into every repository',
  usage: 'backup [--type TYPE] [--database NAME] [--json]',
  options: [
    ['-t, --type TYPE', `${backupJobs.join(', ')}; default dump`],
    ['-d, --database NAME', 'dump this database only'],
    configHelp,
    verboseHelp,
    jsonHelp,
  ],
  async run(argv, context) {
    const { values } = parse('backup', argv, {
      ...configOption,
      ...jsonOption,
      ...verboseOption,
      database: { type: 'string', short: 'd' },
      type: { type: 'string', short: 't' },
    })
    const { database } = values
    const job = jobOf(values.type, database)
    const config = await configOf(values, context)
    const { maintenanceDatabase } = config.postgres
    return runJob(
      {
        config,
        verbose: values.verbose === true,
        job,
        // Nothing else may ship the WAL that the backup waits for.
        ...(job === 'dump'
          ? {}
          : { meanwhile: (core, log) => shipMeanwhile(config, core, { clock: context.clock, log }) }),
        params: job === 'dump' ? { database: database ?? null } : {},
        refuse: async () => {
          if (database === undefined) return
          await refuseUnknownDatabase(config.postgres, { maintenanceDatabase, name: database, signal: context.signal })
        },
        report: async (run, core) => {
          if (values.json) {
            context.out.write(`${JSON.stringify(run, null, 2)}\n`)
            return
          }
          for (const item of run.items) {
            const name = item.database === '' ? item.backupType : printable(item.database)
            if (item.outcome === 'failed') continue
            const repository = core.repositories.find((one) => one.repository.name === item.repository)?.repository
            const manifest = await repository?.readManifest(item.backupId ?? '')
            const bytes = manifest?.artifacts.reduce((sum, { stored }) => sum + stored.bytes, 0) ?? 0
            context.out.write(
              `${name}  ${item.backupId}  ${formatBytes(bytes)} in ${item.repository}, ${formatSeconds(manifest?.durationSeconds ?? 0)}\n`,
            )
            for (const warning of manifest?.warnings ?? []) context.err.write(`  warning: ${oneLine(warning)}\n`)
          }
          context.err.write(failedItemsText(run.items))
          if (run.items.length === 0 && run.failure !== null) context.err.write(errorText(run.failure))
        },
      },
      context,
    )
  },
}

function jobOf(type: string | undefined, database: string | undefined): BackupJob {
  const job = backupJobs.find((one) => one === (type ?? 'dump'))
  if (job === undefined) {
    throw new LifeboatError('usage-invalid', `there is no type of backup ${JSON.stringify(type)}`, {
      hint: `say one of ${backupJobs.join(', ')}`,
    })
  }
  if (job !== 'dump' && database !== undefined) {
    throw new LifeboatError('usage-invalid', `a ${job} backup is of the whole cluster, not of one database`, {
      hint: 'leave --database out',
    })
  }
  return job
}
