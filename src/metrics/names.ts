import { bucketDefinitions } from './names-buckets.ts'
import { costDefinitions } from './names-costs.ts'
import { policyDefinitions } from './names-policy.ts'
import { tellingDefinitions } from './names-tellings.ts'
import { walDefinitions } from './names-wal.ts'

/** One metric as the registry makes it and the document tells of it. */
export interface MetricDefinition {
  readonly family:
    | 'build'
    | 'server'
    | 'wal'
    | 'collectors'
    | 'backups'
    | 'verification'
    | 'repositories'
    | 'jobs'
    | 'policy'
    | 'tellings'
  readonly type: 'gauge' | 'counter'
  readonly unit:
    | 'seconds'
    | 'seconds since 1970'
    | 'bytes'
    | 'backups'
    | 'files'
    | 'segments'
    | 'failures'
    | 'runs'
    | 'requests'
    | 'objects'
    | 'ratio'
    | 'dollars'
    | '0 or 1'
    | 'always 1'
  /** Besides `cluster_name`, which every metric has whose `cluster` is not false. */
  readonly labels: readonly string[]
  readonly help: string
  readonly cluster?: false
}

const backup = ['repository', 'backup_type', 'database'] as const
const inventory = ['repository', 'backup_type'] as const
const verification = ['repository', 'backup_type', 'database', 'level'] as const

/**
 * Every metric of Lifeboat, in the order of its output: the one source of the registry and of docs/metrics.md. Names and
 * labels are a contract with alerts and dashboards. No label holds a backup id or a path, so that the number of series
 * depends on repositories, databases and jobs, never on how many backups there are.
 */
