import { Type } from 'typebox'
import { backupTypes } from '../domain/backup.ts'
import { verdicts } from '../domain/proof.ts'
import { jobNames, mostAttempts, runStates, runTriggers } from '../runner/job.ts'
import { FailureSchema, HookResultSchema, moment, orNull } from './schema-parts.ts'

/* Runs and jobs as the API shows them. */

const RestoredSchema = Type.Object(
  {
    directory: Type.String(),
    asked: Type.String({ description: 'The target, in words' }),
    timeline: Type.Integer({ description: 'The one that was replayed' }),
    lsn: orNull(Type.String({ description: 'Where the replay ended; null: it was not started' })),
    lastCommitAt: orNull(Type.String({ description: 'Of the last transaction that was replayed' })),
    stoppedAt: orNull(Type.String({ description: "Why it stopped there, in PostgreSQL's words" })),
    newTimeline: orNull(Type.Integer({ description: 'Since it was promoted; null: it was not' })),
    start: orNull(Type.String({ description: 'The command that starts it; null: it runs' })),
    connect: orNull(Type.String({ description: 'The command that connects to it; null: it does not run' })),
  },
  { description: 'A cluster that was restored into a directory, and how far it came' },
)

export const RunSchema = Type.Object(
  {
    id: Type.String(),
    job: Type.Enum([...jobNames]),
    lane: Type.String(),
    params: Type.Record(Type.String(), Type.Union([Type.String(), Type.Number(), Type.Boolean(), Type.Null()])),
    trigger: Type.Enum([...runTriggers], { description: '`catch-up`: a scheduled run that was missed' }),
    requestedBy: orNull(Type.String()),
    state: Type.Enum([...runStates]),
    requestedAt: moment('When it was asked for'),
    startedAt: orNull(moment('When it began')),
    finishedAt: orNull(moment('When it ended')),
    progress: orNull(
      Type.Object({
        done: Type.Number(),
        total: orNull(Type.Number()),
        unit: Type.String(),
        message: Type.Optional(Type.String()),
      }),
    ),
    items: Type.Array(
      Type.Object({
        outcome: Type.Enum(['succeeded', 'failed']),
        backupType: Type.Enum([...backupTypes]),
        database: Type.String(),
        repository: Type.Optional(Type.String()),
        backupId: Type.Optional(Type.String()),
        verdict: Type.Optional(Type.Enum([...verdicts])),
        failure: Type.Optional(FailureSchema),
        measured: Type.Optional(
          Type.Object(
            { phases: Type.Record(Type.String(), Type.Number()), walBytes: Type.Number() },
            { description: 'Of a restore of the cluster: seconds by phase, and the WAL that was replayed' },
          ),
        ),
        restored: Type.Optional(RestoredSchema),
        warnings: Type.Optional(
          Type.Array(Type.String(), { description: 'What went well, and yet somebody must know' }),
        ),
        finishedAt: moment('When this part ended'),
      }),
    ),
    hooks: Type.Array(HookResultSchema, { description: 'The commands around the job; empty until the run has ended' }),
    retries: Type.Integer({ description: 'How often parts of it were tried again' }),
    attempts: Type.Array(
      Type.Object({
        what: Type.String({ description: 'What was attempted' }),
        failedAt: moment('When the attempt failed'),
        failure: FailureSchema,
        reason: Type.String({ description: 'Why it may pass' }),
        waitSeconds: Type.Number({ description: 'The wait before the next attempt' }),
      }),
      {
        description: `The attempts that failed for a cause that can pass, before the last ones; the newest ${mostAttempts}`,
      },
    ),
    failure: orNull(FailureSchema),
  },
  { $id: 'Run', description: 'One execution of a job' },
)

export const JobSchema = Type.Object(
  {
    job: Type.Enum([...jobNames]),
    lane: Type.String({ description: 'Runs of one lane follow one another' }),
    timeoutSeconds: Type.Number({ description: 'A run that takes longer is ended' }),
    schedule: orNull(Type.String({ description: 'Cron expression, UTC' })),
    nextRunAt: orNull(moment('When the schedule starts it next')),
    runs: Type.Integer({ description: 'Finished runs' }),
    failures: Type.Integer(),
    lastStartAt: orNull(moment('')),
    lastSuccessAt: orNull(moment('')),
    lastDurationSeconds: orNull(Type.Number()),
    running: Type.Boolean(),
    progressRatio: orNull(Type.Number({ minimum: 0, maximum: 1 })),
  },
  { $id: 'Job', description: 'A kind of work' },
)
