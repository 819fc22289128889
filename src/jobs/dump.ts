import { randomBytes } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../clock.ts'
import type { ValidatedConfig } from '../config/validated.ts'
import { backupId, type Manifest } from '../domain/backup.ts'
import { type Failure, LifeboatError, toFailure } from '../domain/errors.ts'
import { provenStage } from '../encryption/proven.ts'
import { clientEnvironment } from '../postgres/client-environment.ts'
import {
  type ClusterFacts,
  clockOffsetSeconds,
  type DatabaseFacts,
  describeCluster,
  listDatabases,
  selectDatabases,
} from '../postgres/cluster.ts'
import { withSession } from '../postgres/connection.ts'
import { chooseCompression } from '../postgres/dump.ts'
import { chooseClient, findInstallations, type Installation } from '../postgres/installations.ts'
import type { ProgramOptions } from '../postgres/programs.ts'
import type { Repository } from '../repository/repository.ts'
import type { FailedAttempt, Job, JobContext, JobParams } from '../runner/job.ts'
import { Destinations } from './destinations.ts'
import { stageDump } from './dump-database.ts'
import { dumpWarnings } from './dump-warnings.ts'
import { type RetryOptions, withRetries } from './retry.ts'
import { copyDump, storeDump } from './store-dump.ts'
import { makeWorkFolder, removeWorkFolder } from './work-folder.ts'
import { leaveOut, type Writable } from './writable.ts'

export interface DumpJobOptions {
  readonly config: ValidatedConfig
  readonly repositories: readonly Repository[]
  readonly clock: Clock
  readonly writable: Writable
  /** Lifeboat's own version, for the manifest. */
  readonly version: string
  /** 0 to 1, for the waits between attempts. Default Math.random. */
  readonly random?: () => number
}

/**
 * The job `dump`: every database (or the one that params name) is dumped, fingerprinted and stored in every repository that
 * is ours to write to.
 * One that fails does not keep the others from being dumped; the run fails if any did.
 *
 * Params: `{ database: string | null }`.
 */
export function dumpJob(options: DumpJobOptions): Job {
  return {
    name: 'dump',
    lane: 'backup',
    timeoutSeconds: options.config.dump.timeoutSeconds,
    run: (params, context) => runDump(options, params, context),
  }
}

async function runDump(all: DumpJobOptions, params: JobParams, context: JobContext): Promise<void> {
  const { config, clock } = all
  const { signal } = context
  const ours = leaveOut(all.repositories, all.writable, context)
  const destinations = await Destinations.of(ours, { config, clock, signal })
  const options = { ...all, repositories: destinations.answering, destinations }
  const folder = await makeWorkFolder(config.workDir, context.runId)
  try {
    const plan = await retrying(options, context, 'looking at the server', () =>
      preparePlan(options, params, context, folder),
    )
    const failed: DatabaseFailure[] = []
    const total = plan.databases.reduce((sum, { bytes }) => sum + bytes, 0)
    let done = 0
    for (const database of plan.databases) {
      const at = done
      const report = (ratio: number, message: string) =>
        context.progress({ done: Math.round(at + ratio * database.bytes), total, unit: 'bytes', message })
      report(0, `dumping ${database.name}`)
      const failure = await dumpOne(options, plan, database, context, report)
      if (failure !== null) failed.push({ database: database.name, ...failure })
      done += database.bytes
    }
    for (const name of plan.missing) {
      const error = new LifeboatError('database-missing', `database ${JSON.stringify(name)} does not exist`, {
        hint: 'correct postgres.databases',
      })
      failed.push({ database: name, repositories: [], failure: noteFailure(options, context, name, error) })
    }
    if (failed.length > 0) throw summary(failed, plan.databases.length + plan.missing.length)
  } finally {
    await removeWorkFolder(folder)
  }
}

interface Plan {
  readonly cluster: ClusterFacts
  readonly databases: readonly DatabaseFacts[]
  readonly missing: readonly string[]
  readonly installation: Installation
  readonly compression: string
  readonly env: Readonly<Record<string, string>>
  readonly folder: string
  /** What encrypts; null: nothing is encrypted. */
  readonly encrypt: ProgramOptions | null
  /** For every manifest of this run. */
  readonly warnings: readonly string[]
}

