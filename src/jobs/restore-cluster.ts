import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { LifeboatError } from '../domain/errors.ts'
import { formatLsn } from '../domain/lsn.ts'
import { type RestoreWish, targetWords } from '../domain/restore-wish.ts'
import { segmentAt, segmentBefore, segmentName } from '../domain/wal.ts'
import { feedRecovery } from '../fetch/feed.ts'
import { materialize } from '../physical/materialize.ts'
import { removeMarks } from '../physical/places.ts'
import { type Recovered, recover } from '../physical/recover.ts'
import {
  forgetTarget,
  type RecoveryFiles,
  removeSpools,
  spoolFolder,
  writeRecoveryFiles,
} from '../physical/recovery-files.ts'
import { clearLeftovers, endLeftovers, markFiles, markRecovery, unpackFolder } from '../physical/restore-mark.ts'
import type { BackupUse } from '../repository/repository.ts'
import type { JobContext } from '../runner/job.ts'
import { markCopies } from './in-use.ts'
import { keepHistories, markHistory, tryFetching } from './restore-cluster-after.ts'
import { canGoOn } from './restore-cluster-left.ts'
import {
  type ClusterRestoreOptions,
  type PreparedRestore,
  prepareClusterRestore,
  socketDirectoryOf,
} from './restore-cluster-plan.ts'
import { connectCommand, megabytes, reachedWords, startCommand, withNextStep } from './restore-cluster-words.ts'
import { unpackConfig } from './restore-config.ts'

/**
 * The physical half of the job `restore`: the whole cluster, in a directory of its own, led to a moment. A server that was
 * started can be reached through its socket alone, and archives nothing: looking at it disturbs nobody. It stays up when it has
 * come to the target. One that came less far is stopped, and the run has failed.
 */
export async function restoreCluster(
  options: ClusterRestoreOptions,
  wish: RestoreWish,
  context: JobContext,
): Promise<void> {
  const { signal } = context
  context.progress({ done: 0, total: null, unit: 'bytes', message: 'looking at the repositories' })
  const prepared = await prepareClusterRestore(options, wish, { signal, format: megabytes })
  const uses = await markChain(prepared, context)
  try {
    await new ClusterRestore(options, wish, { prepared, context }).run()
  } finally {
    for (const use of uses) await use.release()
  }
}

class ClusterRestore {
  readonly #options: ClusterRestoreOptions
  readonly #wish: RestoreWish
  readonly #prepared: PreparedRestore
  readonly #context: JobContext
  readonly #warnings: string[]
  readonly #phases: Record<string, number> = {}

  constructor(
    options: ClusterRestoreOptions,
    wish: RestoreWish,
    { prepared, context }: { readonly prepared: PreparedRestore; readonly context: JobContext },
  ) {
    this.#options = options
    this.#wish = wish
    this.#prepared = prepared
    this.#context = context
    this.#warnings = [...prepared.warnings]
  }

