import { Type } from 'typebox'
import { duration, integer, section } from './schema-keys.ts'

/** The key `lease`. */
export const lease = section(
  {
    ttl: Type.Optional(
      duration({
        description:
          'A lifeboat that gives no sign of life for so long loses its leases; another one on the same repository takes over then. Three signs are given in that time.',
        absent: '1m in a directory, 5m in a bucket, where each sign costs money',
        example: '2m',
        atLeast: '1s',
        atMost: '1h',
      }),
    ),
  },
  { description: 'How several lifeboats share a repository: one of them writes, the others wait.' },
)

/** The key `runner`. */
export const runner = section(
  {
    queueLimit: integer({
      description: 'So many runs may wait for a lane; more are refused.',
      default: 16,
      atLeast: '1',
      atMost: '1000',
    }),
    retries: integer({
      description:
        'How often a part of a run is tried again that failed for a cause that can pass: a broken connection, a server that starts up, a lock, a network disk that does not answer. A wrong password or a full disk is not tried again.',
      default: 3,
      atLeast: '0',
      atMost: '20',
    }),
    retryDelay: duration({
      description:
        'The longest wait before the first of them; it doubles with each, up to five minutes, and a random part of it is waited.',
      default: '20s',
      atLeast: '100ms',
      atMost: '5m',
    }),
  },
  { description: 'How runs are executed.' },
)
