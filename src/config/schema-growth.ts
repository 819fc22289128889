import { section, text } from './schema-keys.ts'

/** The key `growth`. */
export const growth = section(
  {
    shrinkBelow: text({
      kind: 'percent',
      description: 'A backup below this share of what is usual is told of, unless such swings are usual.',
      default: '70%',
      atLeast: '0%',
      atMost: '100%',
    }),
    growAbove: text({
      kind: 'percent',
      description: 'A backup above this share of what is usual is told of, unless such swings are usual.',
      default: '150%',
      atLeast: '100%',
    }),
  },
  {
    description:
      'When the size or the rows of a backup are unusual. Usual is the median of the last four of the same weekday, or of the last fourteen days.',
  },
)
