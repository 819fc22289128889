import { LifeboatError } from '../domain/errors.ts'
import { parseRepositoryUrl } from './addresses.ts'
import type { Problems } from './problems.ts'
import { retentionOf, walKeepForOf } from './retention.ts'
import type { RawConfig } from './schema.ts'
import { readSecretFile } from './secrets.ts'
import { isRecord } from './shape.ts'
import { parseSize } from './units.ts'
import type { BucketConfig, RepositoryConfig } from './validated.ts'

type RawRepository = RawConfig['repositories'][number]

const bucketKeys = [
  ...['region', 'endpoint', 'pathStyle', 'accessKeyIdFile', 'secretAccessKeyFile', 'storageClass'],
  ...['serverSideEncryption', 'kmsKeyId', 'partSize', 'parallel'],
]
const defaultPartBytes = 20 * 1024 * 1024
const defaultParallel = 4

export function repositoryOf(raw: RawRepository): RepositoryConfig {
  const place = parseRepositoryUrl(raw.url)
  return {
    name: raw.name,
    url: raw.url,
    ...('path' in place ? { path: place.path, bucket: null } : { path: null, bucket: bucketOf(raw, place) }),
    retention: retentionOf(raw.retention),
    walKeepForSeconds: walKeepForOf(raw.retention),
  }
}

function bucketOf(raw: RawRepository, { bucket, prefix }: { bucket: string; prefix: string }): BucketConfig {
  const { accessKeyIdFile, secretAccessKeyFile, endpoint = null } = raw
  return {
    bucket,
    prefix,
    endpoint,
    region: raw.region ?? (endpoint === null ? null : 'us-east-1'),
    pathStyle: raw.pathStyle ?? endpoint !== null,
    keys:
      accessKeyIdFile === undefined || secretAccessKeyFile === undefined
        ? null
        : async () => ({
            accessKeyId: await readSecretFile(accessKeyIdFile),
            secretAccessKey: await readSecretFile(secretAccessKeyFile),
          }),
    storageClass: raw.storageClass ?? null,
    serverSideEncryption: raw.serverSideEncryption ?? null,
    kmsKeyId: raw.kmsKeyId ?? null,
    partBytes: raw.partSize === undefined ? defaultPartBytes : parseSize(String(raw.partSize)),
    parallel: raw.parallel ?? defaultParallel,
  }
}

/** Finds keys for buckets at directories, halves of pairs, files with keys that cannot be read, and places that lie in one another. */
export async function checkBuckets(tree: unknown, problems: Problems): Promise<void> {
  const list: unknown = isRecord(tree) ? tree.repositories : undefined
  const seen: { readonly index: number; readonly where: string }[] = []
  for (const [index, raw] of (Array.isArray(list) ? list : []).entries()) {
    if (!isRecord(raw) || typeof raw.url !== 'string') continue
    const at = (key: string) => ['repositories', index, key]
    const place = parseRepositoryUrl(raw.url)
    if ('path' in place) {
      for (const key of bucketKeys.filter((one) => raw[one] !== undefined)) {
        problems.add(at(key), 'is for buckets, and the url is a directory', 'Remove the key, or use an s3:// url.')
      }
      continue
    }
    const endpoint = typeof raw.endpoint === 'string' ? new URL(raw.endpoint).origin : ''
    const where = `${endpoint} ${place.bucket}/${place.prefix}`
    const other = seen.find((one) => one.where.startsWith(where) || where.startsWith(one.where))
    if (other) {
      const hint = 'Give each a prefix of its own, none within another.'
      problems.add(at('url'), `is, lies in or holds the same place as repositories[${other.index}].url`, hint)
    }
    seen.push({ index, where })
    if (raw.kmsKeyId !== undefined && raw.serverSideEncryption !== 'aws:kms') {
      problems.add(at('kmsKeyId'), 'has no effect without serverSideEncryption aws:kms', 'Set that, or remove the key.')
    }
    await checkKeyFiles(raw, at, problems)
  }
}

async function checkKeyFiles(
  raw: Readonly<Record<string, unknown>>,
  at: (key: string) => (string | number)[],
  problems: Problems,
): Promise<void> {
  const names = ['accessKeyIdFile', 'secretAccessKeyFile']
  for (const [index, name] of names.entries()) {
    const other = names[1 - index] ?? ''
    const file = raw[name]
    if (typeof file !== 'string') continue
    if (raw[other] === undefined) problems.add(at(name), `is set, and ${other} is not`, 'Set both, or none.')
    try {
      await readSecretFile(file)
    } catch (error) {
      if (!(error instanceof LifeboatError)) throw error
      problems.add(at(name), error.message, error.hint)
    }
  }
}
