import { retentionPolicies, type ValidatedConfig, type WatchConfig } from '../config/validated.ts'
import { makeRepositories, openHistoryIfThere } from '../core.ts'
import { errorCodes, type Failure, toFailure } from '../domain/errors.ts'
import {
  type RetentionPlan,
  type RetentionPolicy,
  type RetentionRefusal,
  retentionReasons,
} from '../domain/retention.ts'
import type { BackupSummary, RepositoryState } from '../observe/catalog.ts'
import { lookForExpiry } from '../observe/expiry-look.ts'
import { createExternalHolds } from '../observe/external-holds.ts'
import { repositoryCollector } from '../observe/questions.ts'
import { createRetentionView, tracesOf } from '../observe/retention.ts'
import { createServerProbe } from '../observe/server.ts'
import { previewWal, type WalTold } from '../observe/wal-preview.ts'
import { chooseRepositories } from '../repository/choose.ts'
import type { Repository } from '../repository/repository.ts'
import { walTraces } from '../repository/wal-expiry.ts'
import { ClockGuard } from '../runner/clock-guard.ts'
import type { History } from '../runner/history.ts'
import { failureIn, thoseThatAnswer } from './answering.ts'
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
import { walText } from './expire-wal.ts'
import { formatTime, oneLine, printable, table } from './format.ts'
import { runJob } from './run-job.ts'
import { planWatch } from './watch-plan.ts'

