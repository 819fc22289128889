import { join } from 'node:path'
import type { Clock } from '../clock.ts'
import type { ValidatedConfig } from '../config/validated.ts'
import type { Artifact, Manifest } from '../domain/backup.ts'
import { LifeboatError, toFailure } from '../domain/errors.ts'
import { parseLsn } from '../domain/lsn.ts'
import { baseBackupArguments } from '../postgres/base-backup.ts'
import { zstdArguments } from '../postgres/packed-tar.ts'
import type { BackupWriter, ManifestBody, Repository } from '../repository/repository.ts'
import type { JobContext } from '../runner/job.ts'
import { letGo } from './destinations.ts'
import { keepManifest } from './kept-manifests.ts'
import { physicalInstructions } from './physical-instructions.ts'
import type { PhysicalPlan } from './physical-plan.ts'
import { finishAtPrimary, ofStandby, standbyCaughtUp } from './physical-standby.ts'
import { type BlamingWriter, type TakenBackup, takeBackup } from './physical-take.ts'
import { sealing } from './seal.ts'
import { stopTime } from './stop-time.ts'
import { ArchiverWitness, walMissing } from './wal-stored.ts'

export interface StoreOptions {
  readonly config: ValidatedConfig
  readonly clock: Clock
  readonly version: string
  readonly plan: PhysicalPlan
  readonly id: string
  readonly type: 'full' | 'incremental'
  /** The full one first, the parent last; empty for a full backup. */
  readonly chain: readonly Manifest[]
  readonly parentManifest: string | null
  readonly repository: Repository
  readonly warnings: readonly string[]
  readonly context: JobContext
}

/** A backup whose artifacts are all in one repository, and that is not published yet. */
export interface StoredBackup {
  readonly repository: Repository
  readonly writer: BackupWriter
  readonly artifacts: readonly Artifact[]
  /** The same for every repository. */
  readonly manifest: ManifestBody
}

/**
 * Reads the cluster into a repository. Whatever fails, nothing of it stays.
 *
 * @throws LifeboatError what the repository failed with has its name in `details.repository`
 */
export async function takeInto(options: StoreOptions): Promise<StoredBackup> {
  const { repository, id, context, clock } = options
  const started = clock.monotonic()
  const ofRepository = marking(repository)
  const inner = await repository.beginBackup(id, { runId: context.runId, signal: context.signal }).catch(ofRepository)
  const writer = { ...sealing(marked(inner, ofRepository), options.plan.encrypt, context.signal), blame: ofRepository }
  try {
    const taken = await timed(options, await readCluster(options, writer))
    const body = manifestOf(options, taken, (clock.monotonic() - started) / 1000)
    const sealed = await writer.seal(body)
    const artifacts = [...taken.artifacts, ...sealed.artifacts]
    const restoring = await writer.putOpen('RESTORE.md', instructions(options, { ...taken, artifacts }))
    return { repository, writer: inner, artifacts: [...artifacts, restoring], manifest: sealed.body }
  } catch (error) {
    await letGo(inner, error)
    throw error
  }
}

async function timed({ config, plan, context }: StoreOptions, taken: TakenBackup): Promise<TakenBackup> {
  const { stoppedAt } = taken
  const found = await stopTime(config.postgres, plan, { stoppedAt, signal: context.signal })
  return { ...taken, stoppedAt: found.stoppedAt, warnings: [...taken.warnings, ...found.warnings] }
}

/**
 * Reads the cluster; a standby when it has caught up. What a standby fails with is marked as its own.
 *
 * @throws LifeboatError `server-error` when a standby has left the timeline of its primary meanwhile
 */
async function readCluster(options: StoreOptions, writer: BlamingWriter): Promise<TakenBackup> {
  const { config, clock, plan, context } = options
  const { standby, facts } = plan
  if (standby === null) return readServer(options, writer)
  const { signal } = context
  context.progress({ done: 0, total: null, unit: 'bytes', message: 'waiting for the standby to catch up' })
  await standbyCaughtUp({ config, clock, signal }, standby)
  const taken = await readServer(options, writer).catch((error: unknown) => {
    signal.throwIfAborted()
    throw ofStandby(error, standby.source)
  })
  const end = taken.wal.at(-1)
  if (end?.timeline !== facts.timeline) {
    const words = `the backup ends on timeline ${end?.timeline}, and the primary was on ${facts.timeline}`
    throw ofStandby(
      new LifeboatError('server-error', words, { hint: 'see which server is the primary' }),
      standby.source,
    )
  }
  const stop = parseLsn(end.end) ?? 0n
  await finishAtPrimary(config, { stop, segmentSize: facts.segmentSize }, signal)
  return taken
}

