import { type Static, Type } from 'typebox'
import { verificationLevels } from '../domain/proof.ts'
import { alertDrill } from './schema-alert-drill.ts'
import { costs } from './schema-costs.ts'
import { encryption } from './schema-encryption.ts'
import { growth } from './schema-growth.ts'
import { hooks, notify } from './schema-hooks.ts'
import { boolean, choice, duration, integer, longestTimer, schedule, section, size, text } from './schema-keys.ts'
import { physical } from './schema-physical.ts'
import { postgres } from './schema-postgres.ts'
import { repositories } from './schema-repositories.ts'
import { lease, runner } from './schema-runner.ts'
import { wal } from './schema-wal.ts'
import { watch } from './schema-watch.ts'
import { roles } from './validated.ts'

const dump = section(
  {
    jobs: integer({
      description: 'Parallel workers of pg_dump.',
      default: 2,
      atLeast: '1',
      atMost: '64',
    }),
    timeout: duration({
      description: 'A dump of all databases that takes longer is ended and counts as failed.',
      default: '12h',
      atLeast: '1m',
      atMost: longestTimer,
    }),
    fingerprint: section(
      {
        enabled: boolean({
          description:
            'Take row counts and hashes in the same snapshot as the dump, so that a restored copy can be shown to be equal.',
          default: true,
        }),
        maxDuration: duration({
          description: 'For all tables of one database together. Tables that are not reached by then stay unknown.',
          default: '30m',
          atLeast: '1s',
          atMost: longestTimer,
        }),
        maxTableSize: size({
          description: 'Larger tables are compared by ranges of a stable key, or stay unknown.',
          default: '16GiB',
        }),
      },
      { description: 'What is noted of the contents while they are dumped.' },
    ),
  },
  { description: 'Logical backups.' },
)

const verification = section(
  {
    level: choice(verificationLevels, {
      description: 'How deep a scheduled verification goes; each level includes the ones before it.',
      default: 'data',
    }),
    jobs: integer({ description: 'Parallel workers of pg_restore.', default: 2, atLeast: '1', atMost: '64' }),
    timeout: duration({
      description: 'A verification, of all its backups together, that takes longer is ended and counts as failed.',
      default: '12h',
      atLeast: '1m',
      atMost: longestTimer,
    }),
    targetTimeout: Type.Optional(
      duration({
        description:
          'A backup whose verification takes longer is given up as inconclusive, and the next one is looked at.',
        absent: 'half of the time that the run has left, and for the last backup all of it',
        example: '4h',
        atLeast: '1m',
        atMost: longestTimer,
      }),
    ),
    reproofPeriod: duration({
      description: 'Bytes that have not changed are hashed again when the last time was longer ago than this.',
      default: '30d',
    }),
    osUser: text({
      kind: 'osUser',
      description:
        'OS user of the scratch server when Lifeboat runs as root. It must own nothing, since dumps hold code that runs as this user; one of its own is best.',
      default: 'nobody',
    }),
    assertions: Type.Array(
      section({
        name: Type.Optional(
          text({
            description: 'How the result is called in the proof.',
            absent: 'assertion and its number',
            example: 'users are there',
          }),
        ),
        database: text({ kind: 'postgresName', description: 'Database to ask, in its restored copy.', example: 'app' }),
        sql: text({
          description: 'Statement. Its first column of its first row is compared.',
          example: 'select count(*) > 0 from users',
        }),
        expect: Type.Union([Type.String(), Type.Number(), Type.Boolean(), Type.Null()], {
          kind: 'scalar',
          description: 'The value that it must give, compared as JSON.',
          example: true,
        }),
      }),
      { description: 'Your own conditions, which a restored copy must meet at level data.', default: [] },
    ),
  },
  { description: 'Tests of backups, up to a real restore.' },
)

/**
 * The configuration as it is written, with the defaults filled in: a key with a default is a key that is always there. The
 * loader checks against this schema and the documentation is generated from it, so that neither can drift.
 */
