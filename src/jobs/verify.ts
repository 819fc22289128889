import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../clock.ts'
import type { ValidatedConfig } from '../config/validated.ts'
import { isBackupId, type Manifest } from '../domain/backup.ts'
import { LifeboatError, toFailure } from '../domain/errors.ts'
import { overallVerdict, type VerificationLevel, verificationLevels } from '../domain/proof.ts'
import { chooseRepositories } from '../repository/choose.ts'
import type { BackupUse, Repository } from '../repository/repository.ts'
import type { Job, JobContext, JobParams } from '../runner/job.ts'
import { markInUse } from './in-use.ts'
import { hintOfOthers, type LiveServer, newestDumps, ofLiveCluster } from './newest-dumps.ts'
import { proofFailure, verifyBackup } from './verify-backup.ts'
import { makeWorkFolder, removeWorkFolder } from './work-folder.ts'

export interface VerifyJobOptions {
  readonly config: ValidatedConfig
  readonly repositories: readonly Repository[]
  readonly clock: Clock
  readonly version: string
  /** To leave backups of other clusters and of dropped databases alone; null when the server cannot be asked. */
  readonly server: (signal: AbortSignal) => Promise<LiveServer | null>
}

/**
 * The job `verify`: one backup, or the newest of every database in every repository, up to a level.
 *
 * Params: `{ backup: id | null, repository: name | null, database: name | null, level, rehash: boolean }`.
 */
export function verifyJob(options: VerifyJobOptions): Job {
  return {
    name: 'verify',
    lane: 'verify',
    timeoutSeconds: options.config.verification.timeoutSeconds,
    run: (params, context) => runVerify(options, params, context),
  }
}

/** One backup to look at. The manifest is null where it could not be read. */
interface VerifyTarget {
  readonly repository: Repository
  readonly backupId: string
  readonly manifest: Manifest | null
}

async function runVerify(options: VerifyJobOptions, params: JobParams, context: JobContext): Promise<void> {
  const { config } = options
  const level = levelOf(params, config.verification.level)
  const failures: LifeboatError[] = []
  const targets = await chooseTargets(options, params, context, failures)
  const folder = await makeWorkFolder(config.workDir, context.runId)
  try {
    for (const [index, target] of targets.entries()) {
      const report = (ratio: number, message: string) =>
        context.progress({
          done: Math.round((index + ratio) * 1000) / 1000,
          total: targets.length,
          unit: 'backups',
          message,
        })
      report(0, `verifying ${target.backupId}`)
      const failure = await verifyTarget(
        options,
        { target, level, rehash: params.rehash === true, folder, report },
        context,
      )
      if (failure !== null) failures.push(failure)
    }
  } finally {
    await removeOrLeave(() => removeWorkFolder(folder), folder, context.log)
  }
  const worst = failures.find(({ code }) => code === 'verification-failed') ?? failures[0]
  if (worst !== undefined) throw worst
}

async function verifyTarget(
  { config, clock, version }: VerifyJobOptions,
  work: {
    target: VerifyTarget
    level: VerificationLevel
    rehash: boolean
    folder: string
    report: (ratio: number, message: string) => void
  },
  context: JobContext,
): Promise<LifeboatError | null> {
  const { repository, backupId } = work.target
  const folder = join(work.folder, `${repository.name}-${backupId}`)
  await mkdir(folder, { mode: 0o711 })
  const log = context.log.child({ repository: repository.name, backup: backupId })
  const item = {
    backupType: 'dump' as const,
    database: work.target.manifest?.database?.name ?? '',
    repository: repository.name,
    backupId,
  }
  let use: BackupUse | null = null
  try {
    use = await markInUse(repository, backupId, 'verify', context)
    const verified = await verifyBackup({
      config,
      clock,
      log,
      version,
      repository,
      backupId,
      folder,
      signal: context.signal,
      level: work.level,
      rehash: work.rehash,
      onProgress: work.report,
    })
    const verdict = overallVerdict(verified.proof)
    const failure = verdict === 'pass' ? null : proofFailure(verified, verdict)
    context.item({
      ...item,
      verdict,
      outcome: failure === null ? 'succeeded' : 'failed',
      finishedAt: verified.proof.finishedAt,
      ...(failure === null ? {} : { failure: toFailure(failure) }),
    })
    log[failure === null ? 'info' : 'error'](
      { verdict, phases: verified.proof.phases, ...(failure === null ? {} : toFailure(failure)) },
      'verification ended',
    )
    return failure
  } catch (error) {
    context.signal.throwIfAborted()
    const failure = toFailure(error)
    log.error(failure, 'verification could not be done')
    context.item({ ...item, outcome: 'failed', failure, finishedAt: clock.now().toISOString() })
    return error instanceof LifeboatError ? error : new LifeboatError('unexpected', failure.message, { cause: error })
  } finally {
    await use?.release()
    await removeOrLeave(() => rm(folder, { recursive: true, force: true }), folder, log)
  }
}

