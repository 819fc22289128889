import { parseTargetMoment } from '../config/target-moment.ts'
import type { Core } from '../core.ts'
import { isExternalId } from '../domain/backup.ts'
import { LifeboatError } from '../domain/errors.ts'
import { type Proof, type RestoredCluster, verificationLevels } from '../domain/proof.ts'
import { targetTime } from '../domain/recovery-plan.ts'
import type { RunItem } from '../runner/job.ts'
import {
  type CliContext,
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
import { formatBytes, formatSeconds, oneLine, printable } from './format.ts'
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
  at: { type: 'string' },
  latest: { type: 'boolean' },
} as const

export const verifyCommand: Command = {
  name: 'verify',
  summary: 'prove a backup by restoring it into a throw-away server',
  usage:
    'verify [BACKUP-ID] [--database NAME] [--repository NAME] [--level LEVEL] [--at MOMENT | --latest] [--rehash] [--json]',
  options: [
    ['BACKUP-ID', 'this backup (default: in every repository the newest of every database, full and incremental)'],
    ['-d, --database NAME', 'the newest backup of this database'],
    ['-r, --repository NAME', 'in this repository only'],
    ['-l, --level LEVEL', 'artifact, restore or data (default: verification.level)'],
    ['--at MOMENT', 'of a physical backup: replay the WAL to this moment, which comes after it; as in `lifeboat plan`'],
    ['--latest', 'of a physical backup: replay all the WAL that is stored'],
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
    const at = momentOf(values, context)
    if (at !== null && values.database !== undefined)
      throw new LifeboatError('usage-invalid', 'a moment and --database exclude each other', {
        hint: 'a physical backup holds all databases',
      })
    const config = await configOf(values, context)
    const params = {
      backup: backup ?? null,
      repository: values.repository ?? null,
      database: values.database ?? null,
      level: oneOf('--level', values.level, verificationLevels) ?? config.verification.level,
      rehash: values.rehash === true,
      ...(at === null ? {} : { at }),
    }
    return runJob(
      {
        config,
        verbose: values.verbose === true,
        job: 'verify',
        params,
        refuse: (core) => findBackup(core, params, { ...context, patienceMs: 1000 * config.observe.timeoutSeconds }),
        report: async (run, core) => {
          const proofs: Proof[] = []
          for (const item of run.items) {
            const proof = item.verdict === undefined ? null : await proofOf(core, item)
            if (proof) proofs.push(proof)
            if (values.json) continue
            context.out.write(
              `${item.backupId} (${item.database === '' ? item.backupType : printable(item.database)}) in ${item.repository}: ${item.verdict ?? 'not verified'}\n`,
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

/** What the job understands: a moment in UTC, `latest`, or null. */
function momentOf(
  { at, latest }: { readonly at?: string; readonly latest?: boolean },
  { clock, err }: Pick<CliContext, 'clock' | 'err'>,
): string | null {
  if (at === undefined) return latest === true ? 'latest' : null
  if (latest === true) throw new LifeboatError('usage-invalid', '--at and --latest exclude each other')
  const { note, ...moment } = parseTargetMoment(at, clock.now())
  if (note !== null) err.write(`--at ${at}: ${note}\n`)
  return targetTime(moment)
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

/** One line for each check, deepest level last, then how far a replay went, and the time that each phase took. */
function proofText({ levels, phases, restored }: Proof): string {
  const checks = Object.entries(levels).flatMap(([level, result]) =>
    result.checks.map(
      ({ name, verdict, detail }) =>
        `  ${verdict.padEnd(12)} ${level.padEnd(8)} ${name}${detail ? `: ${oneLine(detail)}` : ''}\n`,
    ),
  )
  const times = Object.entries(phases).map(([phase, seconds]) => `${phase} ${formatSeconds(seconds)}`)
  const replayed = restored === undefined ? '' : `  ${replayedText(restored)}\n`
  return `${checks.join('')}${replayed}  ${times.join(', ')}\n`
}

function replayedText({ bytes, seconds, target, timeline, lsn, lastCommitAt }: RestoredCluster): string {
  const wanted = target === null ? "the backup's end" : target === 'latest' ? 'the end of the WAL' : target
  const commit = lastCommitAt === null ? '' : `, last commit ${lastCommitAt}`
  return `replayed to ${wanted}: ${lsn} on timeline ${timeline}${commit}; ${formatBytes(bytes)} in ${formatSeconds(seconds)}`
}
