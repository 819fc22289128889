import { Type } from 'typebox'
import { boolean, choice, duration, integer, longestTimer, section, size, text } from './schema-keys.ts'

/** The key `physical.standby`. */
const standby = Type.Optional(
  section(
    {
      host: text({
        kind: 'host',
        description:
          'Host name, address, or the directory of the Unix socket of the standby. Role, password and TLS are those of `postgres`: a standby has the roles of its primary.',
        example: 'standby.example.net',
      }),
      port: Type.Optional(
        integer({
          description: 'Port of the standby.',
          absent: 'postgres.port',
          example: 5432,
          atLeast: '1',
          atMost: '65535',
        }),
      ),
      maxLag: duration({
        description:
          'A backup begins when the standby has replayed all that the primary had written by then. It must have done so after this time; one that is further behind cannot be used.',
        default: '5m',
        atLeast: '1s',
        atMost: longestTimer,
      }),
      required: boolean({
        description:
          'When the standby cannot be used the backup fails. Otherwise one of the primary is taken, with a warning in its manifest.',
        default: false,
      }),
    },
    {
      description:
        'Physical backups are read from this standby. All else stays with `postgres`, which must be the primary: dumps, the archive of the WAL, slots.',
      absent: 'physical backups are read from the primary',
    },
  ),
)

/** The key `physical`. */
export const physical = section(
  {
    checkpoint: choice(['fast', 'spread'], {
      description:
        'How the server makes the checkpoint that a backup begins with: at once, or at its own pace, which loads the disks less and can take minutes.',
      default: 'fast',
    }),
    maxRate: Type.Optional(
      size({
        description: 'The most that is read from the server in a second: 32KiB to 1GiB.',
        absent: 'as fast as it goes',
        example: '50MiB',
        atLeast: '32KiB',
        atMost: '1GiB',
      }),
    ),
    compressionLevel: integer({
      description: 'Of zstd: higher levels make backups smaller, and slower.',
      default: 3,
      atLeast: '1',
      atMost: '19',
    }),
    compressionThreads: integer({
      description: 'So many threads compress.',
      default: 2,
      atLeast: '1',
      atMost: '64',
    }),
    timeout: duration({
      description: 'A physical backup that takes longer, its wait for WAL included, is ended and counts as failed.',
      default: '12h',
      atLeast: '1m',
      atMost: longestTimer,
    }),
    walTimeout: duration({
      description:
        'A backup is published in a repository when the WAL that it needs is stored there. One whose WAL has not come after this time has failed there.',
      default: '15m',
      atLeast: '1s',
      atMost: longestTimer,
    }),
    chainLimit: integer({
      description:
        'So many backups may build on one another, the full one included; then the next incremental becomes a full one.',
      default: 28,
      atLeast: '1',
      atMost: '1000',
    }),
    standby,
    consolidate: boolean({
      description:
        'When a chain has reached its limit, a full backup is put together from it (`pg_combinebackup`) for the next incremental to build on, instead of reading the whole server again. workDir needs room for the chain, unpacked, and for the cluster.',
      default: false,
    }),
  },
  { description: 'Physical backups of the whole cluster: `schedule.full` and `schedule.incremental`.' },
)
