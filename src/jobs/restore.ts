import type { Clock } from '../clock.ts'
import type { ValidatedConfig } from '../config/validated.ts'
import type { Manifest } from '../domain/backup.ts'
import { LifeboatError } from '../domain/errors.ts'
import { wishOf } from '../domain/restore-wish.ts'
import { clientEnvironment } from '../postgres/client-environment.ts'
import { describeCluster } from '../postgres/cluster.ts'
import { type ConnectionSource, withSession } from '../postgres/connection.ts'
import { chooseClient, findInstallations } from '../postgres/installations.ts'
import { leftBehind } from '../postgres/replaced-database.ts'
import { restoreSettings } from '../postgres/restore.ts'
import { asideName, swapDatabases } from '../postgres/swap-databases.ts'
import type { Repository } from '../repository/repository.ts'
import type { Job, JobContext, JobParams } from '../runner/job.ts'
import { parseFingerprint } from './fingerprint-artifact.ts'
import { markCopies } from './in-use.ts'
import type { LiveServer } from './newest-dumps.ts'
import { restoreCluster } from './restore-cluster.ts'
import type { ClusterRestoreOptions } from './restore-cluster-plan.ts'
import { compareRestored, dropDatabase, restoreDatabase } from './restore-database.ts'
import { type BackupCopy, chooseBackup, fetchFromAny } from './restore-source.ts'
import { dumpMajor, type FetchedArtifacts } from './verify-artifacts.ts'
import { makeWorkFolder, removeWorkFolder } from './work-folder.ts'

export interface RestoreJobOptions {
  readonly config: ValidatedConfig
  readonly repositories: readonly Repository[]
  readonly clock: Clock
  /** The server that is looked after, which says whose newest backup is meant; null when it cannot be asked. */
  readonly server: (signal: AbortSignal) => Promise<LiveServer | null>
  /** The server to restore into. */
  readonly target: ConnectionSource
  /** For restores of the whole cluster. */
  readonly cluster: Pick<ClusterRestoreOptions, 'plan' | 'run' | 'program'>
}

/**
 * The job `restore`: a dump becomes a new database. A database that exists is never touched: with `replace` the dump is
 * restored beside it, compared with its fingerprint, and the names are swapped; the old one is kept under a dated name.
 *
 * Params: `{ backup: id | null, database: name | null (its newest backup), repository: name | null,
 * target: name | null (default: the original one), replace: boolean, noOwner: boolean, compare: boolean,
 * foreign: boolean (replace also a database of another cluster than the backup's) }`. Params with `to` are those of a restore
 * of the whole cluster into a directory (domain/restore-wish.ts).
 */
export function restoreJob(options: RestoreJobOptions): Job {
  return {
    name: 'restore',
    lane: 'restore',
    timeoutSeconds: Math.max(options.config.verification.timeoutSeconds, options.config.physical.timeoutSeconds),
    run: (params, context) => {
      const wish = wishOf(params)
      return wish === null
        ? runRestore(options, params, context)
        : restoreCluster({ ...options, ...options.cluster }, wish, context)
    },
  }
}

