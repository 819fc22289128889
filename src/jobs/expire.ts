import type { Clock } from '../clock.ts'
import type { ValidatedConfig } from '../config/validated.ts'
import { LifeboatError, toFailure } from '../domain/errors.ts'
import type { Removal, RetentionCandidate, RetentionPolicy, RetentionRefusal } from '../domain/retention.ts'
import { planRetention } from '../domain/retention-plan.ts'
import { whoAnswers } from '../fetch/answering.ts'
import type { OtherBackups } from '../observe/retention.ts'
import { chooseRepositories } from '../repository/choose.ts'
import { isSilent } from '../repository/in-progress.ts'
import type { Repository } from '../repository/repository.ts'
import { walTraces } from '../repository/wal-expiry.ts'
import type { ClockGuard } from '../runner/clock-guard.ts'
import type { Job, JobContext, JobParams } from '../runner/job.ts'
import type { ExpiredWal } from '../runner/wal-expired.ts'
import { findDeadUses, type UseMark } from './dead-uses.ts'
import { expireWal, type RemovedWal, walInWords } from './expire-wal.ts'
import { type ExpireWatchOptions, type ExpiringWatch, expireWatch } from './expire-watch.ts'
import { clockChanged, refused } from './retention-refused.ts'
import { leaveOut, type Writable } from './writable.ts'

/** A complete look at one repository. */
export interface ExpirySurvey {
  readonly uses: readonly UseMark[]
  /** When its backups were finished. */
  readonly traces: readonly Date[]
  /** What the plans of other repositories must know. */
  readonly seen: OtherBackups
  /** What a plan is made from; a mark of use whose holder is dead counts for nothing. */
  readonly input: (
    isDead: (use: UseMark) => boolean,
    others: readonly OtherBackups[],
    /** Not all of the others could be looked at. */
    isPartUnseen: boolean,
  ) => {
    readonly backups: readonly RetentionCandidate[]
    readonly refusals: readonly RetentionRefusal[]
  }
}

export interface ExpireJobOptions {
  readonly config: ValidatedConfig
  readonly repositories: readonly Repository[]
  readonly clock: Clock
  readonly guard: ClockGuard
  readonly writable: Writable
  /** Looks at everything in a repository, or fails: part of it would not do. */
  readonly survey: (repository: Repository, signal: AbortSignal) => Promise<ExpirySurvey>
  /** The system identifier of the server, if it answers. */
  readonly present: (signal: AbortSignal) => Promise<string | null>
  /** Remembers up to which segment WAL has expired, so that it is not shipped again. Must not throw. */
  readonly noteExpiredWal: (wal: ExpiredWal, lastSegment: string) => void
  /** True for a run that is known to have ended. */
  readonly isOver: (runId: string) => boolean
  /** Watched directories with a policy, and how to look at them. */
  readonly watches: readonly ExpiringWatch[]
  readonly external: Pick<ExpireWatchOptions, 'survey' | 'isInUse'>
}

const timeoutSeconds = 6 * 3600

/**
 * The job `expire`: removes from every repository and from the watched directories that have a policy (or the one that
 * params name) the backups that its policy lets go, one item for each, and then the WAL that none of the others needs. A repository that refuses, because something about it is not known, loses nothing and fails the run, and
 * keeps no other from being looked after.
 *
 * Params: `{ repository: name | null, confirmClock: boolean (the clock is right, whatever it had shown before) }`.
 */
export function expireJob(options: ExpireJobOptions): Job {
  return {
    name: 'expire',
    lane: 'expire',
    timeoutSeconds,
    run: (params, context) => runExpire(options, params, context),
  }
}

/** A repository with what was seen in it. */
interface Surveyed {
  readonly repository: Repository
  readonly policy: RetentionPolicy
  /** Null: all WAL stays. */
  readonly walKeepForSeconds: number | null
  readonly survey: ExpirySurvey
  /** When its newest WAL was stored. */
  readonly walTraces: readonly Date[]
}

