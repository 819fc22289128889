import type { DatabaseSync } from 'node:sqlite'
import type { Clock } from '../clock.ts'
import { type Failure, LifeboatError } from '../domain/errors.ts'
import { ExternalResults } from './external-results.ts'
import { type HistoryFileOptions, historyError, openHistoryFile } from './history-file.ts'
import { answersForAnything, beat, deadOwners, freeLanesOf, ownerValues, unfinishedOf } from './history-owners.ts'
import { type ListOptions, listRuns, newestEqual, readRun, text } from './history-rows.ts'
import { type Retries, setWhileRunning } from './history-running.ts'
import {
  countFinish,
  countStart,
  type JobTotals,
  noteFailedItem,
  noteFailedRun,
  readBackupFailures,
  readTotals,
} from './history-totals.ts'
import type { BackupFailure, JobName, JobParams, Progress, Run, RunItem, RunState } from './job.ts'
import { canonicalParams } from './params.ts'
import { ownProcess, type ProcessIdentity } from './process-identity.ts'
import { queueFull } from './queue-full.ts'
import { newRunId } from './run-id.ts'
import { WalRecords } from './wal-records.ts'

export type { ListOptions } from './history-rows.ts'

export interface HistoryOptions extends HistoryFileOptions {
  /** How many runs to keep; older ones are pruned as new ones finish. Default 10,000. */
  readonly keepRuns?: number
  /**
   * The databases that a backup run is for whose params name none, for one that failed before it found them out itself.
   * Must not throw. Default: none are known.
   */
  readonly databases?: (facts: Pick<History, 'fact'>) => readonly string[]
}

export type NewRun = Pick<Run, 'job' | 'lane' | 'params' | 'trigger' | 'requestedBy'>

/** How a run ended. */
export interface Ending {
  readonly state: Exclude<RunState, 'queued' | 'running'>
  readonly failure: Failure | null
  /** By the monotonic clock; null: it did not run, or nobody saw its end. */
  readonly durationMs: number | null
  /** The last progress; left out: as it was saved. */
  readonly progress?: Progress | null
  /** How the commands around the job fared. */
  readonly hooks?: Run['hooks']
  /** The job works on, verdict or not: its lane stays taken until `release`. */
  readonly isStuck?: boolean
}

/** Opens the run history. @throws LifeboatError, see `openHistoryFile`. */
export function openHistory(options: HistoryOptions): History {
  return new History(options)
}

/**
 * The runs and what became of them, in one SQLite file that several processes of one host may share: a row says which
 * process answers for a run, and what a dead one left behind is found and given a verdict by the next to look.
 *
 * Every method is one transaction, durable when it returns.
 * Each throws LifeboatError `storage-failed` or `disk-full` when SQLite cannot do its work.
 */
export class History {
  /** What was found in and about files of other tools. */
  readonly external: ExternalResults
  readonly wal: WalRecords
  readonly #db: DatabaseSync
  readonly #file: string
  readonly #clock: Clock
  readonly #keepRuns: number
  readonly #databases: () => readonly string[]
  readonly #self: ProcessIdentity

