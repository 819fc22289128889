import { hostname } from 'node:os'
import { DrillState } from '../alert-drill/state.ts'
import { checkAlertPath } from '../check/alert-path.ts'
import { checkArchiveRoom } from '../check/archive-room.ts'
import { checkArchiving } from '../check/archiving.ts'
import { checkEncryption } from '../check/encryption.ts'
import { type Finding, looked, ok, problem, warning } from '../check/finding.ts'
import { checkHistory } from '../check/history.ts'
import { checkHooks } from '../check/hooks.ts'
import { checkPhysical } from '../check/physical.ts'
import { checkPlaces } from '../check/places.ts'
import { checkPosture } from '../check/posture.ts'
import { checkPrograms } from '../check/programs.ts'
import { checkServer } from '../check/server.ts'
import { checkSlots } from '../check/slots.ts'
import { checkStreaming } from '../check/streaming.ts'
import { checkWatches } from '../check/watches.ts'
import { rpoHint, rpoWarning } from '../config/objectives.ts'
import { isWatchOnly, type ValidatedConfig } from '../config/validated.ts'
import { makeRepositories, openHistoryIfThere, stateFile } from '../core.ts'
import { LifeboatError } from '../domain/errors.ts'
import { describeHolder } from '../domain/lease.ts'
import { makeWatchedBuckets } from '../repositories.ts'
import { readLease } from '../repository/lease.ts'
import type { BackupJob } from '../runner/job.ts'
import { leaseHolder } from '../runner/lease-holder.ts'
import { nextRun } from '../runner/schedule.ts'
import type { Storage } from '../storage/storage.ts'
import { thoseThatAnswer } from './answering.ts'
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
import { formatTime, oneLine } from './format.ts'

export const checkCommand: Command = {
  name: 'check',
  summary: 'look at everything that a backup and its proof will need',
  usage: 'check [--json]',
  options: [configHelp, jsonHelp],
  async run(argv, context) {
    const { values } = parse('check', argv, { ...configOption, ...jsonOption })
    const config = await configOf(values, context)
    const nothing = { findings: [], cluster: null, largestDatabaseBytes: 0 }
    const { findings, cluster, largestDatabaseBytes } = isWatchOnly(config)
      ? nothing
      : await checkServer(config, context.clock, context.signal)
    const { heard, silent } = await ask(config, context)
    const all = [
      ...findings,
      ...(await checkPrograms(config, cluster?.serverMajor ?? null)),
      ...(await checkPlaces(heard, largestDatabaseBytes, identities(config, context), buckets(config, context))),
      ...silent,
      ...(await checkBuckets(heard, context)),
      ...(await checkLeases(heard, context)),
      ...(await checkEncryption(config, repositoriesOf(heard, context), context.signal)),
      ...(await checkArchiving(config, context)),
      ...(await checkArchiveRoom(config)),
      ...(await checkHistory(config, repositoriesOf(heard, context), context.signal)),
      ...(await checkStreaming(config, context.signal)),
      ...(isWatchOnly(config) ? [] : await checkSlots(config, context.signal)),
      ...(isWatchOnly(config) ? [] : await checkPhysical(config, context.signal)),
      ...(await watchFindings(config, context)),
      ...(await checkHooks(config)),
      ...(await alertFindings(config, context)),
      ...checkSchedule(config, context),
    ]
    context.signal.throwIfAborted() // an interrupted look finds errors where there are none
    if (values.json) context.out.write(`${JSON.stringify(all, null, 2)}\n`)
    else for (const finding of all) context.out.write(lineOf(finding))
    return all.some(({ status }) => status === 'error') ? 1 : 0
  },
}

function repositoriesOf(config: ValidatedConfig, { clock, version }: CliContext) {
  return makeRepositories(config, { clock, version: version.version, ledger: null }).map(({ repository }) => repository)
}

/** Those of the repositories that answer, and a finding for each that does not: every look at one that hangs would wait anew. */
async function ask(config: ValidatedConfig, context: CliContext) {
  const { silent } = await thoseThatAnswer(repositoriesOf(config, context), config, context)
  const mute = new Set(silent.map(({ repository }) => repository.name))
  const heard = { ...config, repositories: config.repositories.filter(({ name }) => !mute.has(name)) }
  const found = silent.map(({ repository, error }) =>
    problem(
      'repository',
      error.message.replace(/^repository /, ''),
      error.hint ?? `see whether ${repository.name} hangs`,
    ),
  )
  return { heard, silent: found }
}

/** Sees, from what the sidecar has noted, that a repository is the one that it was. */
function identities(config: ValidatedConfig, { clock, version, signal, makeLog }: CliContext) {
  return async (name: string): Promise<void> => {
    const history = openHistoryIfThere(config, { clock, log: makeLog('silent', 'err') })
    try {
      const made = makeRepositories(config, { clock, version: version.version, ledger: history })
      await made.find(({ repository }) => repository.name === name)?.repository.checkIdentity({ signal })
    } finally {
      history?.close()
    }
  }
}

