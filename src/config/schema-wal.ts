import { Type } from 'typebox'
import { duration, integer, section, text } from './schema-keys.ts'

/** The key `wal`. */
export const wal = section(
  {
    archive: Type.Optional(
      text({
        kind: 'path',
        description:
          'Directory into which the archive_command of the server puts its WAL (`lifeboat wal setup`). It is there before Lifeboat is, and is never made by it.',
        absent: 'WAL is not looked at',
        example: '/var/lib/postgresql/wal_archive',
      }),
    ),
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
            'Segments that are stored at the same time in each repository, and threads that read and compress them for all.',
          default: 2,
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
