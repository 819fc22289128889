import { isHttpUrl, matching } from './kind-checks.ts'
import { isTag } from './tags.ts'

function isOrigin(text: string): boolean {
  return isHttpUrl(text) && `${new URL(text).origin}/` === new URL(text).href
}

/** Kinds of the keys of buckets; see kinds.ts. */
export const bucketKinds = {
  region: {
    label: 'region',
    expected: 'the name of a region',
    shown: true,
    check: matching((name) => /^[A-Za-z0-9-]{1,63}$/.test(name), 'is not the name of a region'),
  },
  storageClass: {
    label: 'storage class',
    expected: 'the name of a storage class',
    shown: true,
    check: matching(
      (name) => /^[A-Za-z0-9_-]{1,63}$/.test(name) && !['GLACIER', 'DEEP_ARCHIVE'].includes(name),
      'must be a class whose objects can be read at once',
      'Backups in GLACIER or DEEP_ARCHIVE could neither be verified nor restored without hours of waiting. Use GLACIER_IR.',
    ),
  },
  tag: {
    label: '`key=value`',
    expected: 'a tag, as key=value',
    shown: true,
    check: matching(
      isTag,
      'is not a tag as S3 takes it',
      'Write key=value: a key of 1 to 128 characters that does not begin with aws:, a value of at most 256; letters, digits, spaces and + - = . _ : / @.',
    ),
  },
  endpoint: {
    label: 'URL of a server',
    expected: 'the URL of a server',
    shown: false,
    check: matching(
      isOrigin,
      'must be http:// or https://, a host, and maybe a port, and nothing else',
      'Bucket and prefix stand in url; keys are named by accessKeyIdFile and secretAccessKeyFile.',
    ),
  },
}