async function runExpire(options: ExpireJobOptions, params: JobParams, context: JobContext): Promise<void> {
  const { config, repositories, guard } = options
  const failures: LifeboatError[] = []
  const surveyed: Surveyed[] = []
  if (params.confirmClock === true) guard.confirm()
  const chosen = chooseRepositories<Repository | ExpiringWatch>(
    [...repositories, ...options.watches],
    params.repository,
  )
  const isWatch = (one: Repository | ExpiringWatch) => 'directory' in one
  const stored = chosen.filter((one): one is Repository => !isWatch(one))
  const mayBeNone = chosen.some(isWatch)
  const ours = leaveOut(stored, options.writable, { log: context.log, mayBeNone })
  const { clock } = options
  const patienceMs = 1000 * config.observe.timeoutSeconds
  const { answering, silent } = await whoAnswers(repositories, { clock, signal: context.signal, patienceMs })
  for (const { repository, error } of silent)
    if (ours.includes(repository)) await attempt(failures, repository, context, () => Promise.reject(error))
  for (const repository of ours.filter((one) => answering.includes(one))) {
    const configured = config.repositories.find(({ name }) => name === repository.name)
    if (configured === undefined) continue
    const { retention: policy, walKeepForSeconds } = configured
    if (policy.keepForSeconds === null && walKeepForSeconds === null) continue
    context.progress({ done: 0, total: null, unit: 'backups', message: `looking at ${repository.name}` })
    await attempt(failures, repository, context, async () => {
      await clearInterrupted(options, repository, context)
      const { signal } = context
      const survey = await options.survey(repository, signal)
      surveyed.push({
        repository,
        policy,
        walKeepForSeconds,
        survey,
        walTraces: await walTraces(repository, { signal }),
      })
    })
  }
  const seen = new Map(surveyed.map(({ repository, survey }) => [repository, survey.seen]))
  if (surveyed.length > 0) await lookElsewhere(options, answering, seen, context)
  const unseen = repositories.filter((one) => !seen.has(one)).map(({ name }) => name)
  const traces = () => surveyed.flatMap(({ survey, walTraces }) => [...survey.traces, ...walTraces])
  const doubt = guard.look(traces)
  const isClockRight = () => guard.doubt(traces) === null
  const wal = new Map<string, RemovedWal>()
  for (const one of surveyed) {
    await attempt(failures, one.repository, context, async () => {
      const others = [...seen.values()].filter((other) => other !== one.survey.seen)
      await expireIn(options, { ...one, others, unseen }, doubt, isClockRight, context)
      const removed = await expireWalIn(options, one, isClockRight, context)
      if (removed.files > 0) wal.set(one.repository.name, removed)
    })
  }
  for (const watch of chosen) {
    if (!('directory' in watch)) continue
    const how = { ...options.external, clock: options.clock, doubt, isClockRight }
    await attempt(failures, watch, context, () => expireWatch(watch, how, context))
  }
  tellWal(wal, context)
  if (failures[0] !== undefined) throw failures[0]
}

/** A chain may lie in several repositories: looks at those that are not seen yet. */
async function lookElsewhere(
  { survey }: ExpireJobOptions,
  answering: readonly Repository[],
  seen: Map<Repository, OtherBackups>,
  { signal, log }: JobContext,
): Promise<void> {
  for (const repository of answering.filter((one) => !seen.has(one))) {
    try {
      seen.set(repository, (await survey(repository, signal)).seen)
    } catch (error) {
      signal.throwIfAborted()
      log.debug({ repository: repository.name, ...toFailure(error) }, 'not known what builds on others here')
    }
  }
}

/** After its backups, since what is left of them decides. */
async function expireWalIn(
  { clock, present, noteExpiredWal }: ExpireJobOptions,
  { repository, walKeepForSeconds }: Surveyed,
  isClockRight: () => boolean,
  context: JobContext,
): Promise<RemovedWal> {
  if (walKeepForSeconds === null) return { files: 0, bytes: 0 }
  const policy = { keepForSeconds: walKeepForSeconds, now: clock.now(), present: () => present(context.signal) }
  const onExpired = (systemIdentifier: string, timeline: number, lastSegment: string) =>
    noteExpiredWal({ repository: repository.name, systemIdentifier, timeline }, lastSegment)
  return expireWal(repository, { ...policy, isClockRight, onExpired }, context)
}

/** WAL has no items: the last word of the run tells what went. */
function tellWal(wal: ReadonlyMap<string, RemovedWal>, context: JobContext): void {
  if (wal.size === 0) return
  const files = [...wal.values()].reduce((sum, removed) => sum + removed.files, 0)
  const words = [...wal].map(([name, removed]) => `${walInWords(removed)} from ${name}`)
  context.progress({ done: files, total: files, unit: 'files', message: `removed ${words.join(', ')}` })
}

/** What fails in one repository keeps no other from being looked after. */
async function attempt(
  failures: LifeboatError[],
  repository: { readonly name: string },
  { signal, log }: JobContext,
  work: () => Promise<void>,
): Promise<void> {
  try {
    await work()
  } catch (error) {
    signal.throwIfAborted()
    const failure = toFailure(error)
    log.error({ repository: repository.name, ...failure }, 'nothing (more) expires here')
    failures.push(
      error instanceof LifeboatError ? error : new LifeboatError('unexpected', failure.message, { cause: error }),
    )
  }
}

