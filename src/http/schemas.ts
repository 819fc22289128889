import { type Static, type TSchema, Type } from 'typebox'
import { backupTypes } from '../domain/backup.ts'
import { dumpCompressions, dumpFormats } from '../domain/external.ts'
import { fileStates } from '../domain/external-file.ts'
import { verdicts, verificationLevels } from '../domain/proof.ts'
import { type RetentionReason, retentionReasons } from '../domain/retention.ts'
import { type WalRetentionReason, walRetentionReasons } from '../domain/wal-retention.ts'
import { backupJobs, jobNames, runStates } from '../runner/job.ts'
import { FailureSchema, moment, orNull } from './schema-parts.ts'
import { JobSchema, RunSchema } from './schema-runs.ts'
import { WalReportSchema } from './schema-wal.ts'

/*
 * What the API takes and gives. Every object that comes in is closed: an unknown key is refused, never dropped, since it
 * is a misspelt one. The named ones (`$id`) are the components of the OpenAPI document.
 */

const closed = { additionalProperties: false } as const

/** A reference to a named schema, typed as what it names. */
function ref<T extends TSchema>(schema: T & { $id?: string }) {
  return Type.Unsafe<Static<T>>({ $ref: `${schema.$id}#` })
}

export const BackupId = Type.String({
  pattern: '^([0-9]{8}T[0-9]{6}Z-(dump|full|incremental)-[0-9a-f]{6}|external-[0-9a-f]{16})$',
  description: '`<UTC yyyymmddThhmmssZ>-<type>-<6 hex>`; of a file of another tool `external-<16 hex>`',
})
export const RunId = Type.String({
  pattern: '^[0-9]{8}T[0-9]{6}Z-[a-z][a-z-]{0,30}-[0-9a-f]{6}$',
  description: '`<UTC yyyymmddThhmmssZ>-<job>-<6 hex>`',
})
export const RepositoryName = Type.String({ minLength: 1, maxLength: 128, description: 'As in the config' })
/** Any name that PostgreSQL allows: quotes, spaces, newlines and dashes are legal in it, only NUL is not. */
export const DatabaseName = Type.String({ minLength: 1, maxLength: 255, pattern: '^[^\\u0000]*$' })
export const Limit = Type.Integer({ minimum: 1, maximum: 500, default: 100, description: 'At most so many' })

export const ProblemSchema = Type.Object(
  {
    type: Type.String({ description: '`urn:problem-type:lifeboat:<code>`' }),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String(),
    instance: Type.String({ description: 'The path that was asked for' }),
    code: Type.String({ description: 'Stable: programs may match on it' }),
    hint: Type.Optional(Type.String({ description: 'What to do about it' })),
    problems: Type.Optional(
      Type.Array(
        Type.Object({
          in: Type.Enum(['body', 'query', 'path', 'header']),
          pointer: Type.String({ description: 'JSON pointer into that part' }),
          detail: Type.String(),
        }),
      ),
    ),
    runId: Type.Optional(Type.String({ description: 'With `conflict`: the run that stands in the way' })),
  },
  { $id: 'Problem', description: 'What went wrong (RFC 9457)' },
)

const LevelSchema = orNull(
  Type.Object({
    verdict: Type.Enum([...verdicts]),
    cause: Type.Optional(Type.String()),
    finishedAt: moment('When this level was looked at last'),
    durationSeconds: Type.Number(),
  }),
)

const reasons = Object.keys(retentionReasons) as RetentionReason[]