export const expireCommand: Command = {
  name: 'expire',
  summary: 'remove the backups and the WAL that the retention policy lets go, or tell why each stays or goes',
  usage: 'expire [--dry-run] [--repository NAME] [--confirm-clock] [--json]',
  options: [
    [
      '-n, --dry-run',
      'remove nothing: tell for every backup whether it stays, why, and until when, and of the WAL how much',
    ],
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
    chooseRepositories([...config.repositories, ...config.watch.filter((one) => one.retention !== null)], repository)
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
          const wal = run.progress?.unit === 'files' ? run.progress.message : undefined
          if (wal !== undefined && run.state === 'succeeded') context.out.write(`${wal}\n`)
          else if (run.items.length === 0 && run.state === 'succeeded') context.out.write('nothing had to go\n')
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
  const others: RepositoryState[] = []
  const looked: Repository[] = []
  const traces: Date[] = []
  try {
    const made = makeRepositories(config, { clock, version: version.version, ledger: history })
    const all = made.map(({ repository }) => repository)
    const isChosen = ({ name }: Pick<Repository, 'name'>) => name === (options.repository ?? name)
    const { answering, silent } = await thoseThatAnswer(all, config, context)
    for (const { repository, error } of silent) if (isChosen(repository)) failures.push(toFailure(error))
    // Also at those that nobody asked about: what they hold may build on what the others do.
    for (const repository of answering) {
      try {
        const state = await lookForExpiry(repository, { log, signal })
        if (isChosen(repository)) {
          traces.push(...(await walTraces(repository, { signal })))
          states.push(state)
          looked.push(repository)
        } else others.push(state)
      } catch (error) {
        signal.throwIfAborted()
        if (isChosen(repository)) failures.push(failureIn(repository.name, error))
      }
    }
    const unseen = all.filter(({ name }) => ![...states, ...others].some((state) => state.name === name))
    const doubt = options.confirmClock ? null : guardOf(context, history).doubt(() => [...tracesOf(states), ...traces])
    const { confirmClock } = options
    const plans = plansOf(config, states, { ...context, history, confirmClock, traces, others, unseen })
    const told: Told[] = []
    for (const [index, state] of states.entries()) {
      const plan = plans.get(state.name)
      const damaged = state.unusable.flatMap(({ summary }) => summary ?? [])
      const one: Told = { ...state, backups: [...state.backups, ...damaged], plan, wal: null }
      try {
        told.push({ ...one, wal: await tellWal(config, { repository: looked[index], plan }, context) })
      } catch (error) {
        signal.throwIfAborted()
        failures.push(toFailure(error))
        told.push(one)
      }
    }
    for (const place of config.watch) {
      if (place.retention === null || place.name !== (options.repository ?? place.name)) continue
      try {
        told.push(await tellWatch(place, place.retention, { history, doubt }, context))
      } catch (error) {
        signal.throwIfAborted()
        failures.push(toFailure(error))
      }
    }
    const refused = told.some(({ plan }) => plan !== undefined && plan.refusal !== null)
    if (options.json) out.write(`${JSON.stringify(told.map(asJson), null, 2)}\n`)
    else for (const one of told) out.write(asText(one))
    for (const failure of failures) err.write(errorText(failure))
    if (failures[0] !== undefined) return errorCodes[failures[0].code].exit
    return refused ? errorCodes['retention-refused'].exit : 0
  } finally {
    history?.close()
  }
}

/** Null where nothing may go: all of it stays for ever, or the repository is blocked. */
async function tellWal(
  config: ValidatedConfig,
  { repository, plan }: { readonly repository: Repository | undefined; readonly plan: RetentionPlan | undefined },
  { clock, signal }: CliContext,
): Promise<readonly WalTold[] | null> {
  const keepForSeconds = config.repositories.find(({ name }) => name === repository?.name)?.walKeepForSeconds ?? null
  if (repository === undefined || keepForSeconds === null || plan === undefined || plan.refusal !== null) return null
  const probe = createServerProbe({ ...config.postgres })
  const present = async () => (await probe(signal).catch(() => null))?.systemIdentifier ?? null
  const going = new Set(plan.removals.map(({ id }) => id))
  return previewWal(repository, { keepForSeconds, now: clock.now(), present }, going, signal)
}

async function tellWatch(
  place: WatchConfig,
  policy: RetentionPolicy,
  known: { readonly history: History | null; readonly doubt: RetentionRefusal | null },
  context: CliContext,
): Promise<Told> {
  const { backups, files, plan } = await planWatch(place, policy, known, context)
  const holds = known.history === null ? new Map() : createExternalHolds(known.history.external)()
  return {
    name: place.name,
    backups: backups.map((one) => ({ ...one, file: files.get(one.id)?.name })),
    holds,
    plan,
    wal: null,
  }
}

function guardOf({ clock }: Pick<CliContext, 'clock'>, history: History | null): ClockGuard {
  return new ClockGuard({ clock, facts: history ?? { fact: () => null, keepFact: () => {} } })
}

/** The plans for what was seen, by the clock of now. */
export function plansOf(
  config: ValidatedConfig,
  repositories: readonly RepositoryState[],
  {
    clock,
    history,
    confirmClock,
    traces = [],
    others = [],
    unseen = [],
  }: Pick<CliContext, 'clock'> & {
    readonly history: History | null
    readonly confirmClock: boolean
    /** Of the time that has passed, besides the backups. */
    readonly traces?: readonly Date[]
    /** What else was seen. */
    readonly others?: readonly RepositoryState[]
    /** What could not be. */
    readonly unseen?: readonly Pick<Repository, 'name'>[]
  },
): ReadonlyMap<string, RetentionPlan> {
  const guard = guardOf({ clock }, history)
  const policies = retentionPolicies(config)
  const clockDoubt = () => (confirmClock ? null : guard.doubt(() => [...tracesOf(repositories), ...traces]))
  return createRetentionView({ policies, clockDoubt })({
    at: clock.now(),
    watches: [],
    repositories: [...repositories, ...others],
    collectors: unseen.map(({ name }) => ({ collector: repositoryCollector(name), success: false })),
  })
}

/** A repository or watched directory, and what would go there. */
interface Told extends Pick<RepositoryState, 'name' | 'holds'> {
  readonly backups: readonly (Pick<BackupSummary, 'id' | 'type' | 'database' | 'finishedAt'> & {
    /** Of another tool: its name. */
    readonly file?: string | undefined
  })[]
  readonly plan: RetentionPlan | undefined
  /** Null: not looked at; of a watched directory always. */
  readonly wal: readonly WalTold[] | null
}

function asJson({ name, backups, holds, plan, wal }: Told) {
  return {
    repository: name,
    blocked: plan?.refusal ?? null,
    wal,
    backups: backups.map(({ id, type, database, finishedAt, file }) => ({
      id,
      type,
      database,
      finishedAt,
      ...(file === undefined ? {} : { file }),
      ...plan?.decisions.get(id),
      hold: holds.get(id) ?? null,
    })),
  }
}

function asText({ name, backups, holds, plan, wal }: Told): string {
  const rows = backups
    .toSorted((a, b) => b.finishedAt.getTime() - a.finishedAt.getTime())
    .map(({ id, database, finishedAt, file }) => {
      const { keep = true, reasons = [], until = null } = plan?.decisions.get(id) ?? {}
      const hold = reasons.includes('held') ? holds.get(id)?.reason : undefined
      const verdict = keep ? (until === null ? 'stays' : `stays until ${formatTime(until)}`) : 'goes'
      const why = reasons.map(
        (word) => `${retentionReasons[word]}${word === 'held' && hold ? ` (${oneLine(hold)})` : ''}`,
      )
      return [
        `  ${file === undefined ? id : printable(file)}`,
        database === '' ? '' : printable(database),
        formatTime(finishedAt),
        verdict,
        why.join('; '),
      ]
    })
  const goes = plan?.removals.length ?? 0
  const summary = `${name}: ${rows.length} backups, ${goes} would go, ${rows.length - goes} stay\n`
  const blocked = plan?.refusal
    ? `${name}: nothing expires: ${oneLine(plan.refusal.message)}\nHINT: ${oneLine(plan.refusal.hint)}\n`
    : ''
  return `${summary}${blocked}${table([['  BACKUP', 'DATABASE', 'FINISHED', 'DECISION', 'WHY'], ...rows])}${walText(name, wal ?? [])}`
}