/** What an expiry that was killed or cancelled has begun to remove is no backup any more: the rest of it goes. */
async function clearInterrupted(
  { clock, isOver }: ExpireJobOptions,
  repository: Repository,
  { signal, log }: JobContext,
): Promise<void> {
  await repository.checkPresence({ signal })
  const removed = await repository.cleanUp({
    signal,
    isLapsed: (claim) =>
      claim?.purpose === 'expire' && (isOver(claim.runId) || isSilent(new Date(claim.heartbeatAt), clock.now())),
  })
  if (removed.length > 0) log.info({ repository: repository.name, removed }, 'removed what an expiry had left')
}

async function expireIn(
  options: ExpireJobOptions,
  {
    repository,
    policy,
    survey,
    others,
    unseen,
  }: Surveyed & { readonly others: readonly OtherBackups[]; readonly unseen: readonly string[] },
  doubt: RetentionRefusal | null,
  isClockRight: () => boolean,
  context: JobContext,
): Promise<void> {
  const { clock, isOver } = options
  const { signal, log } = context
  await repository.fence({ signal })
  const dead = await findDeadUses(repository, survey.uses, { clock, isOver, signal })
  const { backups, refusals } = survey.input((use) => dead.has(use.key), others, unseen.length > 0)
  const all = doubt === null ? refusals : [doubt, ...refusals]
  const { decisions, removals, refusal } = planRetention({ backups, policy, now: clock.now(), refusals: all })
  if (refusal !== null) throw refused(repository.name, refusal)
  const waiting = [...decisions.values()].filter(({ reasons }) => reasons.includes('maybe-parent')).length
  if (waiting > 0) {
    const about = { repository: repository.name, backups: waiting, unseen }
    log.warn(about, 'chains stay: what builds on them may lie in a repository that cannot be looked at')
  }
  const byId = new Map(backups.map((backup) => [backup.id, backup]))
  /** Backups that something which did not go builds on. */
  const needed = new Set<string>()
  const failed: LifeboatError[] = []
  let gone = 0
  for (const [index, removal] of removals.entries()) {
    const backup = byId.get(removal.id)
    if (backup === undefined) continue
    const message = `removing ${removal.id} from ${repository.name}`
    context.progress({ done: index, total: removals.length, unit: 'backups', message })
    if (!isClockRight()) throw refused(repository.name, clockChanged)
    const outcome = needed.has(removal.id)
      ? 'stays'
      : await removeOne(options, repository, backup, removal, dead, context)
    if (outcome === 'removed') gone += 1
    else if (backup.parent !== null) needed.add(backup.parent)
    if (outcome instanceof LifeboatError) failed.push(outcome)
    // Who has lost the lease is told so, instead of finding that each of them stays.
    if (outcome === 'stays') await repository.fence({ signal })
  }
  const total = removals.length
  const message = `${gone} of ${backups.length} backups in ${repository.name} were removed`
  context.progress({ done: total, total, unit: 'backups', message })
  log.info({ repository: repository.name, removed: gone, of: backups.length }, 'expiry has ended')
  if (failed[0] !== undefined) throw failed[0]
}

async function removeOne(
  { clock }: ExpireJobOptions,
  repository: Repository,
  { id, type, database, hold }: RetentionCandidate,
  { needs }: Removal,
  dead: ReadonlySet<string>,
  context: JobContext,
): Promise<'removed' | 'stays' | LifeboatError> {
  const { runId, signal, log } = context
  const about = { backupType: type, database, repository: repository.name, backupId: id }
  try {
    await repository.expireBackup(id, { runId, needs, signal, isDead: ({ key }) => dead.has(key) })
    context.item({ ...about, outcome: 'succeeded', finishedAt: clock.now().toISOString() })
    log.info({ repository: repository.name, backup: id, database }, 'backup has expired')
    if (hold !== null) await repository.releaseHold(id) // it had ended
    return 'removed'
  } catch (error) {
    signal.throwIfAborted()
    const failure = toFailure(error)
    if (failure.code === 'conflict') {
      log.info({ repository: repository.name, backup: id, ...failure }, 'backup stays after all')
      return 'stays'
    }
    context.item({ ...about, outcome: 'failed', failure, finishedAt: clock.now().toISOString() })
    log.error({ repository: repository.name, backup: id, ...failure }, 'backup could not be removed')
    return error instanceof LifeboatError ? error : new LifeboatError('unexpected', failure.message, { cause: error })
  }
}
