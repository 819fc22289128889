import type { DatabaseSync } from 'node:sqlite'
import type { BackupType } from '../domain/backup.ts'
import type { Failure } from '../domain/errors.ts'
import { json, moment, text } from './history-rows.ts'
import { type BackupFailure, isBackupJob, type JobName, type Run, type RunItem } from './job.ts'

/** What is known of one job over its whole history, pruned runs included. */
export interface JobTotals {
  readonly runs: number
  readonly failures: number
  readonly lastStartAt: Date | null
  readonly lastSuccessAt: Date | null
  readonly lastDurationSeconds: number | null
}

/** Counts a start. Runs inside the transaction that starts the run, as do all the writers here. */
export function countStart(db: DatabaseSync, job: JobName, at: string): void {
  db.prepare(
    `insert into job_totals (job, last_start_at) values (:job, :at)
     on conflict (job) do update set last_start_at = excluded.last_start_at`,
  ).run({ job, at })
}

/** Counts a verdict; the duration of a run that never ran, or died, leaves the last one known. */
export function countFinish(db: DatabaseSync, run: Run, durationMs: number | null): void {
  db.prepare(
    `insert into job_totals (job, runs, failures, last_success_at, last_duration_ms)
     values (:job, 1, :failed, :succeededAt, :durationMs)
     on conflict (job) do update set
       runs = runs + 1,
       failures = failures + excluded.failures,
       last_success_at = coalesce(excluded.last_success_at, last_success_at),
       last_duration_ms = coalesce(excluded.last_duration_ms, last_duration_ms)`,
  ).run({
    job: run.job,
    failed: run.state === 'failed' ? 1 : 0,
    succeededAt: run.state === 'succeeded' ? run.finishedAt : null,
    durationMs,
  })
}

/** The totals of a job; zeros and nulls when it never ran. */
export function readTotals(db: DatabaseSync, job: JobName): JobTotals {
  const row = db.prepare('select * from job_totals where job = ?').get(job)
  const durationMs = row?.last_duration_ms
  return {
    runs: Number(row?.runs ?? 0),
    failures: Number(row?.failures ?? 0),
    lastStartAt: moment(row?.last_start_at),
    lastSuccessAt: moment(row?.last_success_at),
    lastDurationSeconds: typeof durationMs === 'number' ? durationMs / 1000 : null,
  }
}

/** Remembers a failed item of a backup job; what somebody cancelled did not fail, and items of others are no attempts at a backup. */
export function noteFailedItem(db: DatabaseSync, job: JobName, item: RunItem, keep: number): void {
  if (!isBackupJob(job) || item.outcome !== 'failed' || item.failure?.code === 'cancelled') return
  const failure = item.failure ?? { code: 'unexpected', message: 'failed without saying why' }
  noteFailure(db, item.backupType, item.database, item.finishedAt, failure, keep)
}

/**
 * Remembers a backup run that failed before it could report an item: for the database that its params name, or for all
 * that are known when it was to find out itself (`all`), since none of them was backed up. A physical one is of no database.
 */
export function noteFailedRun(db: DatabaseSync, run: Run, all: () => readonly string[], keep: number): void {
  const { job: backupType, params, items, failure, finishedAt } = run
  if (!isBackupJob(backupType) || run.state !== 'failed' || failure === null || finishedAt === null) return
  const whole = backupType === 'dump' ? (items.length === 0 ? all() : []) : ['']
  const named = typeof params.database === 'string' ? [params.database] : whole
  for (const database of named) {
    if (items.some((item) => item.backupType === backupType && item.database === database)) continue
    noteFailure(db, backupType, database, finishedAt, failure, keep)
  }
}

/** Replaces without comparing times: the last attempt is the newest one, whatever the clock did meanwhile. */
function noteFailure(
  db: DatabaseSync,
  backupType: BackupType,
  database: string,
  at: string,
  failure: Failure,
  keep: number,
): void {
  db.prepare('insert or replace into backup_failures values (?, ?, ?, ?)').run(
    backupType,
    database,
    at,
    JSON.stringify(failure),
  )
  // Anybody who may ask for a backup may name databases that never existed: those must not pile up.
  db.prepare(
    `delete from backup_failures
     where at < (select at from backup_failures order by at desc limit 1 offset ?)`,
  ).run(keep - 1)
}

/** The newest failed attempt at each backup. */
export function readBackupFailures(db: DatabaseSync): readonly BackupFailure[] {
  const rows = db.prepare('select * from backup_failures order by backup_type, database').all()
  return rows.map((row) => ({
    backupType: text(row.backup_type) as BackupType,
    database: text(row.database),
    at: new Date(text(row.at)),
    failure: json<Failure>(row.failure),
  }))
}