export const metricDefinitions = {
  lifeboat_build_info: {
    family: 'build',
    type: 'gauge',
    unit: 'always 1',
    labels: ['version', 'revision', 'node_version'],
    cluster: false,
    help: 'Version of Lifeboat, the commit it was built from and the Node.js it runs on.',
  },
  lifeboat_cluster_info: {
    family: 'server',
    type: 'gauge',
    unit: 'always 1',
    labels: ['system_identifier', 'server_version'],
    help: 'The PostgreSQL cluster, as last seen, or as the newest backup names it if it never was. A change of system_identifier means another cluster (initdb, pg_upgrade).',
  },
  lifeboat_up: {
    family: 'server',
    type: 'gauge',
    unit: '0 or 1',
    labels: [],
    help: 'Whether the last look at the server worked. No series before the first look.',
  },
  lifeboat_collector_success: {
    family: 'collectors',
    type: 'gauge',
    unit: '0 or 1',
    labels: ['collector'],
    help: 'Whether the last look of this collector worked. While it does not, the other metrics keep what it saw last.',
  },
  lifeboat_collector_duration_seconds: {
    family: 'collectors',
    type: 'gauge',
    unit: 'seconds',
    labels: ['collector'],
    help: 'How long the last look of this collector took.',
  },
  lifeboat_collector_last_success_timestamp_seconds: {
    family: 'collectors',
    type: 'gauge',
    unit: 'seconds since 1970',
    labels: ['collector'],
    help: 'When the last look of this collector that worked had ended: how old what it saw is.',
  },
  lifeboat_backup_last_success_timestamp_seconds: {
    family: 'backups',
    type: 'gauge',
    unit: 'seconds since 1970',
    labels: backup,
    help: 'When the newest complete backup of this cluster finished. The database is empty for physical backups.',
  },
  lifeboat_backup_last_failure_timestamp_seconds: {
    family: 'backups',
    type: 'gauge',
    unit: 'seconds since 1970',
    labels: ['backup_type', 'database'],
    help: 'When the newest failed attempt at a backup ended. A run that failed before it knew the databases failed for each.',
  },
  lifeboat_backup_last_duration_seconds: {
    family: 'backups',
    type: 'gauge',
    unit: 'seconds',
    labels: backup,
    help: 'How long the newest complete backup took.',
  },
  lifeboat_backup_last_size_bytes: {
    family: 'backups',
    type: 'gauge',
    unit: 'bytes',
    labels: backup,
    help: 'Stored size of the newest complete backup.',
  },
  lifeboat_backup_last_source_bytes: {
    family: 'backups',
    type: 'gauge',
    unit: 'bytes',
    labels: backup,
    help: 'Size of the database on the server when the newest complete backup was taken.',
  },
  lifeboat_backup_deviation_ratio: {
    family: 'backups',
    type: 'gauge',
    unit: 'ratio',
    labels: backup,
    help: 'Stored size of the newest complete backup divided by the usual one: the median of the last four of its weekday, or of the last fourteen days. 0.5: half as large. Rows do not count in it: the log and GET /api/backups name the tables. No series below three earlier backups.',
  },
  lifeboat_backup_unusual: {
    family: 'backups',
    type: 'gauge',
    unit: '0 or 1',
    labels: backup,
    help: 'Whether the newest complete backup is unusually small or large, in its size or its rows: the log and GET /api/backups name the tables. No series below three earlier backups, nor while its rows are being looked at.',
  },
  lifeboat_backups: {
    family: 'backups',
    type: 'gauge',
    unit: 'backups',
    labels: inventory,
    help: 'Complete backups in the repository, those of former clusters included. 0 only once the repository was seen.',
  },
  lifeboat_backups_size_bytes: {
    family: 'backups',
    type: 'gauge',
    unit: 'bytes',
    labels: inventory,
    help: 'Stored size of the complete backups in the repository.',
  },
  lifeboat_backup_oldest_timestamp_seconds: {
    family: 'backups',
    type: 'gauge',
    unit: 'seconds since 1970',
    labels: inventory,
    help: 'When the oldest complete backup in the repository finished.',
  },
  lifeboat_backups_unusable: {
    family: 'backups',
    type: 'gauge',
    unit: 'backups',
    labels: ['repository', 'state'],
    help: 'Folders without a usable backup: incomplete (a run died) or invalid (its manifest cannot be read or was changed, or an artifact is missing or has another size). Those being taken now do not count.',
  },
  lifeboat_external_files: {
    family: 'backups',
    type: 'gauge',
    unit: 'files',
    labels: ['repository', 'state'],
    help: 'Files of other tools in a watched directory by what is known of them: growing, pending (finished, not read yet), sound, unchecked (too old to be read, or this machine cannot), empty, truncated, wrong-format, corrupt, unreadable (it cannot be opened).',
  },
  lifeboat_backup_proven_timestamp_seconds: {
    family: 'verification',
    type: 'gauge',
    unit: 'seconds since 1970',
    labels: backup,
    help: 'When the newest backup that a test restore has proven had finished (the backup, not the test).',
  },
  lifeboat_verification_last_success_timestamp_seconds: {
    family: 'verification',
    type: 'gauge',
    unit: 'seconds since 1970',
    labels: verification,
    help: 'When a verification at this level last passed, of any backup that is still there. Ends when the database is dropped.',
  },
  lifeboat_verification_last_duration_seconds: {
    family: 'verification',
    type: 'gauge',
    unit: 'seconds',
    labels: verification,
    help: 'How long the last verification at this level took, whatever its verdict.',
  },
  lifeboat_verification_last_result: {
    family: 'verification',
    type: 'gauge',
    unit: '0 or 1',
    labels: [...verification, 'result'],
    help: 'Verdict of the last verification at this level: one of pass, fail and inconclusive is 1. Stays until the next one ends.',
  },
  lifeboat_recovery_point_timestamp_seconds: {
    family: 'repositories',
    type: 'gauge',
    unit: 'seconds since 1970',
    labels: ['repository'],
    help: 'The moment to which everything that must be backed up can be restored from this repository: by a physical backup and the WAL after it, or by dumps, whichever is later. It is the present on an idle server whose WAL is stored. No series when something cannot be restored at all, but for a database that is newer than the maximum age of backups.',
  },
  lifeboat_repository_up: {
    family: 'repositories',
    type: 'gauge',
    unit: '0 or 1',
    labels: ['repository'],
    help: 'Whether the last look at the repository worked: it is there, is the one that it was, and can be read. That it can be written, every backup shows. No series before the first look.',
  },
  lifeboat_lease_held: {
    family: 'repositories',
    type: 'gauge',
    unit: '0 or 1',
    labels: ['repository'],
    help: 'Whether this lifeboat has the lease on the repository, and so writes to it; 0: another one has it, and this one stands by. No series while that is not known.',
  },
  lifeboat_repository_free_bytes: {
    family: 'repositories',
    type: 'gauge',
    unit: 'bytes',
    labels: ['repository'],
    help: 'Free space where the repository is stored, if that has a limit.',
  },
  lifeboat_repository_capacity_bytes: {
    family: 'repositories',
    type: 'gauge',
    unit: 'bytes',
    labels: ['repository'],
    help: 'Total space where the repository is stored, if that has a limit.',
  },
  ...bucketDefinitions,
  lifeboat_retention_blocked: {
    family: 'repositories',
    type: 'gauge',
    unit: '0 or 1',
    labels: ['repository'],
    help: 'Whether nothing expires in the repository, since a manifest cannot be read or the clock is in doubt.',
  },
  lifeboat_backups_held: {
    family: 'repositories',
    type: 'gauge',
    unit: 'backups',
    labels: ['repository'],
    help: 'Backups that somebody holds: they do not expire.',
  },
  lifeboat_job_runs_total: {
    family: 'jobs',
    type: 'counter',
    unit: 'runs',
    labels: ['job'],
    help: 'Runs of the job that have ended, over the whole history.',
  },
  lifeboat_job_failures_total: {
    family: 'jobs',
    type: 'counter',
    unit: 'runs',
    labels: ['job'],
    help: 'Runs of the job that have failed, over the whole history.',
  },
  lifeboat_job_last_start_timestamp_seconds: {
    family: 'jobs',
    type: 'gauge',
    unit: 'seconds since 1970',
    labels: ['job'],
    help: 'When the newest run of the job began.',
  },
  lifeboat_job_last_success_timestamp_seconds: {
    family: 'jobs',
    type: 'gauge',
    unit: 'seconds since 1970',
    labels: ['job'],
    help: 'When the newest successful run of the job ended.',
  },
  lifeboat_job_last_duration_seconds: {
    family: 'jobs',
    type: 'gauge',
    unit: 'seconds',
    labels: ['job'],
    help: 'How long the newest ended run of the job took.',
  },
  lifeboat_job_next_run_timestamp_seconds: {
    family: 'jobs',
    type: 'gauge',
    unit: 'seconds since 1970',
    labels: ['job'],
    help: 'When the schedule starts the job next. No series for a job that runs on demand only.',
  },
  lifeboat_job_running: {
    family: 'jobs',
    type: 'gauge',
    unit: '0 or 1',
    labels: ['job'],
    help: 'Whether a run of the job is under way.',
  },
  lifeboat_job_progress_ratio: {
    family: 'jobs',
    type: 'gauge',
    unit: 'ratio',
    labels: ['job'],
    help: 'Done share of the run under way, 0 to 1, while it is known.',
  },
  ...costDefinitions,
  ...walDefinitions,
  ...policyDefinitions,
  ...tellingDefinitions,
} as const satisfies Record<`lifeboat_${string}`, MetricDefinition>

export type MetricName = keyof typeof metricDefinitions

/** The labels of a metric, `cluster_name` excepted; each must be given. */
export type MetricLabels<N extends MetricName> = Readonly<
  Record<(typeof metricDefinitions)[N]['labels'][number], string>
>
