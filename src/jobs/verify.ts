import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../clock.ts'
import { parseBackupId } from '../domain/backup.ts'
import { LifeboatError, toFailure } from '../domain/errors.ts'
import { overallVerdict, type VerificationLevel, verificationLevels } from '../domain/proof.ts'
import type { BackupUse } from '../repository/repository.ts'
import type { Job, JobContext, JobParams, RunItem } from '../runner/job.ts'
import { markInUse } from './in-use.ts'
import { type ReplayTarget, replayTarget } from './replay-target.ts'
import { timeForNext } from './target-time.ts'
import { proofFailure, type VerifiedBackup, verifyBackup } from './verify-backup.ts'
import { chooseWork, type VerifyJobOptions, type VerifyTarget } from './verify-choose.ts'
import { type ExternalTarget, verifyExternal } from './verify-external.ts'
import { makePassable, makeWorkFolder, removeWorkFolder } from './work-folder.ts'

/**
 * The job `verify`: one backup, or the newest of every database in every repository and watched directory, and the newest
 * full and incremental one of every repository, up to a level.
 * The smallest comes first, see `timeForNext`.
 *
 * Params: `{ backup: id | null, repository: name | null, database: name | null, level, rehash: boolean, at?: time | 'latest' }`.
 */
export function verifyJob(options: VerifyJobOptions): Job {
  return {
    name: 'verify',
    lane: 'verify',
    timeoutSeconds: options.config.verification.timeoutSeconds,
    run: (params, context) => runVerify(options, params, context),
  }
}

/** What is to be done with one target of a run. */
interface Work<Target> {
  readonly target: Target
  readonly level: VerificationLevel
  readonly folder: string
  readonly limitMs: number
  readonly report: (ratio: number, message: string) => void
}

async function runVerify(options: VerifyJobOptions, params: JobParams, context: JobContext): Promise<void> {
  const { config, clock } = options
  const begunAt = clock.monotonic()
  const level = levelOf(params, config.verification.level)
  const until = replayTarget(params)
  if (until !== null && level === 'artifact')
    throw new LifeboatError('usage-invalid', 'at level artifact nothing is replayed to a moment', {
      hint: 'choose level restore or data',
    })
  const failures: LifeboatError[] = []
  const chosen = await chooseWork(options, params, context, failures)
  const targets = chosen.toSorted((a, b) => bytesOf(a) - bytesOf(b))
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
      report(0, `verifying ${'id' in target ? target.id : target.backupId}`)
      const isLast = index === targets.length - 1
      const limitMs = timeForNext(config.verification, { spentMs: clock.monotonic() - begunAt, isLast })
      const failure =
        'id' in target
          ? await verifyFile(options, { target, level, folder, limitMs, report }, context)
          : await verifyTarget(
              options,
              { target, level, rehash: params.rehash === true, until, folder, limitMs, report },
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

/** What is read of it, and of a physical backup what becomes of it; what cannot be read is quickly done. */
function bytesOf(target: VerifyTarget | ExternalTarget): number {
  if ('id' in target) return target.bytes
  if (target.manifest?.physical !== undefined) return target.manifest.physical.sourceBytes
  return (target.manifest?.artifacts ?? []).reduce((sum, { stored }) => sum + stored.bytes, 0)
}

async function verifyTarget(
  { config, clock, version, repositories }: VerifyJobOptions,
  work: Work<VerifyTarget> & { readonly rehash: boolean; readonly until: ReplayTarget | null },
  context: JobContext,
): Promise<LifeboatError | null> {
  const { repository, backupId } = work.target
  const folder = join(work.folder, `${repository.name}-${backupId}`)
  await makePassable(folder)
  const log = context.log.child({ repository: repository.name, backup: backupId })
  let use: BackupUse | null = null
  const proved = async () => {
    use = await markInUse(repository, backupId, 'verify', context)
    return verifyBackup({
      config,
      clock,
      log,
      version,
      repository,
      others: repositories.filter((one) => one !== repository),
      backupId,
      folder,
      signal: context.signal,
      limitMs: work.limitMs,
      level: work.level,
      rehash: work.rehash,
      target: work.until,
      onProgress: work.report,
    })
  }
  const about = {
    backupType: parseBackupId(backupId)?.type ?? 'dump',
    database: work.target.manifest?.database?.name ?? '',
    repository: repository.name,
  }
  try {
    return await conclude(backupId, about, proved, { clock, log, context })
  } finally {
    await (use as BackupUse | null)?.release()
    await removeOrLeave(() => rm(folder, { recursive: true, force: true }), folder, log)
  }
}

/** Has one backup verified, and notes what came of it as an item of the run. */
async function conclude(
  backupId: string,
  about: { readonly backupType: RunItem['backupType']; readonly database: string; readonly repository: string },
  work: () => Promise<VerifiedBackup>,
  { clock, log, context }: { clock: Clock; log: JobContext['log']; context: JobContext },
): Promise<LifeboatError | null> {
  try {
    const verified = await work()
    const verdict = overallVerdict(verified.proof)
    const failure = verdict === 'pass' ? null : proofFailure(verified, verdict, about)
    context.item({
      ...about,
      backupId,
      verdict,
      outcome: failure === null ? 'succeeded' : 'failed',
      finishedAt: verified.proof.finishedAt,
      ...(failure === null ? {} : { failure: toFailure(failure) }),
    })
    log[failure === null ? 'info' : 'error'](
      {
        database: about.database,
        verdict,
        phases: verified.proof.phases,
        ...(failure === null ? {} : toFailure(failure)),
      },
      'verification ended',
    )
    return failure
  } catch (error) {
    context.signal.throwIfAborted()
    const failure = toFailure(error)
    log.error({ database: about.database, ...failure }, 'verification could not be done')
    context.item({ ...about, backupId, outcome: 'failed', failure, finishedAt: clock.now().toISOString() })
    return error instanceof LifeboatError ? error : new LifeboatError('unexpected', failure.message, { cause: error })
  }
}

async function verifyFile(
  { config, clock, version, externals }: VerifyJobOptions,
  work: Work<ExternalTarget>,
  context: JobContext,
): Promise<LifeboatError | null> {
  const { target, limitMs, level, report: onProgress } = work
  const folder = join(work.folder, target.id)
  await makePassable(folder)
  const log = context.log.child({ repository: target.watch, backup: target.id, file: target.path })
  const { signal } = context
  const proved = async () => {
    const options = { config, clock, log, signal, limitMs, version, target, level, folder, onProgress }
    const proof = await verifyExternal(options)
    externals.keepProof(proof)
    return { manifest: null, proof }
  }
  try {
    return await conclude(
      target.id,
      { backupType: 'external', database: target.database, repository: target.watch },
      proved,
      {
        clock,
        log,
        context,
      },
    )
  } finally {
    await removeOrLeave(() => rm(folder, { recursive: true, force: true }), folder, log)
  }
}

/** Where a folder resists, the verdict counts all the same: it is left to `tidy`. */
async function removeOrLeave(remove: () => Promise<void>, folder: string, log: JobContext['log']): Promise<void> {
  await remove().catch((error: unknown) => {
    log.warn({ folder, ...toFailure(error) }, 'the work folder could not be removed')
  })
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
