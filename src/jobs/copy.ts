import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import type { Clock } from '../clock.ts'
import type { ValidatedConfig } from '../config/validated.ts'
import { type Artifact, type Digest, isBackupId, isEncrypted, type Manifest } from '../domain/backup.ts'
import { LifeboatError, toFailure } from '../domain/errors.ts'
import { isEncrypting } from '../encryption/age.ts'
import { whichAnswer } from '../fetch/answering.ts'
import { chooseRepositories } from '../repository/choose.ts'
import type { BackupWriter, Repository } from '../repository/repository.ts'
import type { Job, JobContext, JobParams } from '../runner/job.ts'
import { letGo } from './destinations.ts'
import { markCopies } from './in-use.ts'
import { readableManifest } from './newest-dumps.ts'
import type { BackupCopy } from './restore-source.ts'
import { standingOf } from './sound-dumps.ts'
import { walStored } from './wal-stored.ts'

export interface CopyJobOptions {
  readonly config: ValidatedConfig
  readonly repositories: readonly Repository[]
  readonly clock: Clock
}

/**
 * The job `copy`: a backup that a repository has missed comes there from the others, byte by byte, each artifact from the nearest
 * one that has it whole.
 *
 * Params: `{ backup: id, repository: name }`.
 */
export function copyJob(options: CopyJobOptions): Job {
  return {
    name: 'copy',
    lane: 'copy',
    timeoutSeconds: options.config.physical.timeoutSeconds,
    run: (params, context) => runCopy(options, params, context),
  }
}

async function runCopy(options: CopyJobOptions, params: JobParams, context: JobContext): Promise<void> {
  const { backup: id, repository: name } = params
  if (typeof id !== 'string' || !isBackupId(id) || typeof name !== 'string')
    throw new LifeboatError('usage-invalid', 'a backup and a repository must be named')
  const [to] = chooseRepositories(options.repositories, name) as readonly [Repository]
  const copies = await copiesOf(options, id, to, context)
  const [{ manifest }] = copies as readonly [BackupCopy]
  assertMayLeave(options.config, manifest)
  const use = await markCopies(copies, id, context)
  const about = { backupType: manifest.type, database: manifest.database?.name ?? '', repository: name, backupId: id }
  const finishedAt = () => options.clock.now().toISOString()
  try {
    await assertUsableThere(options, manifest, to, context.signal)
    await copyBackup({ manifest, to, from: use.copies.map(({ repository }) => repository) }, context)
    context.item({ ...about, outcome: 'succeeded', finishedAt: finishedAt() })
  } catch (error) {
    if (!context.signal.aborted)
      context.item({ ...about, outcome: 'failed', failure: toFailure(error), finishedAt: finishedAt() })
    throw error
  } finally {
    await use.release()
  }
}

/** What was stored before encryption was switched on goes nowhere else as it is. @throws LifeboatError `conflict` */
function assertMayLeave({ encryption }: ValidatedConfig, manifest: Manifest): void {
  if (!isEncrypting(encryption) || isEncrypted(manifest)) return
  throw new LifeboatError(
    'conflict',
    `${manifest.backupId} is not encrypted, and what is stored from now on is to be`,
    {
      hint: 'take a new backup: it goes to all repositories',
    },
  )
}

/**
 * Where the backup is, nearest first, but for the copies that a verification has refuted: what is wrong with one need not show in
 * its bytes.
 *
 * @throws LifeboatError `not-found`; `verification-failed` when all are refuted
 */
