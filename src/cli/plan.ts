import type { Logger } from 'pino'
import { parseTargetMoment } from '../config/target-moment.ts'
import { isWatchOnly, type ValidatedConfig } from '../config/validated.ts'
import { makeRepositories, openHistoryIfThere } from '../core.ts'
import { errorCodes, LifeboatError, toFailure } from '../domain/errors.ts'
import { parseLsn } from '../domain/lsn.ts'
import type { RecoveryTarget } from '../domain/recovery-plan.ts'
import { shellWord } from '../domain/shell-word.ts'
import type { RecoveryQuestion } from '../observe/recovery.ts'
import { planFromRepositories } from '../observe/recovery-offline.ts'
import { type RecoveryReport, reportRecovery, reportTarget, type TargetReport } from '../observe/recovery-report.ts'
import { measuredRestores } from '../observe/recovery-view.ts'
import type { History } from '../runner/history.ts'
import {
  type CliContext,
  type Command,
  configHelp,
  configOf,
  configOption,
  jsonHelp,
  jsonOption,
  parse,
} from './command.ts'
import { errorText } from './error-text.ts'
import { oneLine } from './format.ts'
import { describeRecoveries, describeWindows } from './recovery-words.ts'

/** Options that name a moment, a place or a restore point; see `targetOf`. */
export const targetOptions = {
  at: { type: 'string' },
  lsn: { type: 'string' },
  name: { type: 'string' },
  latest: { type: 'boolean' },
  immediate: { type: 'boolean' },
} as const

export const targetHelp = [
  [
    '--at MOMENT',
    'e.g. 2026-11-26T03:10:00Z, "2026-11-26 03:10:00+01", "2026-11-26 03:10 Europe/Berlin", "2h ago"; without a zone it is UTC',
  ],
  ['--lsn PLACE', 'a place in the WAL, e.g. 0/3000148'],
  ['--name NAME', 'a restore point that pg_create_restore_point made'],
  ['--latest', 'all that there is'],
  ['--immediate', 'the end of a backup, and no WAL after it'],
] as const

const options = {
  ...configOption,
  ...jsonOption,
  ...targetOptions,
  timeline: { type: 'string' },
  backup: { type: 'string' },
  repository: { type: 'string', short: 'r' },
  'system-identifier': { type: 'string' },
} as const

export const planCommand: Command = {
  name: 'plan',
  summary: 'tell which moments can be restored, or how one would be: by the repositories alone',
  usage:
    'plan [--at MOMENT | --lsn PLACE | --name NAME | --latest | --immediate] [--timeline N] [--repository NAME] [--json]',
  options: [
    ...targetHelp,
    ['--timeline N', "on this timeline (default: the server's, or the newest of which there is WAL)"],
    ['--backup BACKUP-ID', 'from this backup on (default: the newest that will do)'],
    ['-r, --repository NAME', 'from this repository only'],
    ['--system-identifier ID', 'of this cluster, such as the one before an upgrade (default: the one that runs)'],
    configHelp,
    jsonHelp,
  ],
  async run(argv, context) {
    const { values } = parse('plan', argv, options)
    const target = targetOf(values, context.clock.now())
    const question = {
      target: target?.target ?? { kind: 'latest' as const },
      ...{
        timeline: timelineOf(values.timeline),
        repository: values.repository ?? null,
        backup: values.backup ?? null,
      },
      systemIdentifier: values['system-identifier'] ?? null,
    }
    const config = await configOf(values, context)
    if (isWatchOnly(config))
      throw new LifeboatError(
        'config-invalid',
        'no repository is configured: lifeboat only watches, and restores no moments',
        {
          hint: 'set repositories',
        },
      )
    const { answers, failures } = await ask(config, question, context)
    const reports = answers.map(reportRecovery)
    const told: TargetReport = reportTarget(question.target, target?.note ?? null)
    const asked = target === null ? null : told
    if (values.json)
      context.out.write(
        `${JSON.stringify({ at: context.clock.now().toISOString(), target: asked, repositories: reports, failures }, null, 2)}\n`,
      )
    else if (asked === null) context.out.write(describeWindows(reports))
    else context.out.write(`${describeRecoveries(asked, reports)}${nextStep(values, asked, reports)}`)
    if (!values.json) for (const { failure } of failures) context.err.write(errorText(failure))
    // The others may have it all the same.
    if (asked !== null && reports.some(({ recoverable }) => recoverable)) return 0
    const [first] = failures
    if (first !== undefined) return errorCodes[first.failure.code].exit
    return asked === null ? 0 : errorCodes[reports[0]?.refused?.code ?? 'not-recoverable'].exit
  },
}

