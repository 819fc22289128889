import { Type } from 'typebox'
import { boolean, duration, longestTimer, section, size, text } from './schema-keys.ts'

/** The key `wal.stream`. */
export const walStream = Type.Optional(
  section(
    {
      slot: text({
        kind: 'slotName',
        description:
          'Replication slot that keeps the WAL on the server until it has been received. It is made when it is not there.',
        default: 'lifeboat',
      }),
      synchronous: boolean({
        description: 'WAL is made durable as soon as it arrives, not only at the end of each segment.',
        default: true,
      }),
      shipEvery: duration({
        description:
          'So often what there is of the unfinished segment is stored in the repositories, if it is more than before. With segments above 16 MiB less often in proportion.',
        default: '10s',
        atLeast: '1s',
        atMost: longestTimer,
      }),
    },
    {
      description:
        'Lifeboat receives the WAL while it is written (pg_receivewal), into wal.archive, for a recovery point that is seconds old. archive_command may go on into the same directory, for the time while Lifeboat is down.',
      absent: 'WAL is not received, and comes by archive_command alone',
    },
  ),
)

/** The key `wal.slotLimit`. */
export const slotLimit = size({
  description:
    'A replication slot that keeps more WAL than this is told of: the disk of the server must hold it, and when that is full the server stops. Choose less than what is free there.',
  default: '10GiB',
  atLeast: '1MiB',
})
