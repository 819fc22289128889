import { Type } from 'typebox'
import { section, text } from './schema-keys.ts'

/** The key `wal.holes`. */
export const holes = Type.Array(
  section({
    first: text({
      kind: 'walSegment',
      description: 'The first segment that is missing.',
      example: '0000000100000A2C000000FE',
    }),
    last: Type.Optional(
      text({
        kind: 'walSegment',
        description: 'The last one, of the same timeline.',
        absent: 'it is one segment',
        example: '0000000100000A2D00000003',
      }),
    ),
    reason: text({
      description: 'What happened: for those who come upon it later.',
      example: 'the disk of the archive was full on March 3rd; a base backup was taken after it',
    }),
    until: text({
      kind: 'moment',
      description: 'From then on it counts as missing again. A date begins at midnight UTC.',
      example: '2027-01-01',
    }),
  }),
  {
    description:
      'Segments of WAL that are known to be missing: they stay a gap, but `lifeboat_wal_missing_segments` does not count them.',
    default: [],
  },
)
