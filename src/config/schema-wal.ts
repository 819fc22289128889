import { Type } from 'typebox'
import { duration, integer, section, text } from './schema-keys.ts'
import { holes } from './schema-wal-holes.ts'
import { slotLimit, walStream } from './schema-wal-stream.ts'

/** The key `wal`. */
export const wal = section(
  {
    archive: Type.Optional(
      text({
        kind: 'path',
        description:
          'Directory into which the archive_command of the server puts its WAL (`lifeboat wal setup`). It is there before Lifeboat is; only with `wal.stream` Lifeboat makes it.',
        absent: 'WAL is not looked at',
        example: '/var/lib/postgresql/wal_archive',
      }),
    ),
    clockInterval: duration({
      description:
        'How often the moment and the place in the WAL are noted on the server: a recovery point is as exact as that.',
      default: '5s',
      atLeast: '1s',
      atMost: '1h',
    }),
    holes,
    slotLimit,
    stream: walStream,
    keepInArchive: Type.Optional(
      duration({
        description:
          'How long a segment stays in the archive after it was written there. Then it is removed, once every repository has it. The directory must be writable for the group of Lifeboat.',
        absent: 'nothing is ever removed from the archive',
        atLeast: '10m',
        example: '2d',
      }),
    ),
    ship: section(
      {
        parallel: integer({
          description:
            'Segments that are stored at the same time in each repository. Two threads at most read and compress them for all.',
          default: 4,
          atLeast: '1',
          atMost: '16',
        }),
        level: integer({
          description: 'Level of zstd, 1 (fastest) to 19.',
          default: 1,
          atLeast: '1',
          atMost: '19',
        }),
      },
      { description: 'How WAL gets from the archive to the repositories.' },
    ),
  },
  { description: 'The WAL of the server: what was committed since the last backup.' },
)
