import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import type { Clock } from '../clock.ts'
import type { ValidatedConfig } from '../config/validated.ts'
import { backupId, type Manifest } from '../domain/backup.ts'
import { type Failure, LifeboatError, toFailure } from '../domain/errors.ts'
import { whichAnswer } from '../fetch/answering.ts'
import { isIncrementalRefused } from '../postgres/base-backup.ts'
import type { Repository } from '../repository/repository.ts'
import type { FailedAttempt, Job, JobContext } from '../runner/job.ts'
import { consolidate } from './consolidate.ts'
import type { Filled } from './destinations.ts'
import { fetchBackupManifest, findParent, markParent } from './physical-parent.ts'
import { type PhysicalPlan, planPhysical } from './physical-plan.ts'
import { isParentLost, parentLost, publishEverywhere } from './physical-publish.ts'
import { isOfStandby } from './physical-standby.ts'
import { type StoredBackup, takeInto } from './physical-store.ts'
import { withRetries } from './retry.ts'
import { makeWorkFolder, removeWorkFolder } from './work-folder.ts'
import { leaveOut, type Writable } from './writable.ts'

export interface PhysicalJobOptions {
  readonly config: ValidatedConfig
  readonly repositories: readonly Repository[]
  readonly clock: Clock
  readonly writable: Writable
  /** Lifeboat's own version, for the manifest. */
  readonly version: string
  /** 0 to 1, for the waits between attempts. Default Math.random. */
  readonly random?: () => number
}

export type PhysicalType = 'full' | 'incremental'

/**
 * The jobs `full` and `incremental`: the whole cluster, read once and stored in every repository that is ours to write to.
 * A repository that fails does not keep the others from getting theirs; the run fails if any did. An incremental backup
 * that has nothing sound to build on becomes a full one, and says why.
 */
export function physicalJobs(options: PhysicalJobOptions): readonly Job[] {
  return (['full', 'incremental'] as const).map((type) => ({
    name: type,
    lane: 'backup',
    timeoutSeconds: options.config.physical.timeoutSeconds,
    run: (_, context) => new PhysicalRun(options, context).run(type),
  }))
}

/** What the next reading of the cluster builds on. */
interface Course {
  readonly type: PhysicalType
  /** The full one first, the parent last; empty for a full backup. */
  readonly chain: readonly Manifest[]
  /** Why an incremental one became a full one, and the standby was not read. */
  readonly reasons: readonly string[]
}

class PhysicalRun {
  readonly #options: PhysicalJobOptions
  readonly #context: JobContext
  readonly #failures: { readonly repository: string; readonly failure: Failure }[] = []
  #repositories: readonly Repository[]

  constructor(options: PhysicalJobOptions, context: JobContext) {
    this.#options = options
    this.#context = context
    this.#repositories = leaveOut(options.repositories, options.writable, context)
  }