export const BackupSchema = Type.Object(
  {
    repository: Type.String(),
    id: Type.String(),
    type: Type.Enum([...backupTypes]),
    database: orNull(Type.String({ description: 'Null: the whole cluster' })),
    systemIdentifier: Type.String(),
    serverVersion: Type.String(),
    startedAt: moment('When the backup began'),
    finishedAt: moment('When the backup was complete'),
    consistentAt: moment('The moment that a restore gives'),
    durationSeconds: orNull(Type.Number({ description: 'Null where nothing tells when it began' })),
    storedBytes: Type.Number(),
    encrypted: Type.Boolean({ description: 'Restoring it needs a private key' }),
    sourceBytes: orNull(Type.Number()),
    warnings: Type.Integer(),
    notes: Type.Array(Type.Enum(['clock-ahead', 'shrunken']), {
      description:
        '`clock-ahead`: it is dated into the future, and stands for nothing until that has come; `shrunken`: far smaller than those before it',
    }),
    file: orNull(
      Type.Object(
        {
          name: Type.String(),
          state: Type.Enum([...fileStates]),
          detail: orNull(Type.String()),
          format: orNull(Type.Enum([...dumpFormats])),
          compression: orNull(Type.Enum([...dumpCompressions])),
        },
        { description: 'Of a file of another tool, in the watched directory that `repository` names' },
      ),
    ),
    manifestChecksum: Type.String(),
    verification: Type.Object({ artifact: LevelSchema, restore: LevelSchema, data: LevelSchema }),
    standing: Type.Enum(['proven', 'refuted', 'unproven'], {
      description: 'Only a real restore proves; `refuted`: a failure that no later verification has disproved',
    }),
    proven: Type.Boolean(),
    provenAt: orNull(moment('When a restore proved it last')),
    retention: Type.Object(
      {
        keep: Type.Boolean({ description: 'False: the next expiry removes it' }),
        reasons: Type.Array(Type.Enum(reasons), {
          description: `All that hold: ${reasons.map((word) => `\`${word}\` ${retentionReasons[word]}`).join('; ')}`,
        }),
        until: orNull(moment('Until when it stays at least; null: until something else happens, or it goes now')),
      },
      { description: 'Whether it stays, why, and until when' },
    ),
    held: Type.Boolean({ description: 'Somebody holds it' }),
    deviation: orNull(
      Type.Object(
        {
          ratio: Type.Number({ description: 'Stored size against the baseline' }),
          baselineBytes: Type.Number({ description: 'Median of the stored sizes' }),
          baselineOf: Type.Integer({ description: 'From how many backups' }),
          sameWeekday: Type.Boolean({ description: 'From those of the same day of the week' }),
          unusual: Type.Boolean({ description: 'Size or rows are beyond the limits, and beyond what was seen before' }),
          sourceRatio: orNull(Type.Number({ description: 'Size of the database against the baseline' })),
          comparedWith: Type.String({ description: 'The usual backup that rows and tables are compared with' }),
          rowsRatio: orNull(Type.Number({ description: 'Rows against that backup; null: not known' })),
          tables: orNull(
            Type.Array(
              Type.Object({
                table: Type.String(),
                change: Type.Enum(['new', 'dropped', 'changed']),
                rowsBefore: orNull(Type.Integer()),
                rowsAfter: orNull(Type.Integer()),
                bytesBefore: orNull(Type.Number()),
                bytesAfter: orNull(Type.Number()),
              }),
              { description: 'What differs, most first; empty: nothing; null: no fingerprint tells (yet)' },
            ),
          ),
        },
        { description: 'Of the newest backup of its database: how far it is from what is usual' },
      ),
    ),
  },
  { $id: 'Backup', description: 'One complete backup in one repository' },
)

export const UnusableSchema = Type.Object(
  {
    repository: Type.String(),
    id: Type.String(),
    state: Type.Enum(['in-progress', 'incomplete', 'invalid']),
    failure: Type.Optional(FailureSchema),
  },
  { $id: 'UnusableBackup', description: 'A backup folder that holds no complete, readable backup' },
)

export const BackupBody = Type.Object(
  {
    type: Type.Optional(
      Type.Enum([...backupJobs], { description: 'Default: dump; the others are of the whole cluster' }),
    ),
    database: Type.Optional(DatabaseName),
  },
  { ...closed, description: 'Left out: dumps of all databases' },
)

export const VerifyBody = Type.Object(
  {
    level: Type.Optional(Type.Enum([...verificationLevels], { description: 'Default: data, the deepest' })),
    repository: Type.Optional(RepositoryName),
    backup: Type.Optional(BackupId),
    database: Type.Optional(DatabaseName),
    rehash: Type.Optional(Type.Boolean({ description: 'Hash again what was hashed before and did not change' })),
    at: Type.Optional(
      Type.String({
        maxLength: 64,
        description:
          'Of a physical backup: replay the WAL to this moment (RFC 3339), which comes after it, or to the `latest`',
      }),
    ),
  },
  {
    ...closed,
    description: 'Left out: in every repository the newest backup of each database, full and incremental',
  },
)

export const ExpireBody = Type.Object(
  {
    repository: Type.Optional(RepositoryName),
    dryRun: Type.Optional(Type.Boolean({ description: 'Remove nothing: answer with what would go' })),
  },
  { ...closed, description: 'Left out: every repository' },
)

export const ExpiryPreview = Type.Object(
  {
    at: moment('When the repositories were looked at'),
    repositories: Type.Array(
      Type.Object({
        repository: Type.String(),
        blocked: orNull(
          Type.Object(
            { cause: Type.String({ description: 'Stable' }), message: Type.String(), hint: Type.String() },
            { description: 'Why nothing can go' },
          ),
        ),
        stay: Type.Integer({ description: 'Backups that stay; /api/backups tells why' }),
        go: Type.Array(Type.String(), { description: 'Ids of the backups that would go, in the order of removal' }),
        wal: orNull(
          Type.Array(
            Type.Object({
              systemIdentifier: Type.String(),
              backups: Type.Integer({ description: 'Physical backups of that cluster that stay' }),
              parts: Type.Array(
                Type.Object({
                  timeline: Type.Integer(),
                  keep: Type.Boolean(),
                  reason: Type.Enum(Object.keys(walRetentionReasons) as WalRetentionReason[]),
                  backupId: orNull(Type.String({ description: 'That needs it' })),
                  files: Type.Integer(),
                  bytes: Type.Number({ description: 'As stored' }),
                }),
                { description: 'Files with one fate, for one reason, together' },
              ),
            }),
          ),
        ),
        walProblem: orNull(FailureSchema),
      }),
    ),
  },
  { description: 'What an expiry would do now' },
)

export const RunParams = Type.Object({ id: RunId }, closed)
export const BackupParams = Type.Object({ id: BackupId }, closed)
export const BackupQuery = Type.Object({ repository: Type.Optional(RepositoryName) }, closed)

export const BackupsQuery = Type.Object(
  {
    type: Type.Optional(Type.Enum([...backupTypes])),
    database: Type.Optional(DatabaseName),
    repository: Type.Optional(RepositoryName),
    limit: Limit,
    after: Type.Optional(Type.String({ maxLength: 512, description: '`next` of the page before' })),
  },
  closed,
)

export const RunsQuery = Type.Object(
  {
    limit: Limit,
    before: Type.Optional(RunId),
    job: Type.Optional(Type.Enum([...jobNames])),
    state: Type.Optional(Type.Enum([...runStates])),
  },
  closed,
)

export const RunRef = ref(RunSchema)
export const JobRef = ref(JobSchema)
export const BackupRef = ref(BackupSchema)
export const UnusableRef = ref(UnusableSchema)
export const WalReportRef = ref(WalReportSchema)
export const namedSchemas = [
  ProblemSchema,
  RunSchema,
  JobSchema,
  BackupSchema,
  UnusableSchema,
  WalReportSchema,
] as const

const problemDescriptions = {
  400: 'The request is not what this route takes',
  401: 'A bearer token is needed',
  403: 'The role of the token is too low, or no token is configured',
  404: 'There is no such thing',
  409: 'The same run is queued or running, or has ended',
  413: 'The body is too large',
  415: 'The body is not JSON',
  429: 'Too many runs wait already',
  503: 'Not now',
} as const

/** The error answers of a route, for its documentation: those it is meant to give, and one for any failure within. */
export function problems(...statuses: readonly (keyof typeof problemDescriptions)[]) {
  const answer = (description: string) => ({
    description,
    content: { 'application/problem+json': { schema: { $ref: 'Problem#' } } },
  })
  return {
    ...Object.fromEntries(statuses.map((status) => [status, answer(problemDescriptions[status])])),
    default: answer('Something failed here'),
  }
}
