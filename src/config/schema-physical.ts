import { Type } from 'typebox'
import { boolean, choice, duration, integer, longestTimer, section, size } from './schema-keys.ts'

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
    consolidate: boolean({
      description:
        'When a chain has reached its limit, a full backup is put together from it (`pg_combinebackup`) for the next incremental to build on, instead of reading the whole server again. workDir needs room for the chain, unpacked, and for the cluster.',
      default: false,
    }),
  },
  { description: 'Physical backups of the whole cluster: `schedule.full` and `schedule.incremental`.' },
)
