import { Type } from 'typebox'
import { duration, integer, section, text } from './schema-keys.ts'

const mostPeriods = '1000'

const keepFor = {
  kind: 'keepFor',
  description:
    'How long every backup stays. `forever`: nothing expires in this repository. Older ones go when none of the other rules keeps them; the newest usable and the newest proven backup of a database never go, nor one that is held, locked or in use.',
  atLeast: '1h',
} as const

const keys = {
  keepAtLeast: integer({
    description: 'So many of the newest usable backups of each database stay, however old they are.',
    default: 7,
    atLeast: '1',
    atMost: '100000',
  }),
  window: Type.Optional(
    duration({
      description:
        'Every moment of so long a time stays restorable: what is inside of it stays, and the newest backup before it. Not longer than keepFor.',
      absent: 'no such rule',
      example: '14d',
      atLeast: '1h',
    }),
  ),
  daily: integer({
    description: 'Of so many days (UTC) that have backups the newest one stays.',
    default: 0,
    atLeast: '0',
    atMost: mostPeriods,
  }),
  weekly: integer({
    description: 'The same for weeks, which begin on Monday.',
    default: 0,
    atLeast: '0',
    atMost: mostPeriods,
  }),
  monthly: integer({ description: 'The same for months.', default: 0, atLeast: '0', atMost: mostPeriods }),
  yearly: integer({ description: 'The same for years.', default: 0, atLeast: '0', atMost: mostPeriods }),
}

/** The keys below `repositories[].retention`. */
export const retention = section(
  {
    keepFor: Type.Optional(text({ ...keepFor, absent: '30d; 90d in a bucket', example: '30d' })),
    ...keys,
    walKeepFor: Type.Optional(
      text({
        kind: 'keepFor',
        description:
          'How long WAL stays at least, counted from when it was stored here; `forever`: all of it. What a physical backup that stays needs for a recovery, to any later moment, stays anyhow.',
        absent: 'as long as `keepFor`',
        example: '14d',
        atLeast: '1h',
      }),
    ),
  },
  {
    description: 'What stays when backups expire: a backup goes only when no rule keeps it, WAL when nothing needs it.',
  },
)

/** The keys below `watch[].retention`. */
export const watchRetention = section(
  { keepFor: text({ ...keepFor, default: '30d' }), ...keys },
  {
    description:
      'What stays of these files: one goes only when no rule keeps it. Lifeboat must be able to write to the directory then.',
    absent: 'nothing is ever removed',
  },
)