/** Reads the server, and gives up when it waits too long for its archiver before it ends the backup. */
async function readServer(options: StoreOptions, writer: BlamingWriter): Promise<TakenBackup> {
  const { config, clock, plan, id, context } = options
  const { postgres, wal, physical } = config
  const [impatient, over] = [new AbortController(), new AbortController()]
  const signal = AbortSignal.any([context.signal, impatient.signal])
  const about = { database: postgres.maintenanceDatabase, archive: wal.archive, clock }
  const witness = new ArchiverWitness(plan.source, about)
  const watch = async () => {
    // A standby that archives as well (`always`) waits for a segment that its primary has to finish.
    const nowhere = { stop: 2n ** 63n, segmentSize: plan.facts.segmentSize }
    if (plan.standby !== null) await finishAtPrimary(config, nowhere, over.signal)
    await witness.begin(over.signal)
    await clock.sleep(physical.walTimeoutMs, over.signal)
    const why = await witness.tell(null, over.signal)
    impatient.abort(walMissing('what the server has yet to archive', 'into the archive', physical.walTimeoutMs, why))
  }
  let watching: Promise<void> | undefined
  const tell = (message: string) => context.progress({ done: 0, total: null, unit: 'bytes', message })
  const reading = plan.standby === null ? 'reading the cluster' : 'reading the standby'
  try {
    return await takeBackup({
      ...{ config, clock, plan, id, writer, signal, parentManifest: options.parentManifest },
      folder: join(plan.folder, id),
      onManifest: (path) => keepForChildren(options, path),
      news: {
        onProgress: (done, total) => {
          if (watching === undefined) context.progress({ done, total, unit: 'bytes', message: reading })
        },
        onWait: (what) => {
          tell(`the server waits for ${what === 'checkpoint' ? 'its checkpoint' : 'its WAL to be archived'}`)
          if (what === 'archive') watching ??= watch().catch(() => {}) // over before its time
        },
      },
    })
  } finally {
    over.abort()
    await watching
  }
}

/** What the next incremental backup needs, and could not read without a private key. Without it there will be a full one. */
async function keepForChildren({ config, plan, id, context }: StoreOptions, path: string): Promise<void> {
  if (plan.encrypt === null) return
  await keepManifest(config.stateDir, id, path).catch((error: unknown) => {
    context.log.warn(toFailure(error), 'the backup_manifest could not be kept for an incremental backup')
  })
}

function instructions({ config, plan, id, chain }: StoreOptions, taken: TakenBackup): Buffer {
  const itself = { backupId: id, tablespaces: taken.tablespaces, artifacts: taken.artifacts }
  const parents = chain.map(({ backupId, physical, artifacts }) => ({
    ...{ backupId, artifacts },
    tablespaces: physical?.tablespaces ?? [],
  }))
  const { systemIdentifier, serverVersion, serverMajor } = plan.cluster
  const text = physicalInstructions({
    ...{ cluster: config.cluster, systemIdentifier, serverVersion, serverMajor },
    stopTime: taken.stoppedAt.toISOString(),
    wal: taken.wal,
    segmentSize: plan.facts.segmentSize,
    fromStandby: plan.standby !== null,
    chain: [...parents, itself],
  })
  return Buffer.from(text)
}

function manifestOf(
  { config, plan, id, type, chain, version, warnings, parentManifest }: StoreOptions,
  taken: TakenBackup,
  durationSeconds: number,
): ManifestBody {
  const { systemIdentifier, serverVersion, serverVersionNum } = plan.cluster
  const [first, last] = [taken.wal[0], taken.wal.at(-1)]
  if (first === undefined || last === undefined) throw new Error('unreachable: a backup without WAL is refused before')
  const parent = chain.at(-1)
  return {
    ...{ backupId: id, type, cluster: config.cluster, systemIdentifier, serverVersion, serverVersionNum },
    timeline: first.timeline,
    start: { lsn: first.start, time: plan.facts.at.toISOString() },
    stop: { lsn: last.end, time: taken.stoppedAt.toISOString() },
    parent: parent?.backupId ?? null,
    database: null,
    physical: {
      ...{ wal: taken.wal, tablespaces: taken.tablespaces, sourceBytes: taken.sourceBytes },
      fromStandby: plan.standby !== null,
      segmentSize: plan.facts.segmentSize,
      dataChecksums: plan.facts.dataChecksums,
      configSaved: plan.savedConfig.directory !== null,
      ...(parent === undefined ? {} : { basis: { timeline: parent.timeline, lsn: parent.start.lsn } }),
    },
    producer: {
      lifeboat: version,
      programs: { pg_basebackup: plan.installation.version },
      options: [
        ...baseBackupArguments(config.physical),
        ...(parentManifest === null ? [] : ['--incremental']),
        ...zstdArguments(config.physical.compression),
      ],
    },
    warnings: [...warnings, ...taken.warnings],
    durationSeconds,
  }
}

/** The writer, with what its repository fails with marked as such. */
function marked(writer: BackupWriter, ofRepository: (error: unknown) => never): BackupWriter {
  return {
    put: async (name, body, plain) => {
      let failedBefore: unknown
      const asked = plain?.bind(null)
      const noting = async () => {
        try {
          return await (asked as NonNullable<typeof asked>)()
        } catch (error) {
          failedBefore = error
          throw error
        }
      }
      return writer.put(name, body, asked === undefined ? undefined : noting).catch((error: unknown) => {
        // What was read ended early: that is no fault of the repository's.
        if (error === failedBefore) throw error
        return ofRepository(error)
      })
    },
    stage: () => writer.stage().catch(ofRepository),
    adopt: (name, path, stored) => writer.adopt(name, path, stored).catch(ofRepository),
    publish: (body) => writer.publish(body),
    abandon: () => writer.abandon(),
  }
}

function marking({ name }: Repository): (error: unknown) => never {
  return (error) => {
    if (!(error instanceof LifeboatError)) throw error
    const { code, message, hint, details } = error
    throw new LifeboatError(code, message, {
      ...(hint === undefined ? {} : { hint }),
      details: { ...details, repository: name },
      cause: error,
    })
  }
}
