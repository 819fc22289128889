import type { ValidatedConfig } from '../config/validated.ts'
import { makeRepositories, openHistoryIfThere } from '../core.ts'
import { errorCodes, type Failure, toFailure } from '../domain/errors.ts'
import { type RetentionPlan, retentionReasons } from '../domain/retention.ts'
import type { RepositoryState } from '../observe/catalog.ts'
import { createRepositoryLook } from '../observe/repository.ts'
import { createRetentionView } from '../observe/retention.ts'
import { chooseRepositories } from '../repository/choose.ts'
import { ClockGuard } from '../runner/clock-guard.ts'
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
  verboseHelp,
  verboseOption,
} from './command.ts'
import { errorText } from './error-text.ts'
import { formatTime, oneLine, printable, table } from './format.ts'
import { runJob } from './run-job.ts'

export const expireCommand: Command = {
  name: 'expire',
  summary: 'remove the backups that the retention policy lets go, or tell why each stays or goes',
  usage: 'expire [--dry-run] [--repository NAME] [--confirm-clock] [--json]',
  options: [
    ['-n, --dry-run', 'remove nothing: tell for every backup whether it stays, why, and until when'],
    ['-r, --repository NAME', 'in this repository only'],
    ['--confirm-clock', 'the clock of this machine is right, although it jumped or was not seen for long'],
    configHelp,
    verboseHelp,
    jsonHelp,
  ],
  async run(argv, context) {
    const { values } = parse('expire', argv, {
      ...configOption,
      ...jsonOption,
      ...verboseOption,
      'dry-run': { type: 'boolean', short: 'n' },
      repository: { type: 'string', short: 'r' },
      'confirm-clock': { type: 'boolean' },
    })
    const config = await configOf(values, context)
    const confirmClock = values['confirm-clock'] === true
    const repository = values.repository ?? null
    chooseRepositories(config.repositories, repository)
    if (values['dry-run']) return preview(config, { repository, confirmClock, json: values.json === true }, context)
    return runJob(
      {
        config,
        verbose: values.verbose === true,
        job: 'expire',
        params: { repository, confirmClock },
        report: (run) => {
          if (values.json) {
            context.out.write(`${JSON.stringify(run, null, 2)}\n`)
            return
          }
          for (const { outcome, backupId, database, repository: where, failure } of run.items) {
            const what = `${backupId} of ${database === '' ? 'the whole cluster' : printable(database)} in ${where}`
            if (outcome === 'succeeded') context.out.write(`removed ${what}\n`)
            else context.err.write(`${what}: ${errorText(failure ?? run.failure)}`)
          }
          if (run.items.length === 0 && run.state === 'succeeded') context.out.write('nothing had to go\n')
          if (run.failure !== null) context.err.write(errorText(run.failure))
        },
      },
      context,
    )
  },
}

interface PreviewOptions {
  readonly repository: string | null
  readonly confirmClock: boolean
  readonly json: boolean
}

/** Tells what an expiry would do, and leaves nothing behind. */
async function preview(config: ValidatedConfig, options: PreviewOptions, context: CliContext): Promise<number> {
  const { clock, version, signal, makeLog, out, err } = context
  const log = makeLog('error', 'err')
  const history = openHistoryIfThere(config, { clock, log: makeLog('silent', 'err') })
  const failures: Failure[] = []
  const states: RepositoryState[] = []
  try {
    for (const { repository } of makeRepositories(config, { clock, version: version.version, ledger: history })) {
      if (repository.name !== (options.repository ?? repository.name)) continue
      try {
        states.push(await createRepositoryLook({ repository, capacity: null, log })(signal))
      } catch (error) {
        signal.throwIfAborted()
        failures.push(toFailure(error))
      }
    }
    const plans = plansOf(config, states, { ...context, history, confirmClock: options.confirmClock })
    const refused = [...plans.values()].some(({ refusal }) => refusal !== null)
    if (options.json)
      out.write(
        `${JSON.stringify(
          states.map((state) => asJson(state, plans.get(state.name))),
          null,
          2,
        )}\n`,
      )
    else for (const state of states) out.write(asText(state, plans.get(state.name)))
    for (const failure of failures) err.write(errorText(failure))
    if (failures[0] !== undefined) return errorCodes[failures[0].code].exit
    return refused ? errorCodes['retention-refused'].exit : 0
  } finally {
    history?.close()
  }
}

/** The plans for what was seen, by the clock of now. */
export function plansOf(
  config: ValidatedConfig,
  repositories: readonly RepositoryState[],
  {
    clock,
    history,
    confirmClock,
  }: Pick<CliContext, 'clock'> & { readonly history: History | null; readonly confirmClock: boolean },
): ReadonlyMap<string, RetentionPlan> {
  const guard = new ClockGuard({ clock, facts: history ?? { fact: () => null, keepFact: () => {} } })
  const policies = new Map(config.repositories.map(({ name, retention }) => [name, retention]))
  const clockDoubt = confirmClock ? () => null : (traces: () => readonly Date[]) => guard.doubt(traces)
  return createRetentionView({ policies, clockDoubt })({
    at: clock.now(),
    server: null,
    watches: [],
    repositories,
    collectors: [],
    jobs: [],
    backupFailures: [],
    complete: true,
  })
}

function asJson(state: RepositoryState, plan: RetentionPlan | undefined) {
  return {
    repository: state.name,
    blocked: plan?.refusal ?? null,
    backups: state.backups.map(({ id, type, database, finishedAt }) => ({
      id,
      type,
      database,
      finishedAt,
      ...plan?.decisions.get(id),
      hold: state.holds.get(id) ?? null,
    })),
  }
}

function asText(state: RepositoryState, plan: RetentionPlan | undefined): string {
  const rows = state.backups
    .toSorted((a, b) => b.finishedAt.getTime() - a.finishedAt.getTime())
    .map(({ id, database, finishedAt }) => {
      const { keep = true, reasons = [], until = null } = plan?.decisions.get(id) ?? {}
      const hold = reasons.includes('held') ? state.holds.get(id)?.reason : undefined
      const verdict = keep ? (until === null ? 'stays' : `stays until ${formatTime(until)}`) : 'goes'
      const why = reasons.map(
        (word) => `${retentionReasons[word]}${word === 'held' && hold ? ` (${oneLine(hold)})` : ''}`,
      )
      return [`  ${id}`, database === '' ? '' : printable(database), formatTime(finishedAt), verdict, why.join('; ')]
    })
  const goes = plan?.removals.length ?? 0
  const summary = `${state.name}: ${rows.length} backups, ${goes} would go, ${rows.length - goes} stay\n`
  const blocked = plan?.refusal
    ? `${state.name}: nothing expires: ${oneLine(plan.refusal.message)}\nHINT: ${oneLine(plan.refusal.hint)}\n`
    : ''
  return `${summary}${blocked}${table([['  BACKUP', 'DATABASE', 'FINISHED', 'DECISION', 'WHY'], ...rows])}`
}
