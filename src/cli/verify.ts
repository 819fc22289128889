import type { Core } from '../core.ts'
import { isExternalId } from '../domain/backup.ts'
import { LifeboatError } from '../domain/errors.ts'
import { type Proof, verificationLevels } from '../domain/proof.ts'
import type { RunItem } from '../runner/job.ts'
import {
  type Command,
  configHelp,
  configOf,
  configOption,
  jsonHelp,
  jsonOption,
  oneOf,
  parse,
  verboseHelp,
  verboseOption,
} from './command.ts'
import { errorText } from './error-text.ts'
import { formatSeconds, oneLine, printable } from './format.ts'
import { runJob } from './run-job.ts'
import { findBackup } from './slips.ts'

const options = {
  ...configOption,
  ...jsonOption,
  ...verboseOption,
  database: { type: 'string', short: 'd' },
  repository: { type: 'string', short: 'r' },
  level: { type: 'string', short: 'l' },
  rehash: { type: 'boolean' },
} as const

export const verifyCommand: Command = {
  name: 'verify',
  summary: 'prove a backup by restoring it into a throw-away server',
  usage: 'verify [BACKUP-ID] [--database NAME] [--repository NAME] [--level LEVEL] [--rehash] [--json]',
  options: [
    ['BACKUP-ID', 'this backup (default: the newest of every database, in every repository)'],
    ['-d, --database NAME', 'the newest backup of this database'],
    ['-r, --repository NAME', 'in this repository only'],
    ['-l, --level LEVEL', 'artifact, restore or data (default: verification.level)'],
    ['--rehash', 'read every byte again, also what was hashed and has not changed'],
    configHelp,
    verboseHelp,
    jsonHelp,
  ],
  async run(argv, context) {
    const { values, positionals } = parse('verify', argv, options, 1)
    const [backup] = positionals
    if (backup !== undefined && values.database !== undefined)
      throw new LifeboatError('usage-invalid', 'a backup id and --database exclude each other')
    const config = await configOf(values, context)
    const params = {
      backup: backup ?? null,
      repository: values.repository ?? null,
      database: values.database ?? null,
      level: oneOf('--level', values.level, verificationLevels) ?? config.verification.level,
      rehash: values.rehash === true,
    }
    return runJob(
      {
        config,
        verbose: values.verbose === true,
        job: 'verify',
        params,
        refuse: (core) => findBackup(core, params, context.signal),
        report: async (run, core) => {
          const proofs: Proof[] = []
          for (const item of run.items) {
            const proof = item.verdict === undefined ? null : await proofOf(core, item)
            if (proof) proofs.push(proof)
            if (values.json) continue
            context.out.write(
              `${item.backupId} (${printable(item.database)}) in ${item.repository}: ${item.verdict ?? 'not verified'}\n`,
            )
            if (proof) context.out.write(proofText(proof))
          }
          if (values.json) context.out.write(`${JSON.stringify({ ...run, proofs }, null, 2)}\n`)
          else if (run.failure !== null) context.err.write(errorText(run.failure))
        },
      },
      context,
    )
  },
}

/** Of a file of another tool it is in the state file. */
async function proofOf({ repositories, history }: Core, { backupId = '', repository }: RunItem): Promise<Proof | null> {
  if (isExternalId(backupId)) {
    const [newest] = history.external.externalProofs().get(backupId) ?? []
    return newest === undefined ? null : (JSON.parse(newest) as Proof)
  }
  const found = repositories.find((one) => one.repository.name === repository)?.repository
  return (await found?.latestProof(backupId)) ?? null
}

/** One line for each check, deepest level last, then the time that each phase took. */
function proofText({ levels, phases }: Proof): string {
  const checks = Object.entries(levels).flatMap(([level, result]) =>
    result.checks.map(
      ({ name, verdict, detail }) =>
        `  ${verdict.padEnd(12)} ${level.padEnd(8)} ${name}${detail ? `: ${oneLine(detail)}` : ''}\n`,
    ),
  )
  const times = Object.entries(phases).map(([phase, seconds]) => `${phase} ${formatSeconds(seconds)}`)
  return `${checks.join('')}  ${times.join(', ')}\n`
}
