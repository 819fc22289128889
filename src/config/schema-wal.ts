import { Type } from 'typebox'
import { section, text } from './schema-keys.ts'

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
  },
  { description: 'The WAL of the server: what was committed since the last backup.' },
)