async function copiesOf(
  { config, repositories, clock }: CopyJobOptions,
  id: string,
  to: Repository,
  { signal, log }: JobContext,
): Promise<readonly BackupCopy[]> {
  const others = repositories.filter((one) => one !== to)
  const asking = { clock, signal, patienceMs: 1000 * config.observe.timeoutSeconds }
  const { answering } = await whichAnswer(others, asking)
  const copies: BackupCopy[] = []
  let isRefuted = false
  for (const repository of answering) {
    try {
      const manifest = await readableManifest(repository, id, signal)
      if (manifest === null) continue
      if ((await standingOf(repository, manifest, { signal, log })) === 'refuted') isRefuted = true
      else copies.push({ repository, manifest })
    } catch (error) {
      signal.throwIfAborted()
      log.warn({ repository: repository.name, ...toFailure(error) }, 'repository has no usable copy')
    }
  }
  const [first] = copies
  if (first !== undefined) return copies.filter(({ manifest }) => manifest.checksum === first.manifest.checksum)
  if (isRefuted)
    throw new LifeboatError('verification-failed', `every other copy of ${id} was refuted by a verification`)
  throw new LifeboatError('not-found', `no other repository has the backup ${id}`)
}

/** A physical backup is worth nothing without what it builds on, and the WAL that it needs. */
async function assertUsableThere(
  { clock }: CopyJobOptions,
  { backupId, parent, systemIdentifier, physical }: Manifest,
  to: Repository,
  signal: AbortSignal,
): Promise<void> {
  if (parent !== null && (await to.inspect(parent, { signal }))?.state !== 'complete')
    throw new LifeboatError('manifest-missing', `${to.name} has no ${parent}, on which ${backupId} builds`)
  if (physical === undefined) return
  const { wal: intervals, segmentSize } = physical
  const why = async () => 'it may not have been shipped yet'
  await walStored({ repository: to, systemIdentifier, segmentSize, intervals, clock, timeoutMs: 0, why, signal })
}

async function copyBackup(
  work: { readonly manifest: Manifest; readonly to: Repository; readonly from: readonly Repository[] },
  context: JobContext,
): Promise<void> {
  const { manifest, to, from } = work
  const { artifacts, checksum: _, formatVersion: __, ...body } = manifest
  const { runId, signal, log } = context
  const total = artifacts.reduce((sum, { stored }) => sum + stored.bytes, 0)
  let done = 0
  const message = `copying ${manifest.backupId} into ${to.name}`
  const writer = await to.beginBackup(manifest.backupId, { runId, signal })
  try {
    for (const artifact of artifacts) {
      context.progress({ done, total, unit: 'bytes', message })
      await copyArtifact({ artifact, manifest, from, writer }, context)
      done += artifact.stored.bytes
    }
    await writer.publish(body)
  } catch (error) {
    await letGo(writer, error)
    throw error
  }
  context.progress({ done: total, total, unit: 'bytes', message: `${manifest.backupId} is in ${to.name}` })
  log.info({ repository: to.name, backup: manifest.backupId }, 'a backup that it had missed was copied')
}

/** Nothing is stored of what is not the bytes that the manifest tells of: the next one is tried. */
async function copyArtifact(
  work: {
    readonly artifact: Artifact
    readonly manifest: Manifest
    readonly from: readonly Repository[]
    readonly writer: BackupWriter
  },
  { signal, log }: JobContext,
): Promise<void> {
  const { artifact, manifest, from, writer } = work
  const { name, plain, stored } = artifact
  let problem: unknown
  for (const repository of from) {
    const read = async function* () {
      const body = await repository.readArtifact(manifest.backupId, name, { signal })
      yield* sameBytes(body, stored, `${name} of ${manifest.backupId} in repository ${repository.name}`)
    }
    try {
      await writer.put(name, Readable.from(read(), { objectMode: false }), async () => plain)
      return
    } catch (error) {
      signal.throwIfAborted()
      problem = error
      log.warn({ repository: repository.name, artifact: name, ...toFailure(error) }, 'this copy cannot be used')
    }
  }
  throw problem
}

async function* sameBytes(body: Readable, { bytes, sha256 }: Digest, what: string): AsyncGenerator<Buffer> {
  const hash = createHash('sha256')
  let length = 0
  for await (const chunk of body as AsyncIterable<Buffer>) {
    hash.update(chunk)
    length += chunk.length
    yield chunk
  }
  if (length === bytes && hash.digest('hex') === sha256) return
  throw new LifeboatError('artifact-invalid', `${what} does not hold the bytes that were stored`)
}
