import type { Clock } from '../clock.ts'
import type { PostgresConfig } from '../config/validated.ts'
import { LifeboatError } from '../domain/errors.ts'
import { isSilence } from '../fetch/answering.ts'
import type { BackupWriter, Repository } from '../repository/repository.ts'
import type { JobContext } from '../runner/job.ts'
import { type Filled, letGo } from './destinations.ts'
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
  readonly retrying: <T>(what: string, work: () => Promise<T>, unless: (error: unknown) => boolean) => Promise<T>
}

interface Copy {
  readonly repository: Repository
  readonly writer: BackupWriter
}

/**
 * Copies a stored backup into the other repositories, and publishes it in each as soon as it is whole there and the WAL that
 * it needs is stored: all at once, and none waits for another. Where it cannot be published nothing of it stays.
 */
export async function publishEverywhere(options: PublishOptions): Promise<readonly Filled[]> {
  const { stored, others, postgres, archive, clock, context } = options
  const { signal } = context
  const tell = (message: string) => context.progress({ done: 0, total: null, unit: 'bytes', message })
  const witness = new ArchiverWitness(postgres, { database: postgres.maintenanceDatabase, archive, clock })
  await witness.begin(signal)
  const names = others.map(({ name }) => name).join(', ')
  tell(`waiting for the WAL of the backup to be stored${names === '' ? '' : `, and copying it into ${names}`}`)
  let published = 0
  const publish = async (repository: Repository, copy: () => Promise<BackupWriter>): Promise<Filled & Ended> => {
    let writer: BackupWriter | null = null
    try {
      writer = await copy()
      await publishOne(options, { repository, writer }, witness)
      published += 1
      return { repository, writer, error: null }
    } catch (error) {
      return { repository, writer, error }
    }
  }
  const unless = (error: unknown) => published > 0 && isSilence(error)
  const copying = (repository: Repository) => () =>
    options.retrying(`copying into ${repository.name}`, () => copyInto(options, repository), unless)
  const ended = await Promise.all([
    publish(stored.repository, async () => stored.writer),
    ...others.map((repository) => publish(repository, copying(repository))),
  ])
  // Not before: the others are copied from the first one.
  for (const { writer, error } of ended) if (writer !== null && error !== null) await letGo(writer, error)
  return ended.map(({ repository, error }) => ({ repository, error }))
}

interface Ended {
  readonly writer: BackupWriter | null
}

async function copyInto({ stored, context }: PublishOptions, repository: Repository): Promise<BackupWriter> {
  const { runId, signal } = context
  const id = stored.manifest.backupId
  const writer = await repository.beginBackup(id, { runId, signal })
  try {
    await copyArtifacts({ repository: stored.repository, id }, stored.artifacts, writer, signal)
    return writer
  } catch (error) {
    await letGo(writer, error)
    throw error
  }
}

async function publishOne(
  { stored, chain, postgres, walTimeoutMs, clock, context: { signal } }: PublishOptions,
  { repository, writer }: Copy,
  witness: ArchiverWitness,
): Promise<void> {
  const { systemIdentifier, physical } = stored.manifest
  if (physical === undefined) throw new Error('unreachable: it is a physical backup')
  const { wal: intervals, segmentSize } = physical
  const why = (segment: string) => witness.tell(segment, signal)
  const need = { systemIdentifier, segmentSize, intervals }
  await walStored({ ...need, repository, clock, timeoutMs: walTimeoutMs, why, signal })
  const timelines = intervals.map(({ timeline }) => timeline)
  await storeHistories(repository, { systemIdentifier, timelines, source: postgres, signal })
  for (const id of chain) await assertThere(repository, id, signal)
  await writer.publish(stored.manifest)
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
