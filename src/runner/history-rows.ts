import type { DatabaseSync, SQLInputValue, SQLOutputValue } from 'node:sqlite'
import { type Failure, LifeboatError } from '../domain/errors.ts'
import type { Retries } from './history-running.ts'
import type { HookResult, JobName, JobParams, Progress, Run, RunItem, RunState, RunTrigger } from './job.ts'
import { isRunId } from './run-id.ts'

/** A row as node:sqlite gives it. */
type Row = Record<string, SQLOutputValue>

export interface ListOptions {
  /** 1 to 1000, default 100; more or less is brought into these bounds. */
  readonly limit?: number
  /** Only runs older than this one, for the next page. */
  readonly before?: string
  readonly job?: JobName
  readonly state?: RunState
}

/** The run with this id, or null. */
export function readRun(db: DatabaseSync, id: string): Run | null {
  const row = db.prepare('select * from runs where id = ?').get(id)
  return row === undefined ? null : toRun(db, row)
}

/** Runs, newest first. @throws LifeboatError `usage-invalid` when `before` is not a run id. */
export function listRuns(db: DatabaseSync, { limit = 100, before, job, state }: ListOptions): readonly Run[] {
  const conditions: string[] = []
  const values: SQLInputValue[] = []
  if (before !== undefined) {
    if (!isRunId(before)) throw new LifeboatError('usage-invalid', `${JSON.stringify(before)} is not a run id`)
    // Nothing is older than a run that was pruned: the comparison with null gives no row.
    conditions.push('seq < (select seq from runs where id = ?)')
    values.push(before)
  }
  if (job !== undefined) {
    conditions.push('job = ?')
    values.push(job)
  }
  if (state !== undefined) {
    conditions.push('state = ?')
    values.push(state)
  }
  const where = conditions.length === 0 ? '' : `where ${conditions.join(' and ')}`
  return db
    .prepare(`select * from runs ${where} order by seq desc limit ?`)
    .all(...values, Math.min(Math.max(1, Math.trunc(limit)), 1000))
    .map((row) => toRun(db, row))
}

/** A row of `runs` and its items as the Run that everybody else knows. */
function toRun(db: DatabaseSync, row: Row): Run {
  const items = db.prepare('select item from items where run = ? order by position').all(row.seq ?? null)
  return {
    id: text(row.id),
    job: text(row.job) as JobName,
    lane: text(row.lane),
    params: json<JobParams>(row.params),
    trigger: text(row.trigger) as RunTrigger,
    requestedBy: json<string | null>(row.requested_by),
    state: text(row.state) as RunState,
    requestedAt: text(row.requested_at),
    startedAt: row.started_at === null ? null : text(row.started_at),
    finishedAt: row.finished_at === null ? null : text(row.finished_at),
    progress: row.progress === null ? null : json<Progress>(row.progress),
    items: items.map((item) => json<RunItem>(item.item)),
    hooks: row.hooks === null ? [] : json<HookResult[]>(row.hooks),
    ...(row.retries === null ? { retries: 0, attempts: [] } : json<Retries>(row.retries)),
    failure: row.failure === null ? null : json<Failure>(row.failure),
  }
}

/** A column that is text by the schema. */
export function text(value: SQLOutputValue | undefined): string {
  if (typeof value !== 'string') throw new TypeError(`expected text in the state file, found ${typeof value}`)
  return value
}

/** A column that holds what we wrote as JSON. */
export function json<T>(value: SQLOutputValue | undefined): T {
  return JSON.parse(text(value)) as T
}

/** An optional moment. */
export function moment(value: SQLOutputValue | undefined): Date | null {
  return typeof value === 'string' ? new Date(value) : null
}

/** The newest run of a job with these params, whatever became of it. */
export function newestEqual(db: DatabaseSync, job: JobName, params: string): Run | null {
  const row = db.prepare('select id from runs where job = ? and params = ? order by seq desc limit 1').get(job, params)
  return row === undefined ? null : readRun(db, text(row.id))
}
