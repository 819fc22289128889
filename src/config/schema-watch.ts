import { Type } from 'typebox'
import { duration, integer, section, size, text } from './schema-keys.ts'
import { bucketAddress } from './schema-repositories.ts'
import { watchRetention } from './schema-retention.ts'

/** The key `watch`. */
export const watch = Type.Array(
  section({
    directory: Type.Optional(
      text({
        kind: 'path',
        description: 'Directory in which the files appear. Directories below it are dumps in directory format.',
        absent: 'needed, unless url is set',
        example: '/var/backups/spavix',
      }),
    ),
    url: Type.Optional(
      text({
        kind: 'url',
        description:
          'Instead of a directory, a bucket in which they appear, as s3://bucket or s3://bucket/prefix (docs/external.md#in-a-bucket). What is there is counted, dated and measured; it is neither read nor tested.',
        absent: 'none',
        example: 's3://spavix-dumps/nightly',
      }),
    ),
    ...bucketAddress,
    name: Type.Optional(
      text({
        kind: 'label',
        description: 'Short name: the label `repository` on the metrics of these files.',
        absent: 'the last name in directory or url',
        example: 'nightly',
      }),
    ),
    pattern: text({
      kind: 'filePattern',
      description:
        'Names of the files. `{database}` stands for any text, `{timestamp}` for a date with or without a time (UTC), `{ext}` for the usual endings of dumps or none, `*` for anything. In a bucket it is that of keys behind the prefix: it may have slashes, and `{year}`, `{month}`, `{day}` and `{hour}`; of one that ends in a slash, all below is one dump. Others are passed over.',
      default: '{database}_backup_{timestamp}{ext}',
    }),
    database: Type.Optional(
      text({
        kind: 'postgresName',
        description: 'Database that the files are of.',
        absent: 'what stands for {database} in the name; needed where the pattern has none',
        example: 'spavix',
      }),
    ),
    quietTime: duration({
      description: 'A file is finished when it has not changed for so long; one that is renamed into place at once.',
      default: '30s',
      atLeast: '1s',
      atMost: '1d',
    }),
    maxAge: duration({ description: 'Age at which the newest file is too old.', default: '26h', atLeast: '1m' }),
    minSize: size({ description: 'A smaller file is no backup.', default: '1' }),
    shrinkBelow: text({
      kind: 'percent',
      description: 'A file that is smaller than this share of the median of the ten before it is noted as `shrunken`.',
      default: '50%',
      atLeast: '0%',
      atMost: '100%',
    }),
    inspectNewest: integer({
      description:
        'So many of the newest files of each database are read whole when they are first seen. Older ones stay unchecked: to read all that has piled up could take days.',
      default: 10,
      atLeast: '1',
      atMost: '100000',
    }),
    retention: Type.Optional(watchRetention),
  }),
  {
    description:
      'Directories and buckets in which other tools put dumps. They are watched, read and tested, and never changed but by a `retention` that is set.',
    default: [],
    example: [{ directory: '/var/backups/spavix', name: 'nightly', database: 'spavix' }],
    isOptional: true,
  },
)
