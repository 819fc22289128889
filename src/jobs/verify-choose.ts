import type { Clock } from '../clock.ts'
import type { ValidatedConfig } from '../config/validated.ts'
import { isBackupId, isExternalId, type Manifest, parseBackupId } from '../domain/backup.ts'
import { LifeboatError, toFailure } from '../domain/errors.ts'
import type { Proof } from '../domain/proof.ts'
import { whichAnswer } from '../fetch/answering.ts'
import { chooseRepositories } from '../repository/choose.ts'
import type { Repository } from '../repository/repository.ts'
import type { JobContext, JobParams } from '../runner/job.ts'
import { hintOfOthers, type LiveServer, newestDumps, ofLiveCluster } from './newest-dumps.ts'
import { newestPhysical } from './newest-physical.ts'
import { type ReplayTarget, replayTarget } from './replay-target.ts'
import type { ExternalTarget } from './verify-external.ts'

export interface VerifyJobOptions {
  readonly config: ValidatedConfig
  readonly repositories: readonly Repository[]
  readonly clock: Clock
  readonly version: string
  /** To leave backups of other clusters and of dropped databases alone; null when the server cannot be asked. */
  readonly server: (signal: AbortSignal) => Promise<LiveServer | null>
  /** Files of other tools, in the directories that are watched. */
  readonly externals: Externals
}

export interface Externals {
  /** Names of the watched directories. */
  readonly watches: readonly string[]
  /** The file with that id in any of the directories, or the newest of each database (or of one) in one of them. */
  find(
    wanted: { readonly watch: string | null; readonly id: string | null; readonly database: string | null },
    signal: AbortSignal,
  ): Promise<readonly ExternalTarget[]>
  keepProof(proof: Proof): void
}

/** One backup to look at. The manifest is null where it could not be read. */
export interface VerifyTarget {
  readonly repository: Repository
  readonly backupId: string
  readonly manifest: Manifest | null
}

/**
 * What a verification is to look at. What keeps one place from being looked at is added to the failures, and keeps no
 * other from being verified.
 *
 * @throws LifeboatError `not-found` when there is nothing to verify anywhere
 */
export async function chooseWork(
  options: VerifyJobOptions,
  params: JobParams,
  context: JobContext,
  failures: LifeboatError[],
): Promise<readonly (VerifyTarget | ExternalTarget)[]> {
  const target = replayTarget(params)
  const externals = target === null ? await chooseExternals(options, params, context, failures) : []
  const targets = isExternalOnly(options, params) ? [] : await chooseTargets(options, params, context, failures)
  return [...targets, ...externals]
}

/** True when what is asked for can only be a file of another tool, or there is no repository at all. */
function isExternalOnly({ externals, repositories }: VerifyJobOptions, { backup, repository }: JobParams): boolean {
  if (repositories.length === 0) return true
  if (typeof backup === 'string') return isExternalId(backup)
  return typeof repository === 'string' && externals.watches.includes(repository)
}

async function chooseExternals(
  { externals, repositories }: VerifyJobOptions,
  { backup, repository, database }: JobParams,
  { signal, log }: JobContext,
  failures: LifeboatError[],
): Promise<readonly ExternalTarget[]> {
  const id = typeof backup === 'string' ? backup : null
  if (id !== null && !isExternalId(id)) return []
  const isRepository = typeof repository === 'string' && repositories.some(({ name }) => name === repository)
  if (isRepository) return []
  const watches = typeof repository === 'string' ? [repository] : externals.watches
  const found: ExternalTarget[] = []
  for (const watch of watches.filter((name) => externals.watches.includes(name))) {
    try {
      found.push(
        ...(await externals.find({ watch, id, database: typeof database === 'string' ? database : null }, signal)),
      )
    } catch (error) {
      signal.throwIfAborted()
      if (!(error instanceof LifeboatError)) throw error
      log.error({ watch, ...toFailure(error) }, 'watched directory cannot be read')
      failures.push(error)
    }
  }
  if (found.length === 0 && failures[0] === undefined && (id !== null || repositories.length === 0)) {
    const what = id === null ? 'no finished file to verify' : `no file ${id}`
    throw new LifeboatError('not-found', `there is ${what} in the watched directories`, {
      hint: '`lifeboat list` shows them',
    })
  }
  return found
}

/** A repository that cannot be read, or holds nothing, is added to the failures, and keeps no other from being verified. */
async function chooseTargets(
  { config, repositories, server, clock }: VerifyJobOptions,
  params: JobParams,
  { signal, log }: JobContext,
  failures: LifeboatError[],
): Promise<readonly VerifyTarget[]> {
  const { backup, repository: wanted, database } = params
  const target = replayTarget(params)
  const chosen = chooseRepositories(repositories, wanted)
  if (target !== null && typeof backup === 'string' && parseBackupId(backup)?.type === 'dump')
    throw new LifeboatError('usage-invalid', `${backup} is a dump: only a physical backup can be replayed to a moment`)
  const patienceMs = 1000 * config.observe.timeoutSeconds
  const { answering, silent } = await whichAnswer(chosen, { clock, signal, patienceMs })
  for (const { repository, error } of silent) {
    log.error({ repository: repository.name, ...toFailure(error) }, 'repository cannot be verified')
    failures.push(error)
  }
  if (typeof backup === 'string') return findBackup(answering, backup, signal)
  const live = await server(signal)
  signal.throwIfAborted()
  const only = typeof database === 'string' ? [database] : (config.postgres.databases ?? live?.databases ?? null)
  const targets: VerifyTarget[] = []
  for (const repository of answering) {
    try {
      const options = { signal, log, now: clock.now() }
      // A moment is one of the whole cluster, and a database that is named is one of dumps.
      const dumps = target === null ? await newestDumps(repository, only, options) : []
      const until = target === null || target === 'latest' ? null : target.at
      const which = { until, ofEachType: target === null }
      const physical = typeof database === 'string' ? [] : await newestPhysical(repository, { ...options, ...which })
      const found = [...dumps, ...physical]
      const manifests = ofLiveCluster(found, live?.systemIdentifier ?? null)
      if (manifests.length === 0) throw nothingToVerify(repository.name, { database, target }, found)
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
function nothingToVerify(
  repository: string,
  { database, target }: { readonly database: unknown; readonly target: ReplayTarget | null },
  others: readonly Manifest[],
): LifeboatError {
  const before = target === null || target === 'latest' ? '' : ` that was consistent at ${target.text}`
  const kind = target === null ? 'backup to verify' : `physical backup${before}`
  const what = typeof database === 'string' ? `no backup of ${JSON.stringify(database)}` : `no ${kind}`
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