  async run(type: PhysicalType): Promise<void> {
    const { config } = this.#options
    if (config.wal.archive === null) {
      throw new LifeboatError(
        'config-invalid',
        'physical backups need the WAL of the server, and wal.archive is not set',
        {
          hint: 'set it, e.g. wal: { archive: /var/lib/postgresql/wal_archive }; then `lifeboat wal setup` shows how the server fills it',
        },
      )
    }
    const count = this.#repositories.length
    await this.#leaveSilent(type)
    const folder = await makeWorkFolder(config.workDir, this.#context.runId)
    try {
      await this.#take(type, { folder })
    } finally {
      await removeWorkFolder(folder)
    }
    const [first] = this.#failures
    if (first === undefined) return
    const words = this.#failures.map(({ repository, failure }) => `${repository} (${failure.message})`).join('; ')
    const message = `${this.#failures.length} of ${count} repositories have no backup: ${words}`
    throw new LifeboatError(
      first.failure.code,
      message,
      first.failure.hint === undefined ? {} : { hint: first.failure.hint },
    )
  }

  /** The others wait neither for one that hangs nor for its chain: the job `copy` brings it there later. */
  async #leaveSilent(type: PhysicalType): Promise<void> {
    const { config, clock } = this.#options
    const asking = { clock, signal: this.#context.signal, patienceMs: 1000 * config.observe.timeoutSeconds }
    const { silent } = await whichAnswer(this.#repositories, asking)
    for (const { repository, error } of silent) this.#giveUp(type, repository, error)
  }

  /** @param from what the standby has failed with, if it has */
  async #take(type: PhysicalType, from: { readonly folder: string; readonly standbyFailure?: unknown }): Promise<void> {
    const plan = await this.#retrying('looking at the server', () =>
      planPhysical({ ...this.#options, repositories: this.#repositories }, type, this.#context, from),
    )
    const course = type === 'full' ? { type, chain: [], reasons: [] } : await this.#courseOf(plan)
    // To look for a parent, and the more to make one, takes its time.
    const now = { ...plan, facts: { ...plan.facts, at: plan.serverNow() } }
    await this.#follow(now, { ...course, reasons: [...plan.detours, ...course.reasons] })
  }

  async #courseOf(plan: PhysicalPlan): Promise<Course> {
    const { chainLimit } = this.#options.config.physical
    const { signal } = this.#context
    const { choice, unread } = await findParent(this.#repositories, plan, { chainLimit, signal })
    // Not even its backups can be told: it would get a backup that it may have no parent for.
    for (const { repository, error } of unread) this.#giveUp('incremental', repository, error)
    if (choice.chain !== null) return { type: 'incremental', chain: choice.chain, reasons: [] }
    const long = choice.tooLong ?? []
    if (long.length < 2 || !this.#options.config.physical.consolidate) return this.#fullInstead(choice.reason)
    return this.#courseOnChain(plan, long, choice.reason)
  }

  /** A full backup that is put together from the chain, to build on; where that cannot be had, one of the server. */
  async #courseOnChain(plan: PhysicalPlan, long: readonly Manifest[], reason: string): Promise<Course> {
    const { signal } = this.#context
    try {
      for (const { repository, error } of await this.#consolidate(plan, long)) {
        if (error === null) continue
        this.#context.log.error({ repository: repository.name, ...toFailure(error) }, 'has not got the full backup')
      }
    } catch (error) {
      signal.throwIfAborted()
      return this.#fullInstead(`${reason}, and it could not be put together: ${toFailure(error).message}`)
    }
    const { chainLimit } = this.#options.config.physical
    const { choice } = await findParent(this.#repositories, plan, { chainLimit, signal })
    if (choice.chain === null) return this.#fullInstead(choice.reason)
    return { type: 'incremental', chain: choice.chain, reasons: [] }
  }

  async #consolidate(plan: PhysicalPlan, chain: readonly Manifest[]): Promise<readonly Filled[]> {
    const [first, ...others] = this.#repositories
    if (first === undefined) return []
    const use = await markParent(this.#repositories, chain.at(-1) ?? null, this.#context)
    try {
      const repositories = [first, ...others] as const
      const stored = await consolidate({ ...this.#options, plan, chain, repositories, context: this.#context })
      const results = await this.#publish(stored, others, [])
      for (const { repository, error } of results) {
        if (error !== null) continue
        const where = { repository: repository.name, backupId: stored.manifest.backupId }
        this.#context.item({ ...this.#itemOf('full'), outcome: 'succeeded', ...where })
      }
      return results
    } finally {
      await use.release()
    }
  }

  #publish(
    stored: StoredBackup,
    others: readonly Repository[],
    chain: readonly Manifest[],
  ): Promise<readonly Filled[]> {
    const { clock, config } = this.#options
    return publishEverywhere({
      ...{ stored, others, clock, context: this.#context },
      chain: chain.map(({ backupId }) => backupId),
      postgres: config.postgres,
      archive: config.wal.archive,
      walTimeoutMs: config.physical.walTimeoutMs,
      retrying: (what, work, unless) => this.#retrying(what, work, unless),
    })
  }

  #fullInstead(reason: string, detours: readonly string[] = []): Course {
    const words = `a full backup instead of an incremental one: ${reason}`
    this.#context.log.warn(words)
    return { type: 'full', chain: [], reasons: [...detours, words] }
  }

  /** One course to its end; or the next, when the server will not make the incremental backup. */
  async #follow(plan: PhysicalPlan, course: Course): Promise<void> {
    const parent = course.chain.at(-1) ?? null
    const use = await markParent(this.#repositories, parent, this.#context)
    try {
      await this.#backUp(plan, course, parent)
    } catch (error) {
      if (parent !== null && (isIncrementalRefused(error) || isParentLost(error)))
        return await this.#follow(plan, this.#fullInstead(toFailure(error).message, plan.detours))
      // A standby that fails amid, or is promoted: the primary is there.
      if (isOfStandby(error) && this.#options.config.physical.standby?.required === false)
        return await this.#take(course.type, { folder: plan.folder, standbyFailure: error })
      // A run that was cancelled did not fail; one that was cut off or took too long did.
      if (toFailure(error).code !== 'cancelled') this.#note(course.type, error)
      throw error
    } finally {
      await use.release()
    }
  }

  async #backUp(plan: PhysicalPlan, course: Course, parent: Manifest | null): Promise<void> {
    const { clock } = this.#options
    const { signal } = this.#context
    const parentManifest = parent === null ? null : join(plan.folder, 'parent_manifest')
    if (parent !== null && parentManifest !== null)
      await this.#retrying('fetching the manifest of the parent', () =>
        fetchBackupManifest(this.#repositories, parent, parentManifest, { ...this.#options, signal }),
      ).catch((error: unknown) => {
        signal.throwIfAborted()
        throw parentLost(error)
      })
    const id = backupId(clock.now(), course.type, randomBytes(3).toString('hex'))
    const about = { ...this.#options, plan, id, chain: course.chain, parentManifest, context: this.#context }
    const warnings = [...plan.warnings, ...course.reasons]
    // Into the first repository that takes it; should one fail amid, the server has to be read again for the next.
    for (;;) {
      const [first, ...others] = this.#repositories
      if (first === undefined) return
      try {
        const stored = await this.#retrying(`backing up into ${first.name}`, () =>
          takeInto({ ...about, repository: first, warnings, type: course.type }),
        )
        const results = await this.#publish(stored, others, course.chain)
        const lost = results.filter(({ error }) => isParentLost(error))
        for (const result of results)
          if (!lost.includes(result)) this.#tell(course, id, result, stored.manifest.durationSeconds)
        if (lost[0] === undefined) return
        this.#repositories = lost.map(({ repository }) => repository)
        return await this.#follow(plan, this.#fullInstead(toFailure(lost[0].error).message, plan.detours))
      } catch (error) {
        signal.throwIfAborted()
        if (!(error instanceof LifeboatError) || error.details?.repository !== first.name) throw error
        this.#giveUp(course.type, first, error)
      }
    }
  }

  #tell(course: Course, backup: string, { repository, error }: Filled, seconds: number): void {
    if (error !== null) {
      this.#context.signal.throwIfAborted()
      this.#giveUp(course.type, repository, error)
      return
    }
    this.#context.item({
      ...this.#itemOf(course.type),
      ...{ outcome: 'succeeded', repository: repository.name, backupId: backup },
      ...(course.reasons.length === 0 ? {} : { warnings: course.reasons }),
    })
    this.#context.log.info({ repository: repository.name, backup, seconds }, 'backup is complete')
  }

  /** A repository that gets no backup of this run. */
  #giveUp(type: PhysicalType, repository: Repository, error: unknown): void {
    this.#repositories = this.#repositories.filter((one) => one !== repository)
    this.#failures.push({ repository: repository.name, failure: this.#note(type, error, repository.name) })
  }

  #note(type: PhysicalType, error: unknown, repository?: string): Failure {
    const failure = toFailure(error)
    this.#context.log.error({ repository, ...failure }, 'backup failed')
    const where = repository === undefined ? {} : { repository }
    this.#context.item({ ...this.#itemOf(type), outcome: 'failed', failure, ...where })
    return failure
  }

  #itemOf(backupType: PhysicalType) {
    return { backupType, database: '', finishedAt: this.#options.clock.now().toISOString() }
  }

  #retrying<T>(what: string, work: () => Promise<T>, unless?: (error: unknown) => boolean): Promise<T> {
    const { config, clock, random = Math.random } = this.#options
    const { retries, retryDelayMs: delayMs } = config.runner
    const { signal, log } = this.#context
    const onRetry = (attempt: FailedAttempt) => this.#context.retried(attempt)
    const onWait = (message: string) => this.#context.progress({ done: 0, total: null, unit: 'bytes', message })
    const more = unless === undefined ? {} : { unless }
    return withRetries({ retries, delayMs, clock, random, signal, log, what, onRetry, onWait, ...more }, work)
  }
}
