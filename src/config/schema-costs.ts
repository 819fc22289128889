import { Type } from 'typebox'
import { choice, duration, section, size, text } from './schema-keys.ts'

/** Dollars, as a plain number. */
export const price = (description: string, example: number, otherwise?: { absent: string } | { default: number }) =>
  Type.Number({ kind: 'price', description, example, ...otherwise })

const notEstimated = { absent: 'not estimated' }

const classes = Type.Array(
  section({
    class: text({
      kind: 'priceClass',
      description: 'Name of the storage class; STANDARD for what has none, and for directories.',
      example: 'STANDARD',
    }),
    storage: price('For a gigabyte and month.', 0.05),
    put: Type.Optional(price('For 1,000 requests that write or list (PUT, COPY, POST, LIST).', 0.005, notEstimated)),
    get: Type.Optional(price('For 1,000 requests that read or look (GET, HEAD and others).', 0.0004, notEstimated)),
    retrieval: Type.Optional(price('For a gigabyte that is read; 0 where that is free.', 0, notEstimated)),
    transition: Type.Optional(
      price('For 1,000 objects that a lifecycle rule moves into this class.', 0.01, notEstimated),
    ),
    monitoring: price('For 1,000 objects and month, whatever their size.', 0, { default: 0 }),
    minimumDuration: duration({
      description: 'What is removed earlier is billed for so long all the same.',
      default: '0s',
    }),
    minimumSize: size({ description: 'A smaller object is billed as one of this size.', default: '0' }),
    overhead: size({ description: 'Billed with each object besides its own bytes.', default: '0' }),
  }),
  {
    description:
      'Prices of its storage classes. What a table has no price for is not estimated, and told of; what is free has the price 0.',
    minItems: 1,
    example: [{ class: 'STANDARD', storage: 0.05, put: 0.005, get: 0.0004, retrieval: 0 }],
  },
)

/** The key `costs`. */
export const costs = section(
  {
    prices: Type.Array(
      section({
        name: text({
          kind: 'label',
          description: 'How `repositories[].prices` calls it.',
          example: 'my-provider',
        }),
        asOf: text({
          kind: 'day',
          description: 'The day on which you looked the prices up, in quotes. It is told with each estimate.',
          example: '2026-11-20',
        }),
        source: text({
          kind: 'shownText',
          description: 'Where, with the region: told with each estimate.',
          example: 'the page of prices of my provider, region eu-central-1',
        }),
        gigabyte: choice(['GiB', 'GB'], {
          description: 'What the provider means by a gigabyte: 2^30 bytes, as Amazon S3 does, or 10^9.',
          default: 'GiB',
        }),
        transferOut: Type.Optional(
          price('For a gigabyte that is read, where that leaves the network of the provider.', 0.09, {
            absent: 'not estimated: within a region it is free',
          }),
        ),
        fixed: price('For a month, whatever is stored, e.g. for a disk.', 0, { default: 0 }),
        classes,
      }),
      { description: 'Tables of prices, in dollars. There are none by default (docs/cost.md).', default: [] },
    ),
  },
  { description: 'What repositories cost: `lifeboat report --cost`.' },
)