async function runRestore(options: RestoreJobOptions, params: JobParams, context: JobContext): Promise<void> {
  const { config, clock, target } = options
  const { signal } = context
  const report = (done: number, message: string) =>
    context.progress({ done: Math.round(done * 100), total: 100, unit: 'percent', message })
  const { copies: chosen, passedOver } = await chooseBackup(options, params, context)
  const [{ manifest }] = chosen as readonly [BackupCopy]
  const source = manifest.database?.name ?? ''
  const wanted = typeof params.target === 'string' ? params.target : source
  const at = clock.now()
  const name = params.replace === true ? asideName(wanted, 'restored', at) : wanted
  const use = await markCopies(chosen, manifest.backupId, context)
  const folder = await makeWorkFolder(config.workDir, context.runId).catch(async (error: unknown) => {
    await use.release()
    throw error
  })
  try {
    const installations = await findInstallations(config.postgres.binDir)
    const { systemIdentifier, serverMajor } = await withSession(
      target,
      { database: config.postgres.maintenanceDatabase, signal },
      describeCluster,
    )
    const isForeign = manifest.systemIdentifier !== systemIdentifier
    if (isForeign && params.replace === true && params.foreign !== true) throw foreignBackup(manifest, systemIdentifier)
    report(0, `reading ${manifest.backupId}`)
    const { repositories, fetched } = await fetchFromAny(options, use.copies, { folder, installations }, context)
    const env = await clientEnvironment({
      source: target,
      serverMajor,
      workFolder: folder,
      settings: restoreSettings(serverMajor),
    })
    const work = {
      manifest,
      folder,
      env,
      target,
      name,
      signal,
      directory: fetched.directory as string,
      installation: chooseClient(installations, Math.max(serverMajor, dumpMajor(manifest))),
      maintenanceDatabase: config.postgres.maintenanceDatabase,
      jobs: config.verification.jobs,
      noOwner: params.noOwner === true,
      onTable: (table: string) => report(0.3, `restoring ${table}`),
    }
    report(0.2, `restoring into ${name}`)
    await restoreDatabase(work)
    const warnings = isForeign ? [`the backup is of another cluster, ${manifest.systemIdentifier}`] : []
    if (passedOver.length > 0) {
      warnings.push(`newer backups were passed over, since their verification failed: ${passedOver.join(', ')}`)
    }
    if (repositories.length > 1)
      warnings.push(`no repository has all of it whole: it was read from ${repositories.join(' and ')}`)
    if (params.compare !== false) {
      report(0.8, 'comparing with the fingerprint')
      warnings.push(...(await compare(work, fetched)))
    }
    const kept = asideName(wanted, 'before', at)
    if (params.replace === true) warnings.push(...(await replace(work, wanted, kept, context)))
    for (const warning of warnings) context.log.warn({ backup: manifest.backupId }, warning)
    report(
      1,
      params.replace === true
        ? `the database ${JSON.stringify(wanted)} is the restored one; the former one is ${JSON.stringify(kept)}`
        : `the database is ${JSON.stringify(name)}`,
    )
    context.item({
      outcome: 'succeeded',
      backupType: manifest.type,
      database: source,
      repository: repositories[0] ?? '',
      backupId: manifest.backupId,
      finishedAt: clock.now().toISOString(),
      ...(warnings.length > 0 ? { warnings } : {}),
    })
    context.log.info(
      { backup: manifest.backupId, database: params.replace === true ? wanted : name },
      'restore is complete',
    )
  } finally {
    await use.release()
    await removeWorkFolder(folder)
  }
}

function foreignBackup({ backupId, systemIdentifier }: Manifest, found: string): LifeboatError {
  return new LifeboatError(
    'usage-invalid',
    `backup ${backupId} is of the cluster ${systemIdentifier}, and the server to restore into is ${found}`,
    { hint: 'restore it under another name with --to, or say --force-foreign if it shall replace a database there' },
  )
}

/** Gives what could not be compared, in words. */
async function compare(
  work: Parameters<typeof restoreDatabase>[0],
  fetched: FetchedArtifacts,
): Promise<readonly string[]> {
  const fingerprint = parseFingerprint(fetched.files)
  if (fingerprint === null) return ['the backup has no fingerprint: what was restored could not be compared']
  const checks = await compareRestored(work, fingerprint)
  const wrong = checks.filter(({ verdict }) => verdict === 'fail')
  if (wrong.length === 0)
    return checks
      .filter(({ verdict }) => verdict === 'inconclusive')
      .map(({ name, detail }) => `not all could be compared: ${name}: ${detail}`)
  throw new LifeboatError(
    'verification-failed',
    `restored, but not equal to the source: ${wrong.map(({ name, detail }) => `${name}: ${detail}`).join('; ')}`,
    {
      hint: `the new database ${JSON.stringify(work.name)} is kept for you to look at; the names were not swapped`,
    },
  )
}

async function replace(
  work: Parameters<typeof restoreDatabase>[0],
  wanted: string,
  kept: string,
  { log }: JobContext,
): Promise<readonly string[]> {
  const { target, maintenanceDatabase, name, signal } = work
  const database = [maintenanceDatabase, 'postgres', 'template1'].find((one) => one !== wanted) as string
  const warnings = await withSession(target, { database, signal }, async (session) => {
    const [exists] = await session.query<{ exists: boolean }>(
      'select exists (select from pg_database where datname = $1)',
      [wanted],
    )
    if (exists?.exists !== true) {
      await dropDatabase(work)
      throw new LifeboatError('not-found', `there is no database ${JSON.stringify(wanted)} to replace`, {
        hint: 'restore without --replace',
      })
    }
    const found = await leftBehind(session, { name: wanted, replacement: name })
    await swapDatabases(session, { name: wanted, replacement: name, kept })
    return found
  })
  log.info({ kept }, 'names swapped; the former database is kept')
  return warnings
}
