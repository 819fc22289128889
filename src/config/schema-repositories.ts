import { Type } from 'typebox'
import { bandwidth } from './schema-bandwidth.ts'
import { price } from './schema-costs.ts'
import { boolean, choice, duration, integer, section, size, text } from './schema-keys.ts'
import { retention } from './schema-retention.ts'

/** Where a bucket is, besides its url, and who may use it. */
export const bucketAddress = {
  region: Type.Optional(
    text({
      kind: 'region',
      description: 'Region of the bucket.',
      absent: 'what AWS_REGION or ~/.aws/config says; us-east-1 with an endpoint',
      example: 'eu-central-1',
    }),
  ),
  endpoint: Type.Optional(
    text({
      kind: 'endpoint',
      description: 'Address of a server that speaks S3.',
      absent: "Amazon's own",
      example: 'https://s3.example.com',
    }),
  ),
  pathStyle: Type.Optional(
    boolean({
      description: 'The bucket stands in the path of a request instead of the name of its host.',
      absent: 'true with an endpoint, else false',
      example: true,
    }),
  ),
  accessKeyIdFile: Type.Optional(
    text({
      kind: 'path',
      description:
        'File that holds the access key. Read for each request, so that rotated keys count at once. Its mode is 0600, or 0640 when root owns it.',
      absent: "what the SDK finds in the usual places of AWS: environment, ~/.aws, a container's or a machine's role",
      example: '/etc/lifeboat/s3-access-key',
    }),
  ),
  secretAccessKeyFile: Type.Optional(
    text({
      kind: 'path',
      description: 'File that holds the secret of the access key, likewise.',
      absent: 'as with accessKeyIdFile',
      example: '/etc/lifeboat/s3-secret-key',
    }),
  ),
}

/** The key `repositories`. */
export const repositories = Type.Array(
  section({
    name: text({
      kind: 'label',
      description: 'Short name: a label of the metrics, and how the CLI and the API speak of it.',
      example: 'local',
    }),
    url: text({
      kind: 'url',
      description:
        'Where it is: a directory, as file:// and an absolute path, made when it is missing; or a bucket, as s3://bucket or s3://bucket/prefix (docs/s3.md). The keys below, but for bandwidth, prices, monthlyBudget and retention, are for buckets.',
      example: 'file:///var/backups/lifeboat',
    }),
    ...bucketAddress,
    storageClass: Type.Optional(
      text({
        kind: 'storageClass',
        description:
          'Storage class of the artifacts of backups. Manifests, proofs and leases, which are small or short-lived, stay in the default class of the bucket.',
        absent: 'GLACIER_IR without an endpoint, which is Amazon; else the default class of the bucket',
        example: 'STANDARD_IA',
      }),
    ),
    walStorageClass: Type.Optional(
      text({
        kind: 'storageClass',
        description: 'Storage class of WAL, of segments that take 128 KiB and more.',
        absent: 'the default class of the bucket, which is STANDARD at Amazon',
        example: 'STANDARD_IA',
      }),
    ),
    serverSideEncryption: Type.Optional(
      choice(['AES256', 'aws:kms'], {
        description: 'How the server is to encrypt what it stores.',
        absent: 'what the bucket says: AES256 at Amazon, unless it is set to something else',
        example: 'AES256',
      }),
    ),
    kmsKeyId: Type.Optional(
      text({
        description: 'Key of the key management service, for serverSideEncryption aws:kms.',
        absent: 'the default key of the bucket',
        example: 'alias/backups',
      }),
    ),
    checksum: Type.Optional(
      choice(['sha256', 'md5'], {
        description:
          'The checksum that is sent with every object and part, for the server to compare. `lifeboat check` tries whether it does.',
        absent: 'sha256 without an endpoint, which is Amazon, else md5',
        example: 'sha256',
      }),
    ),
    tags: Type.Optional(
      Type.Array(text({ kind: 'tag', description: 'A tag, as key=value.' }), {
        description: 'Tags of every object that is put, as key=value; at most 10.',
        minItems: 1,
        absent: 'none',
        example: ['team=dba'],
      }),
    ),
    objectLock: Type.Optional(
      section(
        {
          mode: choice(['governance', 'compliance'], {
            description:
              'Who may lift a lock early: in governance whoever has the right to (s3:BypassGovernanceRetention), in compliance nobody.',
            default: 'governance',
          }),
          for: Type.Optional(
            duration({
              description:
                'How long artifacts, manifests and WAL are locked, from their upload on. What is locked does not expire, whatever the retention says.',
              absent: 'no end in time is set: for legalHold alone',
              example: '90d',
              atLeast: '1d',
              atMost: '36500d',
            }),
          ),
          legalHold: boolean({
            description: 'They get a legal hold as well: they stay until somebody lifts it, which Lifeboat never does.',
            default: false,
          }),
        },
        {
          description: 'What is stored cannot be removed or replaced for a while. The bucket must have Object Lock.',
          absent: 'nothing is locked',
        },
      ),
    ),
    partSize: Type.Optional(
      size({
        description:
          'Size of the parts that an object is sent in; what is smaller goes in one piece. From the thousandth part on they grow.',
        absent: '20MiB',
        example: '20MiB',
        atLeast: '5MiB',
        atMost: '1GiB',
      }),
    ),
    parallel: Type.Optional(
      integer({
        description:
          'Parts of one object that are on their way at a time, and ranges of 8MiB or a part of one that is read; each takes the memory of a part.',
        absent: '4',
        example: 4,
        atLeast: '1',
        atMost: '32',
      }),
    ),
    prices: Type.Optional(
      text({
        kind: 'label',
        description: 'Table of `costs.prices` by which its cost is estimated.',
        absent: 'nothing is estimated',
        example: 'my-provider',
      }),
    ),
    monthlyBudget: Type.Optional(
      price('What it may cost in a month: a metric, for an alert to compare with the estimate.', 20, {
        absent: 'no such limit',
      }),
    ),
    bandwidth,
    retention,
  }),
  {
    description:
      'Places that keep the backups: each is a full copy. Without any, Lifeboat only watches what other tools do (`watch`).',
    default: [],
    example: [{ name: 'local', url: 'file:///var/backups/lifeboat', retention: { keepFor: '30d' } }],
  },
)
