import { Type } from 'typebox'
import { restorePhases } from '../domain/recovery-costs.ts'
import { FailureSchema, moment, orNull } from './schema-parts.ts'
import { Windows } from './schema-wal.ts'
import { BackupId, RepositoryName } from './schemas.ts'

/* `GET /api/recoverability`: see observe/recovery-report.ts. */

export const RecoveryQuery = Type.Object(
  {
    at: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 100,
        description:
          'A moment, up to the microsecond: `2026-11-26T03:10:00Z`, `2026-11-26 03:10:00+01` (the plus sign written %2B), `2026-11-26 03:10 Europe/Berlin`, `2h ago`. Without a zone it is UTC, and the answer says so',
      }),
    ),
    lsn: Type.Optional(
      Type.String({ pattern: '^[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}$', description: 'A place in the WAL' }),
    ),
    name: Type.Optional(Type.String({ minLength: 1, maxLength: 63, description: 'Of a restore point' })),
    timeline: Type.Optional(Type.Integer({ minimum: 1, maximum: 2 ** 32 - 1, description: "Default: the server's" })),
    systemIdentifier: Type.Optional(
      Type.String({ pattern: '^[0-9]{1,20}$', description: 'Of another cluster than the one that runs' }),
    ),
    repository: Type.Optional(RepositoryName),
    backup: Type.Optional(BackupId),
  },
  { additionalProperties: false, description: 'None of `at`, `lsn` and `name`: the latest moment' },
)

const Bytes = Type.Number({ description: 'Bytes' })
const Lsn = (description: string) => Type.String({ description })

const Target = Type.Object(
  {
    kind: Type.Enum(['latest', 'immediate', 'time', 'lsn', 'name']),
    time: orNull(Type.String({ description: 'UTC, to the microsecond' })),
    lsn: orNull(Type.String()),
    name: orNull(Type.String()),
    note: orNull(Type.String({ description: 'How the moment was taken, where it said less than it must' })),
  },
  { description: 'What was asked for, as it was understood' },
)

const Plan = Type.Object(
  {
    chain: Type.Array(Type.String(), { description: 'The full backup first, then the incrementals on it' }),
    copies: Type.Array(Type.Array(Type.String()), {
      description: 'The repositories that have each of these, nearest first',
    }),
    timeline: Type.Integer(),
    postgres: Type.String({ description: 'The major version that is needed' }),
    from: Lsn('Where the WAL that is replayed begins'),
    to: Lsn('Where it ends at the latest'),
    stopsAt: Lsn('Where the replay is expected to stop'),
    stopTime: orNull(Type.String({ description: 'For `recovery_target_time`' })),
    segments: Type.Integer({ description: 'Of WAL, up to where the replay is expected to stop' }),
    backupBytes: Type.Number({ description: 'As stored' }),
    walBytes: Type.Number({ description: 'As stored' }),
    walBytesAreUpperBound: Type.Boolean({ description: 'What is stored is not known: segments are counted whole' }),
    fetchBytes: Type.Number({ description: 'Backups and WAL, as stored' }),
    disk: Type.Object(
      {
        data: Bytes,
        unpacked: Type.Number({ description: 'Members of a chain, until they are combined' }),
        wal: Type.Number({ description: 'In the spool and in `pg_wal`' }),
        peak: Type.Number({ description: 'The most at a time' }),
      },
      { description: 'Room that it needs, bytes; what the replay adds to the data is not in it' },
    ),
    time: Type.Object(
      {
        seconds: orNull(Type.Number({ description: 'Null: a phase was never measured' })),
        phases: Type.Object(
          Object.fromEntries(restorePhases.map((phase) => [phase, orNull(Type.Number())])) as Record<
            (typeof restorePhases)[number],
            ReturnType<typeof orNull<ReturnType<typeof Type.Number>>>
          >,
        ),
        measured: Type.Integer({ description: 'Restores and verifications from which it was learned' }),
      },
      { description: 'How long it takes' },
    ),
  },
  { description: 'How it would be restored' },
)

const Near = orNull(
  Type.Object({
    at: orNull(moment('Null: nobody noted when that was')),
    lsn: Type.String(),
    timeline: Type.Integer(),
    backup: Type.String({ description: 'Where its window begins' }),
  }),
)

export const RecoverabilitySchema = Type.Object(
  {
    at: moment('When all this was known'),
    target: Target,
    repositories: Type.Array(
      Type.Object({
        repository: Type.String(),
        systemIdentifier: orNull(Type.String({ description: 'Of the cluster that would be restored' })),
        windows: Windows,
        recoverable: Type.Boolean(),
        plan: orNull(Plan),
        warnings: Type.Array(Type.Object({ code: Type.String({ description: 'Stable' }), message: Type.String() })),
        refused: orNull(FailureSchema),
        nearest: orNull(
          Type.Object(
            { before: Near, after: Near },
            { description: 'The last moment before what was refused, and the first after it, that can be restored' },
          ),
        ),
        missing: Type.Array(
          Type.Object({
            timeline: Type.Integer(),
            first: Type.String(),
            last: Type.String(),
            segments: Type.Integer(),
          }),
          { description: 'WAL that is in the way, or that ends a recovery to the latest moment' },
        ),
      }),
    ),
  },
  { description: 'Whether a moment can be restored from physical backups and WAL, how, and what else could be' },
)
