import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Manifest } from '../domain/backup.ts'
import { LifeboatError, toFailure } from '../domain/errors.ts'
import type { Installation } from '../postgres/installations.ts'
import { workMarker } from '../postgres/orphans.ts'
import { cleanEnvironment } from '../postgres/programs.ts'
import { chooseRepositories } from '../repository/choose.ts'
import type { Repository } from '../repository/repository.ts'
import type { JobContext, JobParams } from '../runner/job.ts'
import { LevelRecorder } from './level-recorder.ts'
import { compareDumps, hintOfOthers, ofLiveCluster } from './newest-dumps.ts'
import type { RestoreJobOptions } from './restore.ts'
import { newestSoundDumps } from './sound-dumps.ts'
import { unseal } from './unseal.ts'
import { type FetchedArtifacts, verifyArtifacts } from './verify-artifacts.ts'

/** One copy of a backup. */
export interface BackupCopy {
  readonly repository: Repository
  readonly manifest: Manifest
}

export interface Choice {
  readonly copies: readonly BackupCopy[]
  /** Ids of newer backups whose verification failed. */
  readonly passedOver: readonly string[]
}

/**
 * Every copy of the backup that was named, or of the newest one of the database that was named, wherever that is: the
 * first repository may have missed it. The newest is one of the cluster that is looked after, and none that a verification
 * has refuted; another one must be named.
 */
export async function chooseBackup(
  { repositories, server, clock }: RestoreJobOptions,
  params: JobParams,
  { signal, log }: JobContext,
): Promise<Choice> {
  const { backup, database, repository: wanted } = params
  const found: BackupCopy[] = []
  const passedOver: Manifest[] = []
  const problems: unknown[] = []
  for (const repository of chooseRepositories(repositories, wanted)) {
    try {
      const options = { signal, log, now: clock.now() }
      const { sound, refuted } =
        typeof backup === 'string'
          ? { sound: [await repository.readManifest(backup, { signal })], refuted: [] }
          : await newestSoundDumps(repository, typeof database === 'string' ? [database] : null, options)
      found.push(...sound.map((manifest) => ({ repository, manifest })))
      passedOver.push(...refuted)
    } catch (error) {
      signal.throwIfAborted()
      log.warn({ repository: repository.name, ...toFailure(error) }, 'repository has no usable copy')
      problems.push(error) // another repository may have a good copy
    }
  }
  const all = found.map(({ manifest }) => manifest)
  const usable = typeof backup === 'string' ? all : await ofOwnCluster(all, server, signal)
  const copies = found.filter(({ manifest }) => usable.includes(manifest))
  const names = new Set(copies.map(({ manifest }) => manifest.database?.name))
  if (names.size > 1) {
    throw new LifeboatError('usage-invalid', 'there are backups of several databases', {
      hint: `name one: ${[...names].map((name) => JSON.stringify(name)).join(', ')}`,
    })
  }
  const newest = usable.toSorted(compareDumps).at(-1)
  if (newest !== undefined) {
    return {
      copies: copies.filter(({ manifest }) => manifest.backupId === newest.backupId),
      passedOver: passedOver
        .filter((one) => one.systemIdentifier === newest.systemIdentifier && compareDumps(one, newest) > 0)
        .map(({ backupId }) => backupId),
    }
  }
  const telling = problems.find((error) => toFailure(error).code !== 'manifest-missing')
  if (telling !== undefined) throw telling
  if (passedOver.length > 0) {
    throw new LifeboatError('verification-failed', 'no backup of it is left whose verification did not fail', {
      hint: `name one by its id to restore it all the same: ${passedOver.map(({ backupId }) => backupId).join(', ')}`,
    })
  }
  const what = typeof backup === 'string' ? `backup ${backup}` : `backup of the database ${JSON.stringify(database)}`
  throw new LifeboatError('not-found', `there is no ${what}`, {
    hint: hintOfOthers(all) ?? '`lifeboat list` shows them',
  })
}

/** The server is asked only when there is something to choose. */
async function ofOwnCluster(
  dumps: readonly Manifest[],
  server: RestoreJobOptions['server'],
  signal: AbortSignal,
): Promise<readonly Manifest[]> {
  const live = dumps.length === 0 ? null : await server(signal)
  signal.throwIfAborted()
  return ofLiveCluster(dumps, live?.systemIdentifier ?? null)
}

/**
 * Fetches the backup from the first repository whose copy is whole. Never an older backup instead: what is missing in it
 * would be lost without a word.
 */
export async function fetchFromAny(
  options: RestoreJobOptions,
  copies: readonly BackupCopy[],
  work: { folder: string; installations: readonly Installation[] },
  { signal, log }: JobContext,
): Promise<BackupCopy & { readonly fetched: FetchedArtifacts }> {
  const problems: unknown[] = []
  for (const copy of copies) {
    const folder = join(work.folder, copy.repository.name)
    try {
      await mkdir(folder, { mode: 0o700 })
      return { ...copy, fetched: await fetchWhole(options, { ...copy, ...work, folder, signal }) }
    } catch (error) {
      signal.throwIfAborted()
      log.error({ repository: copy.repository.name, ...toFailure(error) }, 'this copy cannot be used')
      problems.push(error)
      await rm(folder, { recursive: true, force: true })
    }
  }
  throw problems[0]
}

/** Reads and checks every artifact: nothing is restored from bytes that are not the ones that were stored. */
async function fetchWhole(
  { config, clock }: RestoreJobOptions,
  work: {
    repository: Repository
    manifest: Manifest
    folder: string
    installations: readonly Installation[]
    signal: AbortSignal
  },
): Promise<FetchedArtifacts> {
  const { repository, signal } = work
  await unseal(config.encryption, work.manifest, { repositories: [repository], signal })
  const recorder = new LevelRecorder(clock)
  const fetched = await verifyArtifacts(
    {
      ...work,
      clock,
      encryption: config.encryption,
      isOpen: true,
      env: cleanEnvironment({ [workMarker]: work.folder }),
      earlier: null,
      reproofSeconds: config.verification.reproofSeconds,
      rehash: true,
      unpack: true,
      onBytes: () => {},
    },
    recorder,
  )
  if (fetched !== null && fetched.directory !== null) return fetched
  const wrong = recorder.result().checks.find(({ verdict }) => verdict !== 'pass')
  throw new LifeboatError('artifact-invalid', `the backup cannot be used: ${wrong?.name}: ${wrong?.detail}`, {
    hint: 'choose another backup or another repository; nothing was changed',
  })
}