/** Everything that can be refused is refused here, before anything is started. */
async function preparePlan(
  { config, clock, repositories }: DumpJobOptions,
  params: JobParams,
  { signal, log }: JobContext,
  folder: string,
): Promise<Plan> {
  const wanted = typeof params.database === 'string' ? [params.database] : config.postgres.databases
  const { cluster, existing, offset } = await withSession(
    config.postgres,
    { database: config.postgres.maintenanceDatabase, signal },
    async (session) => ({
      cluster: await describeCluster(session),
      existing: await listDatabases(session),
      offset: await clockOffsetSeconds(session, () => clock.now()),
    }),
  )
  const { selected, missing } = selectDatabases(existing, wanted)
  if (selected.length === 0 && missing.length === 0) {
    throw new LifeboatError('database-missing', 'the cluster has no database to dump', {
      hint: 'templates are never dumped; list others in postgres.databases',
    })
  }
  const installation = chooseClient(await findInstallations(config.postgres.binDir), cluster.serverMajor)
  const compression = await chooseCompression(installation)
  const env = await clientEnvironment({ source: config.postgres, serverMajor: cluster.serverMajor, workFolder: folder })
  const { systemIdentifier } = cluster
  const warnings = await dumpWarnings({ repositories, systemIdentifier, clockOffsetSeconds: offset, signal, log })
  const encrypt = await provenStage(config.encryption, signal)
  return { cluster, databases: selected, missing, installation, compression, env, folder, encrypt, warnings }
}