/** The command that does it, for who pastes. A moment is written as it was understood: `2h ago` is another one later. */
function nextStep(values: QuestionValues, { kind, time }: TargetReport, reports: readonly RecoveryReport[]): string {
  const report = reports.find(({ recoverable }) => recoverable)
  if (report === undefined) return ''
  const named = (['lsn', 'name', 'timeline', 'backup', 'repository', 'system-identifier'] as const).flatMap(
    (option) => {
      const value = values[option]
      return value === undefined ? [] : [`--${option}`, value]
    },
  )
  const target = kind === 'time' ? ['--at', String(time)] : kind === 'lsn' || kind === 'name' ? [] : [`--${kind}`]
  // Who takes less than all that there is has to say so.
  const end = kind === 'latest' && report.missing.length > 0 ? ['--missing-is-end'] : []
  return `  next: lifeboat restore --to DIRECTORY ${[...target, ...named, ...end].map(shellWord).join(' ')}\n`
}

async function ask(
  config: ValidatedConfig,
  question: RecoveryQuestion,
  { clock, version, signal, makeLog, err }: CliContext,
) {
  const log = makeLog('silent', 'err')
  const history = historyIfReadable(config, { clock, log, err })
  try {
    const made = makeRepositories(config, { clock, version: version.version, ledger: history })
    const repositories = made.map(({ repository }) => repository)
    const restores = history === null ? [] : measuredRestores(history)
    return await planFromRepositories(
      {
        ...{ repositories, restores, clock, log, signal },
        records: history?.wal ?? null,
        patienceMs: 1000 * config.observe.timeoutSeconds,
      },
      question,
    )
  } finally {
    history?.close()
  }
}

/** After a disaster it may be damaged, or another user's: what is in it makes a plan better, and is not needed for one. */
function historyIfReadable(
  config: ValidatedConfig,
  { err, ...opening }: Pick<CliContext, 'clock' | 'err'> & { readonly log: Logger },
): History | null {
  try {
    return openHistoryIfThere(config, opening)
  } catch (error) {
    err.write(`warning: planned without what this host remembers: ${oneLine(toFailure(error).message)}\n`)
    return null
  }
}

interface QuestionValues extends TargetValues {
  readonly timeline?: string | undefined
  readonly backup?: string | undefined
  readonly repository?: string | undefined
  readonly 'system-identifier'?: string | undefined
}

interface TargetValues {
  readonly at?: string | undefined
  readonly lsn?: string | undefined
  readonly name?: string | undefined
  readonly latest?: boolean | undefined
  readonly immediate?: boolean | undefined
}

/**
 * What is asked for; null: nothing in particular.
 *
 * @throws LifeboatError `usage-invalid` for more than one, or what is no moment, place or name
 */
export function targetOf(
  { at, lsn, name, latest, immediate }: TargetValues,
  now: Date,
): { readonly target: RecoveryTarget; readonly note: string | null } | null {
  const given = [at, lsn, name, latest, immediate].filter((one) => one !== undefined && one !== false)
  if (given.length > 1)
    throw new LifeboatError('usage-invalid', '--at, --lsn, --name, --latest and --immediate exclude one another')
  if (at !== undefined) {
    const { note, ...moment } = parseTargetMoment(at, now)
    return { target: { kind: 'time', ...moment }, note }
  }
  if (lsn !== undefined) {
    const place = parseLsn(lsn)
    if (place !== null) return { target: { kind: 'lsn', lsn: place }, note: null }
    throw new LifeboatError('usage-invalid', `${JSON.stringify(lsn)} is no place in the WAL`, {
      hint: 'as PostgreSQL writes it, e.g. 0/3000148',
    })
  }
  if (name !== undefined) {
    // PostgreSQL takes no longer ones, and compares bytes.
    if (name !== '' && Buffer.byteLength(name) <= 63) return { target: { kind: 'name', name }, note: null }
    throw new LifeboatError('usage-invalid', 'the name of a restore point has from 1 to 63 bytes')
  }
  if (latest) return { target: { kind: 'latest' }, note: null }
  return immediate ? { target: { kind: 'immediate' }, note: null } : null
}

/** @throws LifeboatError `usage-invalid` */
export function timelineOf(text: string | undefined): number | null {
  if (text === undefined) return null
  const timeline = /^\d{1,10}$/.test(text) ? Number(text) : 0
  if (timeline >= 1 && timeline < 2 ** 32) return timeline
  throw new LifeboatError('usage-invalid', `${JSON.stringify(text)} is no timeline`, {
    hint: 'a decimal number, as pg_controldata tells it; in names of segments it is hexadecimal',
  })
}