  constructor(options: HistoryOptions) {
    this.#self = ownProcess()
    this.#db = openHistoryFile(options)
    const access = { read: this.#read.bind(this), write: this.#write.bind(this) }
    this.external = new ExternalResults(this.#db, access)
    this.wal = new WalRecords(this.#db, access)
    this.#file = options.file
    this.#clock = options.clock
    this.#keepRuns = options.keepRuns ?? 10_000
    this.#databases = () => options.databases?.(this) ?? []
  }

  /**
   * Adds a run in state `queued`, owned by this process.
   * @throws LifeboatError `conflict` with `details.runId` when an equal run is queued or running in any process;
   * `queue-full` when `queueLimit` runs wait for the lane.
   */
  insert({ job, lane, params, trigger, requestedBy }: NewRun, queueLimit = Number.POSITIVE_INFINITY): Run {
    const canonical = canonicalParams(params)
    return this.#write(() => {
      const equal = this.#db
        .prepare(`select id from runs where job = ? and params = ? and state in ('queued', 'running')`)
        .get(job, canonical)
      if (equal !== undefined) {
        throw new LifeboatError('conflict', `the same ${job} run is already queued or running`, {
          hint: 'Wait for it, or cancel it first.',
          details: { runId: text(equal.id) },
        })
      }
      const queued = this.#db.prepare(`select count(*) as n from runs where lane = ? and state = 'queued'`).get(lane)
      if (Number(queued?.n) >= queueLimit) throw queueFull(lane, queueLimit)
      const id = newRunId(this.#clock.now(), job, (taken) => readRun(this.#db, taken) !== null)
      this.#db
        .prepare(
          `insert into runs (id, job, lane, params, trigger, requested_by, state, requested_at, pid, process_start,
             boot_id, pid_namespace)
           values (?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?, ?, ?)`,
        )
        .run(id, job, lane, canonical, trigger, JSON.stringify(requestedBy), this.#now(), ...ownerValues(this.#self))
      beat(this.#db, this.#self, this.#clock.now())
      return this.#existing(id)
    })
  }

  /**
   * Takes the run's lane and makes it `running`, or says why not: `busy` while another run holds the lane, `gone` when the
   * run is no longer queued.
   */
  claim(id: string): 'claimed' | 'busy' | 'gone' {
    return this.#write(() => {
      const run = readRun(this.#db, id)
      if (run?.state !== 'queued') return 'gone'
      const taken = this.#db
        .prepare('insert or ignore into lanes values (?, ?, ?, ?, ?, ?)')
        .run(run.lane, id, ...ownerValues(this.#self))
      if (taken.changes === 0) return 'busy'
      const now = this.#now()
      this.#db.prepare(`update runs set state = 'running', started_at = ? where id = ?`).run(now, id)
      countStart(this.#db, run.job, now)
      return 'claimed'
    })
  }

  /** Frees the lane that this run holds, if it still does. */
  release(id: string): void {
    this.#write(() => this.#release(id))
  }

  /**
   * Gives a run its verdict if it is still in the state `from`, frees its lane, and returns it as it is then; otherwise
   * null: of several that try, one wins.
   */
  finish(id: string, from: 'queued' | 'running', ending: Ending): Run | null {
    return this.#write(() => this.#finish(id, from, ending))
  }

  /** Adds an item to a running run; false (and nothing kept) when it already has its verdict. */
  item(id: string, item: RunItem): boolean {
    return this.#write(() => {
      const run = readRun(this.#db, id)
      if (run?.state !== 'running') return false
      this.#db
        .prepare('insert into items select seq, ?, ? from runs where id = ?')
        .run(run.items.length, JSON.stringify(item), id)
      noteFailedItem(this.#db, run.job, item, this.#keepRuns)
      return true
    })
  }

  /** Saves the progress of a running run. A durable write: seconds apart, please. */
  saveProgress(id: string, progress: Progress): void {
    this.#write(() => setWhileRunning(this.#db, id, 'progress', progress))
  }

  /** Keeps, for the time after the run and for other processes, what it has tried again so far. */
  saveRetries(id: string, retries: Retries): void {
    this.#write(() => setWhileRunning(this.#db, id, 'retries', retries))
  }

  /** Asks the process that runs it to cancel a run. */
  requestCancel(id: string): void {
    this.#write(() => this.#db.prepare('update runs set cancel_requested = 1 where id = ?').run(id))
  }

  isCancelRequested(id: string): boolean {
    return this.#read(() => {
      const row = this.#db.prepare('select cancel_requested from runs where id = ?').get(id)
      return row?.cancel_requested === 1
    })
  }

  /** Fails, as `interrupted`, all that dead processes left queued or running, frees their lanes, and returns the runs. */
  sweep(): readonly Run[] {
    const dead = () => deadOwners(this.#db, this.#self, this.#clock.now())
    if (this.#read(dead).length === 0) return []
    return this.#write(() => dead().flatMap((owner) => this.#bury(owner)))
  }

  /**
   * Shows processes of other PID namespaces that this one lives, if it answers for anything: to be called every `beatMs`.
   */
  heartbeat(): void {
    if (!this.#read(() => answersForAnything(this.#db, this.#self))) return
    this.#write(() => beat(this.#db, this.#self, this.#clock.now()))
  }

  /** The newest run of a job with these very params; null when none is known (any more). */
  newestEqual(job: JobName, params: JobParams): Run | null {
    return this.#read(() => newestEqual(this.#db, job, canonicalParams(params)))
  }

  get(id: string): Run | null {
    return this.#read(() => readRun(this.#db, id))
  }

  /** Runs, newest first. @throws LifeboatError `usage-invalid` when `before` is not a run id. */
  list(options: ListOptions = {}): readonly Run[] {
    return this.#read(() => listRuns(this.#db, options))
  }

  /** Counters and last moments of a job over its whole history: they never go back, pruned runs included. */
  totals(job: JobName): JobTotals {
    return this.#read(() => readTotals(this.#db, job))
  }

  /** Newest failed attempt at each backup; from the items of backup jobs, or from the run when it did not get that far. */
  backupFailures(): readonly BackupFailure[] {
    return this.#read(() => readBackupFailures(this.#db))
  }

  /** The id of the repository that this name stood for when it was last used; null when it never was. */
  repositoryId(repository: string, cluster: string): string | null {
    const row = this.#read(() =>
      this.#db.prepare('select id from repositories where repository = ? and cluster = ?').get(repository, cluster),
    )
    return row === undefined ? null : text(row.id)
  }

  noteRepository(repository: string, cluster: string, id: string): void {
    this.#write(() =>
      this.#db.prepare('insert or replace into repositories values (?, ?, ?)').run(repository, cluster, id),
    )
  }

  /** What was kept under that name; null when nothing was. */
  fact(name: string): string | null {
    const row = this.#read(() => this.#db.prepare('select value from facts where name = ?').get(name))
    return row === undefined ? null : text(row.value)
  }

  /** Keeps a text under a name, in the place of what was kept there. */
  keepFact(name: string, value: string): void {
    this.#write(() => this.#db.prepare('insert or replace into facts values (?, ?)').run(name, value))
  }

  /** Closes the file. Nothing else may be called after it. */
  close(): void {
    this.#db.close()
  }

  #finish(id: string, from: 'queued' | 'running', ending: Ending): Run | null {
    const { state, failure, durationMs, progress = null, hooks = [], isStuck = false } = ending
    const { changes } = this.#db
      .prepare(
        `update runs set state = ?, failure = ?, finished_at = ?, duration_ms = ?, hooks = ?, progress = coalesce(?, progress)
         where id = ? and state = ?`,
      )
      .run(state, toJson(failure), this.#now(), durationMs, JSON.stringify(hooks), toJson(progress), id, from)
    if (changes === 0) return null
    if (!isStuck) this.#release(id)
    const run = this.#existing(id)
    countFinish(this.#db, run, durationMs)
    noteFailedRun(this.#db, run, this.#databases, this.#keepRuns)
    this.#db
      .prepare(`delete from runs where state not in ('queued', 'running') and seq <= (select max(seq) from runs) - ?`)
      .run(this.#keepRuns)
    return run
  }

  #release(id: string): void {
    this.#db.prepare('delete from lanes where run = ?').run(id)
  }

  #bury(owner: ProcessIdentity): readonly Run[] {
    freeLanesOf(this.#db, owner)
    const failure: Failure = {
      code: 'interrupted',
      message: `process ${owner.pid} ended before the run did`,
      hint: 'Look in the log, and in that of the kernel, for what ended it; then start the run again.',
    }
    return unfinishedOf(this.#db, owner).flatMap(({ id, state }) => {
      const run = this.#finish(id, state, { state: 'failed', failure, durationMs: null })
      return run === null ? [] : [run]
    })
  }

  #existing(id: string): Run {
    const run = readRun(this.#db, id)
    if (run === null) throw new LifeboatError('not-found', `there is no run ${JSON.stringify(id)}`)
    return run
  }

  #now(): string {
    return this.#clock.now().toISOString()
  }

  #read<T>(work: () => T): T {
    try {
      return work()
    } catch (error) {
      throw historyError(error, this.#file)
    }
  }

  /** `immediate` takes the write lock first: a transaction that began by reading could not wait for it, only fail. */
  #write<T>(work: () => T): T {
    try {
      this.#db.exec('begin immediate')
      const result = work()
      this.#db.exec('commit')
      return result
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec('rollback')
      throw historyError(error, this.#file)
    }
  }
}

function toJson(value: unknown): string | null {
  return value === null ? null : JSON.stringify(value)
}