/** Dumps and stores one database. Gives the failure when that failed, wholly or in some repositories; cancellation is thrown. */
async function dumpOne(
  options: DumpJobOptions & { readonly destinations: Destinations },
  plan: Plan,
  database: DatabaseFacts,
  context: JobContext,
  report: (ratio: number, message: string) => void,
): Promise<Omit<DatabaseFailure, 'database'> | null> {
  const { clock, config, destinations } = options
  const started = clock.monotonic()
  const id = backupId(clock.now(), 'dump', randomBytes(3).toString('hex'))
  const folder = join(plan.folder, id)
  const log = context.log.child({ database: database.name, backup: id })
  // Asked at the first publication and the same from then on: every repository gets the same manifest.
  let seconds: number | undefined
  const durationSeconds = () => (seconds ??= (clock.monotonic() - started) / 1000)
  try {
    const stage = async () => {
      // What an attempt before has left.
      await rm(folder, { recursive: true, force: true })
      return stageDump({
        ...plan,
        config,
        clock,
        log,
        database,
        folder,
        signal: context.signal,
        onProgress: (ratio, table) => report(ratio * 0.95, `dumping ${table}`),
      })
    }
    const dumped = await retrying(options, context, `dumping ${database.name}`, stage, {
      onWait: (words) => report(0, words),
    })
    const staged = { ...dumped, warnings: [...plan.warnings, ...dumped.warnings] }
    report(0.95, `storing ${database.name}`)
    const about = { id, cluster: config.cluster, database, version: options.version, durationSeconds }
    const all = { ...plan, ...about, facts: plan.cluster, staged, jobs: config.dump.jobs }
    const { encrypt } = plan
    let copied: { readonly repository: Repository; readonly manifest: Manifest } | null = null
    const fill = async (repository: Repository, unless: (error: unknown) => boolean) => {
      const store = async () => {
        if (copied !== null) return copyDump(copied, repository, context)
        const manifest = await storeDump({ ...all, repository }, context)
        if (encrypt !== null) copied = { repository, manifest }
      }
      await retrying(options, context, `storing in ${repository.name}`, store, { unless })
      context.item({ ...itemOf(database.name, clock), outcome: 'succeeded', repository: repository.name, backupId: id })
      log.info(
        { repository: repository.name, seconds: durationSeconds(), warnings: staged.warnings },
        'backup is complete',
      )
    }
    const filled = await destinations.fill(fill, { oneFirst: encrypt !== null })
    context.signal.throwIfAborted() // noted once, below
    let first: Failure | null = null
    const failedIn: string[] = []
    for (const { repository, error } of filled) {
      if (error === null) continue
      const noted = noteFailure(options, context, database.name, error, repository.name)
      first ??= noted
      failedIn.push(repository.name)
    }
    return first === null ? null : { failure: first, repositories: failedIn }
  } catch (error) {
    const { code } = toFailure(error)
    // A run that was cancelled did not fail at this database; one that was cut off or took too long did.
    if (code !== 'cancelled') {
      const failure = noteFailure(options, context, database.name, await explained(options, database, error, context))
      if (!context.signal.aborted) return { failure, repositories: [] }
    }
    throw error
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** Does a part of the run again when it failed for a cause that can pass. */
function retrying<T>(
  { config, clock, random = Math.random }: DumpJobOptions,
  context: JobContext,
  what: string,
  work: () => Promise<T>,
  more: Pick<RetryOptions, 'onWait' | 'unless'> = {},
): Promise<T> {
  const { retries, retryDelayMs: delayMs } = config.runner
  const { signal, log } = context
  const onRetry = (attempt: FailedAttempt) => context.retried(attempt)
  return withRetries({ retries, delayMs, clock, random, signal, log, what, onRetry, ...more }, work)
}

/** A database that was dropped meanwhile shows itself in many ways; the catalog tells which it was. */
async function explained(
  { config }: DumpJobOptions,
  database: DatabaseFacts,
  error: unknown,
  { signal }: JobContext,
): Promise<unknown> {
  const { code } = toFailure(error)
  if (signal.aborted || (code !== 'server-unreachable' && code !== 'program-failed' && code !== 'database-missing'))
    return error
  try {
    // In the database itself: where a drop is not finished yet, connecting waits for it.
    const [row] = await withSession(config.postgres, { database: database.name, signal }, (session) =>
      session.query<{ oid: number }>('select oid from pg_database where datname = current_database()'),
    )
    if (row?.oid === database.oid) return error
  } catch (refused) {
    if (toFailure(refused).code !== 'database-missing') return error // the first failure stands
  }
  return new LifeboatError(
    'database-missing',
    `database ${JSON.stringify(database.name)} was dropped while it was dumped`,
    { cause: error },
  )
}

function noteFailure(
  { clock }: DumpJobOptions,
  context: JobContext,
  database: string,
  error: unknown,
  repository?: string,
): Failure {
  const failure = toFailure(error)
  context.log.error({ database, repository, ...failure }, 'backup failed')
  context.item({
    ...itemOf(database, clock),
    outcome: 'failed',
    failure,
    ...(repository === undefined ? {} : { repository }),
  })
  return failure
}

function itemOf(database: string, clock: Clock) {
  return { backupType: 'dump' as const, database, finishedAt: clock.now().toISOString() }
}

interface DatabaseFailure {
  readonly database: string
  /** Where it could not be stored; none: it could not be dumped at all. */
  readonly repositories: readonly string[]
  readonly failure: Failure
}

/** The run's own failure carries the first one's code and hint, and says how many there were. */
function summary(failed: readonly DatabaseFailure[], of: number): LifeboatError {
  const [first] = failed as readonly [DatabaseFailure]
  const words = failed.map(({ database, repositories, failure }) => {
    const where = repositories.length === 0 ? '' : ` in ${repositories.join(', ')}`
    return `${JSON.stringify(database)}${where} (${failure.message})`
  })
  // What is missing in one repository may be whole in another.
  const only = of === 1 && first.repositories.length === 0
  const extent = failed.some(({ repositories }) => repositories.length === 0) ? '' : ' everywhere'
  const message = only
    ? first.failure.message
    : `${failed.length} of ${of} databases could not be backed up${extent}: ${words.join('; ')}`
  return new LifeboatError(
    first.failure.code,
    message,
    first.failure.hint === undefined ? {} : { hint: first.failure.hint },
  )
}