export const configSchema = section({
  cluster: text({
    kind: 'label',
    description: 'Name of the cluster: `cluster_name` on every metric, and the first folder in every repository.',
    example: 'main',
  }),
  listen: text({
    kind: 'listen',
    description: 'Address of the HTTP server. `:10187` means every interface.',
    default: '127.0.0.1:10187',
  }),
  stateDir: text({
    kind: 'path',
    description: 'Directory of the run history and the locks. Losing it loses history, never a backup.',
    default: '/var/lib/lifeboat',
  }),
  workDir: Type.Optional(
    text({
      kind: 'path',
      description:
        'Directory for dumps in the making and for scratch servers: room for the largest database, restored. Emptied of leftovers at start.',
      absent: '`work` in stateDir',
      example: '/var/lib/lifeboat/work',
    }),
  ),
  postgres,
  repositories,
  encryption,
  watch,
  wal,
  dump,
  physical,
  verification,
  runner,
  lease,
  schedule: section(
    {
      catchUp: boolean({
        description:
          'Make up once for a scheduled run that was missed, since nothing ran, the machine slept or its clock was set forward; also for one that was cut off. One after another, in the order dump, full, incremental, verify, expire.',
        default: true,
      }),
      dump: schedule({ description: 'When to dump.', default: '0 2 * * *' }),
      full: schedule({
        description: 'When to take a full physical backup of the whole cluster, e.g. `0 3 * * *`. Needs `wal.archive`.',
        default: 'off',
      }),
      incremental: schedule({
        description:
          'When to take an incremental physical backup (PostgreSQL 17 and newer); where there is nothing to build on, it becomes a full one. E.g. `0 */6 * * *`. Needs `wal.archive`.',
        default: 'off',
      }),
      verify: schedule({ description: 'When to verify the newest backups.', default: '0 4 * * 0' }),
      expire: schedule({
        description: 'When to remove backups that the retention of their repository lets go.',
        default: '0 5 * * *',
      }),
      alertDrill: schedule({
        description:
          'When to try whether alerts arrive, at an hour at which those may be called who are to hear it; one that was missed is not made up for. E.g. `0 9 * * 1`. Needs `alertDrill.alertmanagers`.',
        default: 'off',
      }),
    },
    {
      description:
        'Cron expressions of five fields (minute, hour, day of month, month, day of week), always in UTC. `off` switches one off.',
    },
  ),
  objectives: section(
    {
      rpo: duration({
        description:
          'How much recent work may be lost. Dumps alone lose up to the longest gap of schedule.dump and the time that a dump takes: 26h is what a daily dump can hold. An objective below that is honest, but an alert on it fires between any two dumps.',
        default: '1h',
        example: '26h',
        atLeast: '1s',
      }),
      rto: duration({ description: 'How long a recovery may take.', default: '4h', atLeast: '1s' }),
    },
    { description: 'What was promised. Exposed as metrics, for alert rules to compare with what is measured.' },
  ),
  policy: section(
    {
      dumpMaxAge: Type.Optional(
        duration({
          description: 'Age at which the newest dump of a database is too old.',
          absent: 'the longest gap of schedule.dump and slack: a quarter of the gap, at least 1h, at most 12h',
          example: '30h',
          atLeast: '1s',
        }),
      ),
      verificationMaxAge: Type.Optional(
        duration({
          description: 'Age at which the newest passing verification is too old.',
          absent: 'the longest gap of schedule.verify and slack, as above',
          example: '9d',
          atLeast: '1s',
        }),
      ),
      alertPathMaxAge: Type.Optional(
        duration({
          description: 'Age at which the last drill that proved the way of the alerts is too old.',
          absent: 'the longest gap of schedule.alertDrill and slack, as above; without that schedule there is no limit',
          example: '9d',
          atLeast: '1s',
        }),
      ),
    },
    { description: 'Limits, exposed as metrics so that the same alert rules serve every cluster.' },
  ),
  growth,
  costs,
  hooks,
  notify,
  alertDrill,
  observe: section(
    {
      interval: duration({
        description: 'How often the server and the repositories are looked at.',
        default: '60s',
        atLeast: '1s',
        atMost: '1d',
      }),
      timeout: duration({
        description: 'A look that takes longer has failed; the others are not held up by it.',
        default: '20s',
        atLeast: '100ms',
        atMost: '1h',
      }),
    },
    { description: 'How Lifeboat looks at what is there.' },
  ),
  auth: section(
    {
      tokens: Type.Array(
        section({
          name: text({ kind: 'label', description: 'Whose token it is; shown in the run history.', example: 'ops' }),
          role: choice(roles, {
            description: 'What it may do: read; also start and cancel runs; also administer.',
            example: 'admin',
          }),
          sha256: text({
            kind: 'sha256',
            description: 'SHA-256 of the token, hexadecimal; the token itself is stored nowhere.',
            example: 'put the 64 hexadecimal digits here',
          }),
        }),
        { description: 'Bearer tokens of the HTTP API.', default: [] },
      ),
    },
    {
      description:
        'Who may use the HTTP API. Without any token the reads are open to everyone who can connect, and the admin routes are off.',
    },
  ),
  log: section(
    {
      level: choice(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'], {
        description: 'The least severe messages to write.',
        default: 'info',
      }),
    },
    { description: 'Log lines: JSON, on standard output.' },
  ),
})

/** The configuration after the schema's checks, before anything is read from its texts. */
export type RawConfig = Static<typeof configSchema>
