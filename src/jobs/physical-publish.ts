import type { Clock } from '../clock.ts'
import type { PostgresConfig } from '../config/validated.ts'
import { LifeboatError } from '../domain/errors.ts'
import type { BackupWriter, Repository } from '../repository/repository.ts'
import type { JobContext } from '../runner/job.ts'
import { copyArtifacts } from './physical-copy.ts'
import { storeHistories } from './physical-history.ts'
import type { StoredBackup } from './physical-store.ts'
import { ArchiverWitness, walStored } from './wal-stored.ts'

export interface PublishOptions {
  readonly stored: StoredBackup
  /** The repositories besides the one that it is in. */
  readonly others: readonly Repository[]
  /** Ids of what it builds on. */
  readonly chain: readonly string[]
  readonly postgres: PostgresConfig
  readonly archive: string | null
  readonly walTimeoutMs: number
  readonly clock: Clock
  readonly context: JobContext
  readonly retrying: <T>(what: string, work: () => Promise<T>) => Promise<T>
}

/** How it went in one repository; null: it is there. */
export interface Published {
  readonly repository: Repository
  readonly error: unknown
}

interface Copy {
  readonly repository: Repository
  readonly writer: BackupWriter
}

/**
 * Copies a stored backup into the other repositories, and publishes it in each as soon as the WAL that it needs is stored
 * there: all wait at once, and none for another. Where it cannot be published nothing of it stays.
 */
export async function publishEverywhere(options: PublishOptions): Promise<readonly Published[]> {
  const { stored, others, postgres, archive, clock, context } = options
  const { signal } = context
  const tell = (message: string) => context.progress({ done: 0, total: null, unit: 'bytes', message })
  const copies: Copy[] = [stored]
  const results: Published[] = []
  try {
    for (const repository of others) {
      tell(`copying into ${repository.name}`)
      try {
        const writer = await options.retrying(`copying into ${repository.name}`, () => copyInto(options, repository))
        copies.push({ repository, writer })
      } catch (error) {
        signal.throwIfAborted()
        results.push({ repository, error })
      }
    }
    tell('waiting for the WAL of the backup to be stored')
    const witness = new ArchiverWitness(postgres, { database: postgres.maintenanceDatabase, archive, clock })
    await witness.begin(signal)
    const published = await Promise.all(copies.map((copy) => publishOne(options, copy, witness)))
    return [...published, ...results]
  } finally {
    for (const { writer } of copies) await writer.abandon() // does nothing to what was published
  }
}

async function copyInto({ stored, context }: PublishOptions, repository: Repository): Promise<BackupWriter> {
  const { runId, signal } = context
  const id = stored.manifest.backupId
  const writer = await repository.beginBackup(id, { runId, signal })
  try {
    await copyArtifacts({ repository: stored.repository, id }, stored.artifacts, writer, signal)
    return writer
  } catch (error) {
    await writer.abandon()
    throw error
  }
}

async function publishOne(
  { stored, chain, postgres, walTimeoutMs, clock, context: { signal } }: PublishOptions,
  { repository, writer }: Copy,
  witness: ArchiverWitness,
): Promise<Published> {
  const { systemIdentifier, physical } = stored.manifest
  try {
    if (physical === undefined) throw new Error('unreachable: it is a physical backup')
    const { wal: intervals, segmentSize } = physical
    const why = (segment: string) => witness.tell(segment, signal)
    await walStored({
      repository,
      systemIdentifier,
      segmentSize,
      intervals,
      clock,
      timeoutMs: walTimeoutMs,
      why,
      signal,
    })
    const timelines = intervals.map(({ timeline }) => timeline)
    await storeHistories(repository, { systemIdentifier, timelines, source: postgres, signal })
    for (const id of chain) await assertThere(repository, id, signal)
    await writer.publish(stored.manifest)
    return { repository, error: null }
  } catch (error) {
    return { repository, error }
  }
}

/** A mark keeps what we expire ourselves; somebody else may have removed it all the same. */
async function assertThere(repository: Repository, id: string, signal: AbortSignal): Promise<void> {
  const folder = await repository.inspect(id, { signal })
  if (folder?.state === 'complete') return
  const words = `${id}, which the incremental backup builds on, was removed from repository ${repository.name} meanwhile`
  throw new LifeboatError('manifest-missing', words, { details: { parentLost: true } })
}

/** A parent that cannot be read is as good as gone; what can pass by itself was tried again. */
export function parentLost(error: unknown): unknown {
  if (!(error instanceof LifeboatError)) return error
  const { code, message, hint } = error
  const details = { ...error.details, parentLost: true }
  return new LifeboatError(code, message, { ...(hint === undefined ? {} : { hint }), details, cause: error })
}

/** What was taken is of no use in this repository, since what it builds on has gone. */
export function isParentLost(error: unknown): boolean {
  return error instanceof LifeboatError && error.details?.parentLost === true
}
