import { Type } from 'typebox'
import { choice, section, size, text } from './schema-keys.ts'

/** The key `bandwidth` of a repository. */
export const bandwidth = Type.Array(
  section({
    limit: size({
      description:
        'The most that goes in a second, of all transfers of this repository together. The lowest of the limits in force counts.',
      example: '20MiB',
      atLeast: '32KiB',
      atMost: '100GiB',
    }),
    direction: choice(['upload', 'download'], {
      description:
        'What is limited: what goes to the repository, or what comes from it. A limit of downloads makes restores slower, too.',
      default: 'upload',
    }),
    from: Type.Optional(
      text({
        kind: 'timeOfDay',
        description: 'From when on in each day, as hours and minutes.',
        absent: 'always',
        example: '08:00',
      }),
    ),
    to: Type.Optional(
      text({
        kind: 'timeOfDay',
        description: 'Until when; a time before `from` is one of the next day.',
        absent: 'always',
        example: '18:00',
      }),
    ),
    timezone: text({
      kind: 'timezone',
      description: 'The time zone of `from` and `to`.',
      default: 'UTC',
      example: 'Europe/Berlin',
    }),
  }),
  {
    description:
      'Limits of the bytes that are transferred in a second, of a directory, too: each has `limit`, and may have `direction` (upload unless it is set to download, which makes restores slower), `from`, `to` and `timezone` (docs/s3.md).',
    default: [],
    example: [{ limit: '20MiB', from: '08:00', to: '18:00', timezone: 'Europe/Berlin' }],
  },
)
