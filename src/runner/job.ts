import type { Logger } from 'pino'
import type { BackupType } from '../domain/backup.ts'
import type { Failure } from '../domain/errors.ts'
import type { Verdict } from '../domain/proof.ts'

/** The kinds of work. Also the `job` label of the metrics and the `job` field of the API. */
export const jobNames = ['dump', 'full', 'incremental', 'verify', 'restore', 'expire', 'copy', 'alert-drill'] as const
export type JobName = (typeof jobNames)[number]

/** The jobs that take backups; each is named after the type that it takes. */
export const backupJobs = ['dump', 'full', 'incremental'] as const satisfies readonly (JobName & BackupType)[]
export type BackupJob = (typeof backupJobs)[number]

export function isBackupJob(job: JobName): job is BackupJob {
  return backupJobs.some((one) => one === job)
}

/** What a run has to do; plain JSON, stored with the run. Two runs with equal params of one job are "the same run". */
export type JobParams = Readonly<Record<string, string | number | boolean | null>>

/** Done and total in the job's own unit (`bytes`, `tables`, `steps`); a total of null is not known (yet). */
export interface Progress {
  readonly done: number
  readonly total: number | null
  readonly unit: string
  /** What is being done just now, in a few words, e.g. `dumping public.users`. */
  readonly message?: string
}

/** A cluster that was restored into a directory, and how far it came. */
export interface RestoredDirectory {
  readonly directory: string
  /** The target, in words. */
  readonly asked: string
  /** The one that was replayed. */
  readonly timeline: number
  /** Where the replay ended; null: it was not started. */
  readonly lsn: string | null
  /** Of the last transaction that was replayed. */
  readonly lastCommitAt: string | null
  /** Why it stopped there, in the server's words; null: at the end of the WAL. */
  readonly stoppedAt: string | null
  /** What it writes to since it was promoted; null: it was not. */
  readonly newTimeline: number | null
  /** The command that starts it; null: it runs. */
  readonly start: string | null
  /** The command that connects to it; null: it does not run. */
  readonly connect: string | null
}

/**
 * What became of one part of a run (one database, one repository). A run may hold several: the history keeps each, so
 * that one bad database neither hides the good ones nor is hidden by them.
 */
export interface RunItem {
  readonly outcome: 'succeeded' | 'failed'
  readonly backupType: BackupType
  /** Database name; empty for physical backups. */
  readonly database: string
  readonly repository?: string
  readonly backupId?: string
  readonly verdict?: Verdict
  readonly failure?: Failure
  /** Of a physical restore: seconds by phase, and the WAL that was replayed, bytes: how long the next one takes is learned from it. */
  readonly measured?: { readonly phases: Readonly<Record<string, number>>; readonly walBytes: number }
  /** Of a physical restore. */
  readonly restored?: RestoredDirectory
  /** What went well, and yet somebody must know; in words. */
  readonly warnings?: readonly string[]
  readonly finishedAt: string
}

/** How one command around a job fared. It says nothing about what came of the job. */
export interface HookResult {
  readonly name: string
  readonly when: 'before' | 'after'
  readonly outcome: 'succeeded' | 'failed'
  readonly failure?: Failure
  readonly durationSeconds: number
}

/** An attempt at a part of a run that failed for a cause that can pass, and was followed by another one. */
export interface FailedAttempt {
  /** What was attempted, in a few words, e.g. `dumping app`. */
  readonly what: string
  readonly failedAt: string
  readonly failure: Failure
  /** Why it may pass. */
  readonly reason: string
  /** The wait before the next attempt. */
  readonly waitSeconds: number
}

export interface JobContext {
  readonly runId: string
  readonly trigger: RunTrigger
  /** Aborts on cancel, timeout and shutdown; its reason is a LifeboatError (`cancelled`, `timed-out`, `interrupted`). */
  readonly signal: AbortSignal
  /** Carries the run id and the job's name. */
  readonly log: Logger
  progress(progress: Progress): void
  item(item: RunItem): void
  hook(result: HookResult): void
  retried(attempt: FailedAttempt): void
}

/** A kind of work. One file each in jobs/; the runner knows them only by this. */
export interface Job {
  readonly name: JobName
  /** Runs of one lane follow one another; lanes are independent. */
  readonly lane: string
  readonly timeoutSeconds: number
  /** Does the work. Resolves when it succeeded; throws a LifeboatError otherwise. Ends soon after the signal aborts. */
  run(params: JobParams, context: JobContext): Promise<void>
}

export const runStates = ['queued', 'running', 'succeeded', 'failed', 'cancelled'] as const
export type RunState = (typeof runStates)[number]
/** `catch-up`: a scheduled run that was missed. */
export const runTriggers = ['schedule', 'catch-up', 'api', 'cli'] as const
export type RunTrigger = (typeof runTriggers)[number]

/** A run of a thousand databases may try a thousand things again. */
export const mostAttempts = 50

/** One execution of a job, as the history keeps it and the API shows it. Times are RFC 3339, UTC. */
export interface Run {
  readonly id: string
  readonly job: JobName
  readonly lane: string
  readonly params: JobParams
  readonly trigger: RunTrigger
  /** Who asked: a token's name, the OS user of the CLI; null for the schedule. */
  readonly requestedBy: string | null
  readonly state: RunState
  readonly requestedAt: string
  readonly startedAt: string | null
  readonly finishedAt: string | null
  readonly progress: Progress | null
  readonly items: readonly RunItem[]
  /** The commands that ran around the job, in their order; empty until the verdict. */
  readonly hooks: readonly HookResult[]
  /** How often parts of it were tried again. */
  readonly retries: number
  /** The newest of the attempts that failed before those, oldest first; at most `mostAttempts`. */
  readonly attempts: readonly FailedAttempt[]
  readonly failure: Failure | null
}

/** What the metrics and `/api/jobs` say about one kind of work. */
export interface JobSummary {
  readonly job: JobName
  readonly lane: string
  /** A run that takes longer is ended. */
  readonly timeoutSeconds: number
  /** Cron expression, UTC; null: on demand only. */
  readonly schedule: string | null
  readonly nextRunAt: Date | null
  /** Finished runs by how they ended, over the whole history. */
  readonly runs: number
  readonly failures: number
  readonly lastStartAt: Date | null
  readonly lastSuccessAt: Date | null
  readonly lastDurationSeconds: number | null
  readonly running: boolean
  readonly progressRatio: number | null
}

/** Newest failed attempt at a backup of one database, from the history. */
export interface BackupFailure {
  readonly backupType: BackupType
  readonly database: string
  readonly at: Date
  readonly failure: Failure
}
