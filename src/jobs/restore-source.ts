import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Manifest } from '../domain/backup.ts'
import { LifeboatError, toFailure } from '../domain/errors.ts'
import { whichAnswer } from '../fetch/answering.ts'
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
import { type ArtifactSource, type FetchedArtifacts, verifyArtifacts } from './verify-artifacts.ts'

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
  { repositories, server, clock, config }: RestoreJobOptions,
  params: JobParams,
  { signal, log }: JobContext,
): Promise<Choice> {
  const { backup, database, repository: wanted } = params
  const found: BackupCopy[] = []
  const passedOver: Manifest[] = []
  const problems: unknown[] = []
  const patienceMs = 1000 * config.observe.timeoutSeconds
  const asked = await whichAnswer(chooseRepositories(repositories, wanted), { clock, signal, patienceMs })
  for (const { repository, error } of asked.silent) {
    log.warn({ repository: repository.name, ...toFailure(error) }, 'repository has no usable copy')
    problems.push(error)
  }
  for (const repository of asked.answering) {
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

/** A backup that was fetched, and the names of the repositories that its artifacts came from. */
export interface FetchedBackup {
  readonly fetched: FetchedArtifacts
  readonly repositories: readonly string[]
}

/**
 * Fetches a backup, each artifact from the first repository that has it whole. Never an older backup instead: what is missing
 * in it would be lost without a word.
 */
export async function fetchFromAny(
  options: RestoreJobOptions,
  copies: readonly BackupCopy[],
  work: { readonly folder: string; readonly installations: readonly Installation[] },
  { signal, log }: JobContext,
): Promise<FetchedBackup> {
  const [{ manifest }] = copies as readonly [BackupCopy]
  // A copy that says something else of itself is another backup.
  const same = copies.filter((one) => one.manifest.checksum === manifest.checksum)
  const repositories = same.map(({ repository }) => repository)
  await unseal(options.config.encryption, manifest, { repositories, signal })
  const sources = new ArtifactSources(repositories)
  const folder = join(work.folder, 'fetched')
  let first: LifeboatError | null = null
  for (;;) {
    try {
      await mkdir(folder, { mode: 0o700 })
      const fetched = await fetchWhole(options, { ...work, manifest, repository: sources, folder, signal })
      return { fetched, repositories: sources.names(manifest.artifacts.map(({ name }) => name)) }
    } catch (error) {
      signal.throwIfAborted()
      if (!(error instanceof UnusableArtifacts)) throw first ?? error
      for (const artifact of error.artifacts) {
        const repository = sources.of(artifact).name
        log.error({ repository, artifact, ...toFailure(error) }, 'what is stored there cannot be used')
      }
      first ??= error
      const isLeft = error.artifacts.every((artifact) => sources.goOn(artifact))
      if (!isLeft || error.artifacts.length === 0) throw first
      await rm(folder, { recursive: true, force: true })
    }
  }
}

/** Where each artifact of a backup is read: in the first repository that has not failed with it. */
class ArtifactSources implements ArtifactSource {
  readonly #repositories: readonly Repository[]
  readonly #places = new Map<string, number>()

  constructor(repositories: readonly Repository[]) {
    this.#repositories = repositories
  }

  of(artifact: string): Repository {
    return this.#repositories[this.#places.get(artifact) ?? 0] as Repository
  }

  /** False: there is no other one to try. */
  goOn(artifact: string): boolean {
    const next = (this.#places.get(artifact) ?? 0) + 1
    if (next >= this.#repositories.length) return false
    this.#places.set(artifact, next)
    return true
  }

  names(artifacts: readonly string[]): readonly string[] {
    return [...new Set(artifacts.map((artifact) => this.of(artifact).name))]
  }

  headArtifact(...[id, name, options]: Parameters<ArtifactSource['headArtifact']>) {
    return this.of(name).headArtifact(id, name, options)
  }

  readArtifact(...[id, name, options]: Parameters<ArtifactSource['readArtifact']>) {
    return this.of(name).readArtifact(id, name, options)
  }
}

class UnusableArtifacts extends LifeboatError {
  readonly artifacts: readonly string[]

  constructor(message: string, artifacts: readonly string[]) {
    super('artifact-invalid', message, { hint: 'choose another backup or another repository; nothing was changed' })
    this.artifacts = artifacts
  }
}

/** Reads and checks every artifact: nothing is restored from bytes that are not the ones that were stored. */
async function fetchWhole(
  { config, clock }: RestoreJobOptions,
  work: {
    readonly repository: ArtifactSource
    readonly manifest: Manifest
    readonly folder: string
    readonly installations: readonly Installation[]
    readonly signal: AbortSignal
  },
): Promise<FetchedArtifacts> {
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
  const wrong = recorder.result().checks.filter(({ verdict }) => verdict !== 'pass')
  const words = `the backup cannot be used: ${wrong[0]?.name}: ${wrong[0]?.detail}`
  const names = work.manifest.artifacts.map(({ name }) => name)
  throw new UnusableArtifacts(
    words,
    names.filter((name) => wrong.some((check) => check.name === `checksum ${name}`)),
  )
}