/** Where a folder resists, the verdict counts all the same: it is left to `tidy`. */
async function removeOrLeave(remove: () => Promise<void>, folder: string, log: JobContext['log']): Promise<void> {
  await remove().catch((error: unknown) => {
    log.warn({ folder, ...toFailure(error) }, 'the work folder could not be removed')
  })
}

/** A repository that cannot be read, or holds nothing, is added to the failures, and keeps no other from being verified. */
async function chooseTargets(
  { config, repositories, server, clock }: VerifyJobOptions,
  params: JobParams,
  { signal, log }: JobContext,
  failures: LifeboatError[],
): Promise<readonly VerifyTarget[]> {
  const { backup, repository: wanted, database } = params
  const chosen = chooseRepositories(repositories, wanted)
  if (typeof backup === 'string') return findBackup(chosen, backup, signal)
  const live = await server(signal)
  signal.throwIfAborted()
  const only = typeof database === 'string' ? [database] : (config.postgres.databases ?? live?.databases ?? null)
  const targets: VerifyTarget[] = []
  for (const repository of chosen) {
    try {
      const dumps = await newestDumps(repository, only, { signal, log, now: clock.now() })
      const manifests = ofLiveCluster(dumps, live?.systemIdentifier ?? null)
      if (manifests.length === 0) throw nothingToVerify(repository.name, database, dumps)
      for (const manifest of manifests) targets.push({ repository, backupId: manifest.backupId, manifest })
    } catch (error) {
      signal.throwIfAborted()
      if (!(error instanceof LifeboatError)) throw error
      log.error({ repository: repository.name, ...toFailure(error) }, 'repository cannot be verified')
      failures.push(error)
    }
  }
  if (targets.length === 0 && failures[0] !== undefined) throw failures[0]
  return targets
}

/** Each repository is meant to be a full copy, so an empty one (a disk that is not mounted) must not go unnoticed. */
function nothingToVerify(repository: string, database: unknown, others: readonly Manifest[]): LifeboatError {
  const what = typeof database === 'string' ? `no backup of ${JSON.stringify(database)}` : 'no backup to verify'
  return new LifeboatError('not-found', `there is ${what} in repository ${repository}`, {
    hint:
      hintOfOthers(others) ?? 'take one first: lifeboat backup; if there were some, see whether its disk is mounted',
  })
}

async function findBackup(
  repositories: readonly Repository[],
  backupId: string,
  signal: AbortSignal,
): Promise<readonly VerifyTarget[]> {
  if (!isBackupId(backupId))
    throw new LifeboatError('usage-invalid', `${JSON.stringify(backupId)} is not a backup id`, {
      hint: '`lifeboat list` shows them',
    })
  const targets: VerifyTarget[] = []
  for (const repository of repositories) {
    if ((await repository.headManifest(backupId, { signal })) === null) continue
    const manifest = await repository.readManifest(backupId, { signal }).catch(() => null) // the verification says what is wrong with it
    signal.throwIfAborted()
    targets.push({ repository, backupId, manifest })
  }
  if (targets.length === 0)
    throw new LifeboatError('not-found', `there is no backup ${backupId}`, { hint: '`lifeboat list` shows them' })
  return targets
}

function levelOf(params: JobParams, fallback: VerificationLevel): VerificationLevel {
  const level = params.level ?? fallback
  const found = verificationLevels.find((name) => name === level)
  if (found === undefined)
    throw new LifeboatError('usage-invalid', `${JSON.stringify(level)} is not a level`, {
      hint: `one of ${verificationLevels.join(', ')}`,
    })
  return found
}