/** Where a repository is stored, as it is configured. */
function buckets(config: ValidatedConfig, { clock, version }: CliContext) {
  const made = makeRepositories(config, { clock, version: version.version, ledger: null })
  return (name: string): Storage => {
    const found = made.find(({ repository }) => repository.name === name)
    if (found === undefined) throw new LifeboatError('not-found', `there is no repository ${name}`)
    return found.storage
  }
}

function checkBuckets(config: ValidatedConfig, { clock, version, signal }: CliContext) {
  const made = makeRepositories(config, { clock, version: version.version, ledger: null })
  const bucketOf = (name: string) => made.find(({ repository }) => repository.name === name)?.bucket ?? null
  return checkPosture(config, bucketOf, signal)
}

/** Who writes to each repository. One that cannot be read was told of already. */
async function checkLeases(config: ValidatedConfig, context: CliContext): Promise<readonly Finding[]> {
  const { clock, version, signal, makeLog } = context
  const history = openHistoryIfThere(config, { clock, log: makeLog('silent', 'err') })
  const self = history === null ? null : leaseHolder(history, stateFile(config))
  history?.close()
  const found: Finding[] = []
  for (const { repository, storage } of makeRepositories(config, { clock, version: version.version, ledger: null })) {
    if (!(await storage.exists().catch(() => false))) continue
    const findings = await looked('repository', async () => {
      const lease = await readLease(repository, { signal })
      if (lease === null || lease.lease?.released === true) return []
      if (lease.lease === null) {
        const hint = 'it lapses when nobody renews it; a newer lifeboat may have written it'
        return [warning('repository', `${repository.name}: the lease on it cannot be understood`, hint)]
      }
      const isOurs = lease.lease.holder === self && lease.lease.host === hostname()
      const who = isOurs
        ? 'this lifeboat writes to it'
        : `another lifeboat writes to it: ${describeHolder(lease.lease)}`
      return [ok('repository', `${repository.name}: ${who}${isOurs ? '' : '; one here would stand by'}`)]
    })
    found.push(...findings)
  }
  return found
}

/** With what the sidecar has found out about the files. */
async function watchFindings(config: ValidatedConfig, { clock, signal, makeLog }: CliContext) {
  const history = openHistoryIfThere(config, { clock, log: makeLog('silent', 'err') })
  try {
    const buckets = makeWatchedBuckets(config, clock)
    return await checkWatches(config, { buckets, store: history?.external ?? null, clock, signal })
  } finally {
    history?.close()
  }
}

/** With what the state file knows of drills. */
async function alertFindings(config: ValidatedConfig, { clock, version, signal, makeLog }: CliContext) {
  const history = openHistoryIfThere(config, { clock, log: makeLog('silent', 'err') })
  try {
    const provenAt = () => (history === null ? null : new DrillState(history).lastProvenAt())
    return await checkAlertPath(config, { provenAt, clock, version: version.version, signal })
  } finally {
    history?.close()
  }
}

function checkSchedule(config: ValidatedConfig, { clock }: CliContext): readonly Finding[] {
  const { schedule, auth } = config
  const short = rpoWarning(config)
  const next = (job: BackupJob | 'verify' | 'expire', what: string): Finding => {
    const at = schedule[job] === null ? null : nextRun(schedule[job], clock.now())
    if (at === null) return warning('schedule', `no ${what} is scheduled`, `set schedule.${job}`)
    return ok('schedule', `next ${what} at ${formatTime(at)}`)
  }
  return [
    ...(isWatchOnly(config)
      ? [ok('schedule', 'no repository is configured: lifeboat only watches, and takes no backups')]
      : [
          next('dump', 'dump'),
          ...(schedule.full === null ? [] : [next('full', 'full backup')]),
          ...(schedule.incremental === null ? [] : [next('incremental', 'incremental backup')]),
          next('expire', 'expiry'),
        ]),
    next('verify', 'test restore'),
    ...(short === null || isWatchOnly(config) ? [] : [warning('schedule', short, rpoHint)]),
    ...(auth.tokens.length > 0
      ? []
      : [
          warning(
            'schedule',
            `no token is configured: ${isWatchOnly(config) ? 'test restores' : 'backups'} cannot be triggered over HTTP`,
            'lifeboat token NAME makes one',
          ),
        ]),
  ]
}

function lineOf({ status, area, what, hint }: Finding): string {
  const line = `${status.padEnd(8)} ${area.padEnd(12)} ${oneLine(what)}\n`
  return hint === undefined ? line : `${line}${' '.repeat(22)}HINT: ${oneLine(hint)}\n`
}
