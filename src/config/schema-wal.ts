import { Type } from 'typebox'
import { duration, section, text } from './schema-keys.ts'
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
  },
  { description: 'The WAL of the server: what was committed since the last backup.' },
)
