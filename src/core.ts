import { existsSync } from 'node:fs'
import { chmod, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { alertDrillJobs } from './alert-drill/job.ts'
import { DrillState } from './alert-drill/state.ts'
import type { Clock } from './clock.ts'
import { clusterRestore } from './cluster-restore.ts'
import { isWatchOnly, leaseSecondsOf, type ValidatedConfig } from './config/validated.ts'
import { LifeboatError, toFailure } from './domain/errors.ts'
import type { Proof } from './domain/proof.ts'
import { whichAnswer } from './fetch/answering.ts'
import { physicalJobs } from './jobs/base-backup.ts'
import { copyJob } from './jobs/copy.ts'
import { removeEndedUses } from './jobs/dead-uses.ts'
import { dumpJob } from './jobs/dump.ts'
import { expireJob } from './jobs/expire.ts'
import { HookFailures, withHooks } from './jobs/hooks.ts'
import { restoreJob } from './jobs/restore.ts'
import { verifyJob } from './jobs/verify.ts'
import { cleanWorkDir, diskFailure } from './jobs/work-folder.ts'
import { createNotifier, type DeliveryState } from './notify/notifier.ts'
import type { RepositoryState } from './observe/catalog.ts'
import { lookForExpiry } from './observe/expiry-look.ts'
import { createExternalHolds } from './observe/external-holds.ts'
import { createExternalProofs } from './observe/external-proofs.ts'
import { surveyForExpiry } from './observe/external-survey.ts'
import { findExternalFiles } from './observe/external-targets.ts'
import { surveyRetention, tracesOf } from './observe/retention.ts'
import { createServerProbe } from './observe/server.ts'
import { rememberedDatabases } from './observe/server-memory.ts'
import type { ConnectionSource } from './postgres/connection.ts'
import { type CoreRepository, makeRepositories } from './repositories.ts'
import { isSilent } from './repository/in-progress.ts'
import { LeaseClaim } from './repository/lease.ts'
import type { InProgress, Repository } from './repository/repository.ts'
import { ClockGuard } from './runner/clock-guard.ts'
import { type History, openHistory } from './runner/history.ts'
import { isBackupJob, type Job } from './runner/job.ts'
import { LeaseKeeper } from './runner/lease.ts'
import { nameLeaseHolder } from './runner/lease-holder.ts'
import { isRunId } from './runner/run-id.ts'
import { Runner, type RunRequest, type Schedule } from './runner/runner.ts'
import { type ExpiredWal, noteExpiredWal } from './runner/wal-expired.ts'

export { type CoreRepository, makeRepositories } from './repositories.ts'

export interface CoreOptions {
  readonly clock: Clock
  readonly log: Logger
  /** Lifeboat's own version, for manifests and proofs. */
  readonly version: string
  /** Where a restore goes, when not to the configured server. */
  readonly restoreTarget?: ConnectionSource
  /** Only the sidecar has schedules: a command that runs one job must not start others. */
  readonly schedules?: readonly Schedule[]
  /** What the observers of the repositories saw last, where there are any. */
  readonly watched?: () => readonly RepositoryState[]
}

/** A repository that does not answer keeps no schedule waiting for longer. */
const settleMs = 5000

/** What a command needs to do one thing, and the sidecar to do everything: repositories, history and runner. */
export interface Core {
  readonly repositories: readonly CoreRepository[]
  readonly history: History
  readonly runner: Runner
  /** Who may write to the repositories. Nothing is kept before it is started, or a lease is wanted. */
  readonly leases: LeaseKeeper
  /** Drills of alerts, of whichever process. */
  readonly drills: DrillState
  /** Says whether the clock can be trusted with what expires. */
  readonly guard: ClockGuard
  /** Failures of hooks by name, since the start of the process. */
  hookFailures(): ReadonlyMap<string, number>
  /** How those fare who are told of runs. */
  deliveries(): readonly DeliveryState[]
  /** Clears away what a killed process left behind in the work folder, and in the repositories whose lease is held. */
  tidy(): Promise<void>
  /** Ends what runs and closes the history. Safe to call again. */
  close(): Promise<void>
}

/**
 * Puts together the acting half of Lifeboat.
 *
 * @throws LifeboatError `storage-failed` or `disk-full` when the state directory cannot be used
 */
export async function createCore(config: ValidatedConfig, options: CoreOptions): Promise<Core> {
  const { clock, log, version } = options
  await makeStateDirectory(config.stateDir)
  const history = openHistory({
    file: stateFile(config),
    clock,
    log,
    databases: (facts) => config.postgres.databases ?? rememberedDatabases(facts),
  })
  const repositories: readonly CoreRepository[] = makeRepositories(config, {
    ...{ clock, version, ledger: history },
    fence: (name, { signal }) => leases.fence(name, signal ? { signal } : {}),
  })
  const all = repositories.map(({ repository }) => repository)
  const leases = keepLeases(config, { repositories: all, history, clock, log })
  const probe = createServerProbe({ ...config.postgres })
  const server = (signal: AbortSignal) => probe(signal).catch(() => null) // one that is down keeps no backup from being used
  const writable = (some: readonly Repository[]) => leases.writable(some)
  const jobOptions = { config, repositories: all, clock, version }
  const guard = new ClockGuard({ clock, facts: history })
  const isOver = (runId: string) => isRunId(runId) && (history.get(runId)?.finishedAt ?? null) !== null
  const survey = async (repository: Repository, signal: AbortSignal) => {
    const watched = options.watched?.().find(({ name }) => name === repository.name) ?? null
    const state = await lookForExpiry(repository, { log, watched, signal })
    return { uses: state.uses, traces: tracesOf([state]), seen: state, input: surveyRetention.bind(null, state) }
  }
  const externals = {
    watches: config.watch.map(({ name }) => name),
    find: async (wanted: { watch: string | null; id: string | null; database: string | null }, signal: AbortSignal) => {
      const places = config.watch.filter(({ name }) => wanted.watch === null || name === wanted.watch)
      return (await Promise.all(places.map((place) => findExternalFiles(place, { ...wanted, clock, signal })))).flat()
    },
    keepProof: (proof: Proof) =>
      history.external.keepExternalProof(proof.backupId, proof.finishedAt, JSON.stringify(proof)),
  }
  const watches = config.watch.flatMap((one) => (one.retention === null ? [] : [{ ...one, retention: one.retention }]))
  const [proofsOfFiles, holdsOfFiles] = [
    createExternalProofs(history.external, log),
    createExternalHolds(history.external),
  ]
  const present = async (signal: AbortSignal) => (await server(signal))?.systemIdentifier ?? null
  const noteExpired = (wal: ExpiredWal, lastSegment: string) => {
    try {
      noteExpiredWal(history, wal, lastSegment)
    } catch (error) {
      log.warn({ ...wal, failure: toFailure(error) }, 'what has expired cannot be noted: the archive ships it again')
    }
  }
  const expireOptions = {
    noteExpiredWal: noteExpired,
    ...{ config, repositories: all, clock, guard, survey, present, isOver, watches, writable },
    external: {
      survey: async (name: string, signal: AbortSignal) => {
        const place = watches.find((one) => one.name === name)
        if (place === undefined) throw new LifeboatError('not-found', `nothing expires in ${JSON.stringify(name)}`)
        const store = history.external
        return surveyForExpiry(place, { store, proofs: proofsOfFiles(), holds: holdsOfFiles(), clock, signal })
      },
      isInUse: (id: string) =>
        history.list({ job: 'verify', state: 'running' }).some(({ params }) => params.backup === id),
    },
  }
  const drills = new DrillState(history)
  const drillJobs = alertDrillJobs({ config, state: drills, clock, version })
  const hookFailures = new HookFailures(config.hooks)
  const hooked = (job: Job) =>
    withHooks(job, { hooks: config.hooks, cluster: config.cluster, clock, failures: hookFailures })
  const notifier = createNotifier({ targets: config.notify, cluster: config.cluster, version, clock, log })
  const verify = verifyJob({ ...jobOptions, server: isWatchOnly(config) ? async () => null : server, externals })
  const runner = new Runner({
    // Without a repository there is nothing to fill, to restore from or to expire.
    jobs: (isWatchOnly(config)
      ? [verify, ...(watches.length > 0 ? [expireJob(expireOptions)] : []), ...drillJobs]
      : [
          dumpJob({ ...jobOptions, writable }),
          ...physicalJobs({ ...jobOptions, writable }),
          verify,
          restoreJob({
            ...{ ...jobOptions, server, target: options.restoreTarget ?? config.postgres },
            cluster: clusterRestore({ repositories: all, history, clock, log }),
          }),
          expireJob(expireOptions),
          copyJob(jobOptions),
          ...drillJobs,
        ]
    ).map(hooked),
    schedules: options.schedules ?? [],
    ...(isWatchOnly(config)
      ? { unknownJobHint: 'No repository is configured, so lifeboat only watches: set repositories.' }
      : {}),
    queueLimit: config.runner.queueLimit,
    catchUp: config.schedule.catchUp,
    beforeScheduled: () => leases.settle(settleMs),
    refuse: ({ job, params, trigger }) => standby(config, leases, { job, params, trigger }),
    history,
    clock,
    log,
  })
  // Before the start: it gives the runs of dead processes their verdict.
  runner.onChange((run, isOurs) => {
    if (isOurs) notifier.runChanged(run)
  })
  await runner.start()
  let closed: Promise<void> | undefined
  return {
    repositories,
    history,
    runner,
    leases,
    drills,
    guard,
    hookFailures: () => hookFailures.all(),
    deliveries: () => notifier.states(),
    tidy: () => tidy(config, { repositories, history, leases, clock, log, isOver }),
    close: () => {
      closed ??= runner
        .stop()
        .then(() => leases.stop())
        .then(() => notifier.stop())
        .then(() => history.close())
      return closed
    },
  }
}

function keepLeases(
  config: ValidatedConfig,
  options: { repositories: readonly Repository[]; history: History; clock: Clock; log: Logger },
): LeaseKeeper {
  const { repositories, history, clock, log } = options
  const ttlOf = ({ name }: Repository) => leaseSecondsOf(config, name)
  const holder = nameLeaseHolder(history, stateFile(config))
  const isWorking = (state: 'queued' | 'running') =>
    history.list({ state }).some(({ job }) => isBackupJob(job) || job === 'expire' || job === 'copy')
  return new LeaseKeeper({
    ...{ clock, log },
    // Asked when the runs of this process are over.
    isShared: () => isWorking('running') || isWorking('queued'),
    repositories: repositories.map((repository) => ({
      name: repository.name,
      ttlSeconds: ttlOf(repository),
      claim: new LeaseClaim({ place: repository, clock, ttlSeconds: ttlOf(repository), holder }),
      isThere: (signal: AbortSignal) => repository.checkIdentity({ signal }),
    })),
  })
}

/** Restores and what people ask to be verified write nothing that others could lose; watched directories are everybody's own. */
function standby(
  config: ValidatedConfig,
  leases: LeaseKeeper,
  { job, params, trigger }: Pick<RunRequest, 'job' | 'params' | 'trigger'>,
): LifeboatError | null {
  const isOfTheSchedule = trigger === 'schedule' || trigger === 'catch-up'
  const isExpiryOfFiles = params.repository === null && config.watch.some(({ retention }) => retention !== null)
  const isShared =
    job === 'restore' ||
    (job === 'alert-drill' && !isOfTheSchedule) ||
    (job === 'verify' && (!isOfTheSchedule || config.watch.length > 0)) ||
    (job === 'expire' && isExpiryOfFiles)
  return isShared ? null : leases.standby(typeof params.repository === 'string' ? params.repository : null)
}

/** The state that a sidecar or a command has left; null where there is none: a command that only looks leaves nothing behind. */
export function openHistoryIfThere(
  config: ValidatedConfig,
  { clock, log }: { clock: Clock; log: Logger },
): History | null {
  const file = stateFile(config)
  return existsSync(file) ? openHistory({ file, clock, log }) : null
}

export function stateFile({ stateDir }: ValidatedConfig): string {
  return join(stateDir, 'lifeboat.db')
}

/** The scratch server's OS user must be able to pass through, so the folder can be entered; what it holds is 0600. */
async function makeStateDirectory(stateDir: string): Promise<void> {
  try {
    const made = await mkdir(stateDir, { recursive: true })
    if (made !== undefined) await chmod(stateDir, 0o711)
  } catch (cause) {
    throw diskFailure(cause, `cannot make the state directory ${stateDir}`)
  }
}

async function tidy(
  config: ValidatedConfig,
  {
    repositories,
    history,
    leases,
    clock,
    log,
    isOver,
  }: Pick<Core, 'repositories' | 'history' | 'leases'> & {
    clock: Clock
    log: Logger
    isOver: (runId: string) => boolean
  },
): Promise<void> {
  const longestMs =
    1000 * Math.max(config.dump.timeoutSeconds, config.physical.timeoutSeconds, config.verification.timeoutSeconds)
  const isLeftover = (name: string, modified: Date) => {
    if (!isRunId(name)) return false
    const run = history.get(name)
    // Another sidecar's run is not in our history: it is over once it is older than any run may get.
    return run === null ? clock.now().getTime() - modified.getTime() > longestMs : run.finishedAt !== null
  }
  const isLapsed = (claim: InProgress | null) => {
    if (claim === null) return false
    const run = history.get(claim.runId)
    // Another sidecar's run is not in our history: only its silence tells.
    return run === null ? isSilent(new Date(claim.heartbeatAt), clock.now()) : run.finishedAt !== null
  }
  const attempt = async (what: string, work: () => Promise<unknown>) => {
    try {
      const removed = await work()
      const count = Array.isArray(removed) ? removed.length : Number(removed)
      if (count > 0) log.info({ removed }, `cleaned up ${what}`)
    } catch (error) {
      log.warn(toFailure(error), `could not clean up ${what}`)
    }
  }
  await attempt('the work folder', () => cleanWorkDir(config.workDir, isLeftover))
  const asking = { clock, signal: leases.signal, patienceMs: 1000 * config.observe.timeoutSeconds }
  const all = repositories.map(({ repository }) => repository)
  const none: readonly Repository[] = []
  const { answering } = await whichAnswer(all, asking).catch(() => ({ answering: none })) // it is being closed
  for (const { repository, storage } of repositories) {
    if (!answering.includes(repository)) continue
    const isOurs = await leases.owns(repository.name)
    await attempt(`half-written files in ${repository.name}`, () => storage.cleanTemporary({ elsewhere: isOurs }))
    if (isOurs) await attempt(`unfinished backups in ${repository.name}`, () => repository.cleanUp({ isLapsed }))
    await attempt(`marks of use in ${repository.name}`, () => removeEndedUses(repository, isOver))
  }
}