  async run(): Promise<void> {
    const { to } = this.#wish
    const { left } = this.#prepared
    const goesOn = left !== null && (await canGoOn(to, left, this.#prepared))
    if (left !== null) await endLeftovers(to, left)
    if (left !== null && goesOn) {
      this.#context.log.info({ directory: to, former: left.runId }, 'going on with what a restore has left')
      await this.#markRecovery()
    } else {
      if (left !== null) await clearLeftovers(to, left)
      await this.#makeFiles()
    }
    await removeSpools(to)
    await (this.#wish.start ? this.#start() : this.#leave())
  }

  async #leave(): Promise<void> {
    const { plan, manifest, owner } = this.#prepared
    const files = await this.#writeRecovery(await this.#socketDirectory())
    const segment = firstSegment(plan, manifest)
    const how = { dataDirectory: this.#wish.to, owner, segment, signal: this.#context.signal }
    this.#warnings.push(...(await tryFetching(files, how)))
    await this.#finish(null, files)
  }

  async #start(): Promise<void> {
    const { recovered, files } = await this.#recover().catch(async (error: unknown) => {
      const isLost = error instanceof LifeboatError && error.details?.unwritten === true
      if (isLost) await this.#markFiles()
      throw isLost ? error : withNextStep(error, this.#wish.to)
    })
    await this.#finish(recovered, files)
  }

  async #makeFiles(): Promise<void> {
    const { to } = this.#wish
    const { chain, plan, tablespaces, installation, owner } = this.#prepared
    const { runId, signal, log } = this.#context
    const { phases, bytes } = await materialize({
      ...{ chain, tablespaces, installation, owner, signal, clock: this.#options.clock },
      encryption: this.#options.config.encryption,
      dataDirectory: to,
      folder: unpackFolder(to, runId),
      compared: new Set(plan.chain.filter(({ isProven }) => isProven).map(({ id }) => id)),
      // The server that is started next does it.
      durable: this.#wish.start ? 'by-server' : 'now',
      onProgress: (done, total, message) => this.#context.progress({ done, total, unit: 'bytes', message }),
      onWhole: () => this.#markRecovery(),
    })
    Object.assign(this.#phases, phases)
    log.info({ directory: to, bytes, phases }, 'the data directory is whole')
    this.#warnings.push(
      ...(await unpackConfig(chain.at(-1), {
        ...{ dataDirectory: to, owner, signal, clock: this.#options.clock },
        encryption: this.#options.config.encryption,
      })),
    )
  }

  async #markRecovery(): Promise<void> {
    const { tablespaces, manifest, owner } = this.#prepared
    const places = [...tablespaces.values()]
    const { runId } = this.#context
    await markRecovery(this.#wish.to, { runId, backupId: manifest.backupId, tablespaces: places, owner })
  }

  async #markFiles(): Promise<void> {
    const { tablespaces, owner } = this.#prepared
    await markFiles(this.#wish.to, { runId: this.#context.runId, tablespaces: [...tablespaces.values()], owner })
  }

  async #writeRecovery(socketDirectory: string): Promise<RecoveryFiles> {
    const { config, program } = this.#options
    const { plan, installation, owner, manifest, sources } = this.#prepared
    const { stop, timeline, to } = plan
    const asked = config.repositories.filter(({ name }) => sources.some((one) => one.name === name))
    return writeRecoveryFiles({
      runId: this.#context.runId,
      ...{ stop, timeline, to, installation, owner, program, socketDirectory },
      dataDirectory: this.#wish.to,
      cluster: config.cluster,
      repositories: asked.map(({ reading }) => reading),
      identityFile: config.encryption.identityFile,
      action: this.#wish.action,
      segmentSize: sizeOf(manifest),
      missingIsEnd: this.#missingIsEnd(),
    })
  }

  /** What is replayed to its end is held against the plan all the same. */
  #missingIsEnd(): boolean {
    const { stop } = this.#prepared.plan
    return this.#wish.missingIsEnd || (stop.kind === 'time' && stop.mayEnd) || stop.kind === 'lsn'
  }

