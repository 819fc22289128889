import { Type } from 'typebox'
import { archiverStates } from '../domain/archiver.ts'
import { FailureSchema, moment, orNull } from './schema-parts.ts'

/* The answer of `GET /api/wal`: see observe/wal-report.ts. */

const Segment = Type.String({ description: 'Name of a segment' })
const Place = Type.Object(
  { timeline: Type.Integer(), lsn: Type.String({ description: 'As PostgreSQL writes it' }) },
  { description: 'A place in the WAL' },
)
const Bytes = Type.Number({ description: 'Bytes' })

const Timelines = Type.Array(
  Type.Object({
    timeline: Type.Integer(),
    parent: orNull(Place),
    segments: Type.Integer(),
    first: orNull(Segment),
    last: orNull(Segment),
    gaps: Type.Integer({ description: 'Between the first and the last' }),
  }),
  { description: 'What is there of each timeline, the newest 100' },
)

const Archive = Type.Object(
  {
    directory: Type.String(),
    segments: Type.Integer(),
    bytes: Bytes,
    partials: Type.Integer(),
    histories: Type.Integer(),
    labels: Type.Integer({ description: 'Of base backups' }),
    foreign: Type.Integer({ description: 'Files that are no WAL' }),
    newest: orNull(Type.Object({ name: Segment, at: moment('When it was written') })),
    freeBytes: orNull(Bytes),
    capacityBytes: orNull(Bytes),
    timelines: Timelines,
  },
  { description: 'The directory that archive_command fills' },
)

const Gap = Type.Object({
  timeline: Type.Integer(),
  first: Segment,
  last: Segment,
  segments: Type.Integer(),
  elsewhere: Type.Array(Type.String(), { description: 'Where some of it is: `archive`, names of repositories' }),
  acknowledged: orNull(Type.Object({ reason: Type.String(), until: moment('From then on it counts again') })),
})

export const Windows = Type.Array(
  Type.Object({
    from: moment('Each moment from here'),
    until: orNull(moment('to here can be restored; null: nobody knows')),
    backup: Type.String({ description: 'Where it begins' }),
    hole: orNull(Type.String({ description: 'The first segment that is missing after it' })),
  }),
  { description: 'What can be restored from physical backups, oldest first' },
)

const Stored = Type.Object({
  repository: Type.String(),
  segments: Type.Integer(),
  bytes: Type.Number({ description: 'As stored' }),
  listedAt: orNull(moment('When everything was listed last; from then on only what is new')),
  hasBackup: Type.Boolean({ description: 'A physical backup is there: WAL alone restores nothing' }),
  from: orNull(Place),
  end: orNull(Place),
  coveredUntil: orNull(moment('All that was committed before is in the WAL from `from` to `end`')),
  recoveryPoint: orNull(moment('The same, where a physical backup makes it the moment to which one can restore')),
  windows: Windows,
  exposureBytes: orNull(Type.Number({ description: 'WAL of the server that is not stored here' })),
  backlogSegments: orNull(Type.Integer({ description: 'Finished, and on their way' })),
  backlogBytes: orNull(Bytes),
  missingSegments: orNull(Type.Integer({ description: 'Neither here nor on their way, and not acknowledged' })),
  gaps: Type.Array(Gap, { description: 'What is missing, at most 1,000' }),
  timelines: Timelines,
  others: Type.Array(Type.String(), { description: 'Other system identifiers of which there is WAL' }),
  contradictions: Type.Integer({ description: 'Segments that are stored twice with different content' }),
  shipping: orNull(
    Type.Object(
      {
        waiting: orNull(
          Type.Enum(['archive', 'index', 'lease'], { description: 'What keeps it, though nothing failed' }),
        ),
        shippedSegments: Type.Integer({ description: 'Since Lifeboat started' }),
        shippedBytes: Type.Number({ description: 'As stored' }),
        queued: orNull(Type.Integer()),
        inFlight: Type.Integer(),
        lastSuccessAt: orNull(moment('When a segment was stored last')),
        delaySeconds: orNull(Type.Number({ description: 'From its archiving to its being stored, of the last one' })),
        failures: Type.Integer(),
        failure: orNull(FailureSchema),
        quarantined: Type.Record(Type.String(), Type.Integer(), {
          description: 'Files of the archive that are not stored among the WAL, by reason',
        }),
        undecided: Type.Integer({ description: 'Files of a system identifier that is not known yet' }),
      },
      { description: 'From the archive to here' },
    ),
  ),
})

const Slot = Type.Object({
  name: Type.String(),
  type: Type.Enum(['physical', 'logical']),
  active: Type.Boolean(),
  walStatus: orNull(Type.String()),
  retainedBytes: orNull(Type.Number({ description: 'WAL that the server keeps for it' })),
  overLimit: Type.Boolean(),
})

export const WalReportSchema = Type.Object(
  {
    at: moment('When all this was known'),
    systemIdentifier: orNull(Type.String()),
    segmentSize: orNull(Bytes),
    server: orNull(
      Type.Object({
        at: moment('By the clock of the server'),
        timeline: Type.Integer(),
        lsn: Type.String({ description: 'Where it writes next; on a standby, how far it has replayed' }),
        inRecovery: Type.Boolean(),
        bytesPerSecond: orNull(Type.Number({ description: 'WAL that it writes, over the last hour' })),
      }),
    ),
    archiver: orNull(
      Type.Object({
        state: orNull(Type.Enum([...archiverStates])),
        detail: Type.String(),
        hint: orNull(Type.String({ description: 'What to do first' })),
        archived: Type.Integer(),
        failed: Type.Integer(),
        ready: orNull(Type.Integer({ description: 'Files that wait to be archived' })),
      }),
    ),
    archive: orNull(Archive),
    repositories: Type.Array(Stored),
    slots: orNull(Type.Array(Slot)),
    stream: orNull(
      Type.Object(
        {
          phase: Type.Enum(['stopped', 'standby', 'starting', 'streaming', 'waiting']),
          slot: Type.String(),
          isUp: orNull(Type.Boolean()),
          position: orNull(Type.String({ description: 'Received up to here' })),
          shippedTo: orNull(Type.String({ description: 'Stored up to here, but for whole segments' })),
          failure: orNull(FailureSchema),
          shipFailure: orNull(FailureSchema),
          failures: Type.Integer(),
          holes: Type.Integer(),
        },
        { description: 'The receiver of WAL (`wal.stream`)' },
      ),
    ),
  },
  { $id: 'WalReport', description: 'What is known of the WAL: what is where, what is missing, what would be lost' },
)