  async #recover(): Promise<{ recovered: Recovered; files: RecoveryFiles }> {
    const { to, action } = this.#wish
    const { plan, installation, owner } = this.#prepared
    const { signal } = this.#context
    const { clock, config } = this.#options
    const socketDirectory = await this.#socketDirectory()
    const stopFeeding = await this.#feed()
    const [from, total] = [plan.from.lsn, Number(plan.to.lsn - plan.from.lsn)]
    try {
      const files = await this.#writeRecovery(socketDirectory)
      const { folder, restoreCommand, control } = files
      const recovered = await recover({
        ...{ installation, control, restoreCommand, action, socketDirectory, signal, clock },
        dataDirectory: to,
        timeline: plan.timeline,
        stop: plan.stop,
        mustReach: plan.to,
        osUser: owner,
        user: config.postgres.user,
        workFolder: folder,
        onProgress: ({ lsn }, message) =>
          this.#context.progress({
            done: Math.max(0, Math.min(total, Number(lsn - from))),
            total,
            unit: 'bytes',
            message,
          }),
      })
      if (recovered.newTimeline === null) await this.#needNoMore(folder)
      else await markHistory(to, recovered.newTimeline, owner)
      return { recovered, files }
    } finally {
      await stopFeeding()
    }
  }

  /** The first segments are fetched while the server is made ready and starts. */
  async #feed(): Promise<() => Promise<void>> {
    const { to } = this.#wish
    const { plan, owner, manifest, sources } = this.#prepared
    const { clock } = this.#options
    const { signal, runId } = this.#context
    return feedRecovery({
      ...{ owner, clock, signal, patienceMs: feedPatienceMs },
      dataDirectory: to,
      spool: join(to, spoolFolder(runId)),
      ...{ repositories: sources, systemIdentifier: manifest.systemIdentifier, hashes: [] },
      missingIsEnd: this.#missingIsEnd(),
      first: firstSegment(plan, manifest),
      last: segmentName(plan.timeline, segmentBefore(plan.to.lsn, sizeOf(manifest)), sizeOf(manifest)),
      segmentBytes: sizeOf(manifest),
    })
  }

  /** A server that waits goes on without us, and without a repository. */
  async #needNoMore(folder: string): Promise<void> {
    const { sources, manifest, owner } = this.#prepared
    const { signal } = this.#context
    const asking = { clock: this.#options.clock, signal, patienceMs: feedPatienceMs }
    await keepHistories(folder, {
      ...asking,
      repositories: sources,
      systemIdentifier: manifest.systemIdentifier,
      owner,
    })
  }

  async #finish(recovered: Recovered | null, { folder, configFile }: RecoveryFiles): Promise<void> {
    const { to, target } = this.#wish
    const { manifest, plan, answer, owner, installation } = this.#prepared
    const { config } = this.#options
    if (recovered !== null && recovered.newTimeline !== null) await forgetTarget(to, owner)
    await removeMarks(to, [...this.#prepared.tablespaces.values()])
    const phases = { ...this.#phases, ...recovered?.phases }
    for (const warning of this.#warnings) this.#context.log.warn({ backup: manifest.backupId }, warning)
    const { segmentSize = 1 } = manifest.physical ?? {}
    const replayedTo = recovered?.lsn ?? plan.from.lsn
    const segments = segmentBefore(replayedTo, segmentSize) - segmentAt(plan.from.lsn, segmentSize) + 1
    this.#context.progress({
      ...{ done: 1, total: 1, unit: 'steps' },
      message: recovered === null ? `restored into ${to}; not started` : reachedWords(recovered, targetWords(target)),
    })
    this.#context.item({
      outcome: 'succeeded',
      backupType: manifest.type,
      database: '',
      repository: answer.repository,
      backupId: manifest.backupId,
      restored: {
        directory: to,
        asked: targetWords(target),
        timeline: plan.timeline,
        lsn: recovered === null ? null : formatLsn(recovered.lsn),
        lastCommitAt: recovered?.lastCommitAt?.toISOString() ?? null,
        stoppedAt: recovered?.stoppedAt ?? null,
        newTimeline: recovered?.newTimeline ?? null,
        start: recovered === null ? startCommand({ dataDirectory: to, folder, configFile, owner, installation }) : null,
        connect:
          recovered === null ? null : connectCommand(recovered.server.source, config.postgres.maintenanceDatabase),
      },
      ...(recovered === null ? {} : { measured: { phases, walBytes: Math.max(0, segments) * segmentSize } }),
      finishedAt: this.#options.clock.now().toISOString(),
      ...(this.#warnings.length > 0 ? { warnings: this.#warnings } : {}),
    })
  }

  async #socketDirectory(): Promise<string> {
    return socketDirectoryOf(join(this.#wish.to, 'lifeboat-restore')) ?? mkdtemp(join(tmpdir(), 'lifeboat-'))
  }
}

function sizeOf({ physical }: PreparedRestore['manifest']): number {
  return physical?.segmentSize ?? 0
}

function firstSegment({ from }: PreparedRestore['plan'], manifest: PreparedRestore['manifest']): string {
  const size = sizeOf(manifest)
  return segmentName(from.timeline, segmentAt(from.lsn, size), size)
}

/** As `lifeboat wal fetch` has it. */
const feedPatienceMs = 30_000

async function markChain({ chain }: PreparedRestore, context: JobContext): Promise<readonly BackupUse[]> {
  const uses: BackupUse[] = []
  try {
    for (const { manifest, repositories } of chain) {
      const copies = repositories.map((repository) => ({ repository }))
      uses.push(await markCopies(copies, manifest.backupId, context))
    }
    return uses
  } catch (error) {
    for (const use of uses) await use.release()
    throw error
  }
}
