import type { PriceTable } from '../domain/prices.ts'
import { parseRepositoryUrl } from './addresses.ts'
import { bandwidthOf } from './bandwidth.ts'
import type { Problems } from './problems.ts'
import { defaultKeepFor, retentionOf, walKeepForOf } from './retention.ts'
import type { RawConfig } from './schema.ts'
import { readSecretFile } from './secrets.ts'
import { isRecord } from './shape.ts'
import { parseDuration, parseSize, quote } from './units.ts'
import type { BucketConfig, ObjectLockConfig, RepositoryConfig } from './validated.ts'

type RawRepository = RawConfig['repositories'][number]
type At = (key: string) => (string | number)[]

const bucketKeys = [
  ...['region', 'endpoint', 'pathStyle', 'accessKeyIdFile', 'secretAccessKeyFile', 'storageClass'],
  ...['walStorageClass', 'serverSideEncryption', 'kmsKeyId', 'checksum', 'tags', 'objectLock', 'partSize', 'parallel'],
]
/** What another process needs to find and to read it. */
const readingKeys = [
  ...['name', 'url', 'region', 'endpoint', 'pathStyle', 'accessKeyIdFile', 'secretAccessKeyFile', 'checksum'],
  ...['partSize', 'parallel', 'bandwidth'],
]
const defaultPartBytes = 20 * 1024 * 1024
const defaultParallel = 4

/** Source: Amazon S3 User Guide, "Categorizing your objects using tags" */
const mostTags = 10

export function repositoryOf(raw: RawRepository, tables: readonly PriceTable[]): RepositoryConfig {
  const place = parseRepositoryUrl(raw.url)
  const retention = { ...raw.retention, keepFor: raw.retention.keepFor ?? defaultKeepFor(raw.url) }
  return {
    name: raw.name,
    url: raw.url,
    ...('path' in place ? { path: place.path, bucket: null } : { path: null, bucket: bucketOf(raw, place) }),
    reading: Object.fromEntries(Object.entries(raw).filter(([key]) => readingKeys.includes(key))),
    bandwidth: bandwidthOf(raw.bandwidth),
    retention: retentionOf(retention),
    walKeepForSeconds: lockedFor(walKeepForOf(retention), raw.objectLock),
    prices: tables.find(({ name }) => name === raw.prices) ?? null,
    monthlyBudget: raw.monthlyBudget ?? null,
  }
}

/** What is locked stays: a removal would only hide it. */
function lockedFor(keepForSeconds: number | null, lock: RawRepository['objectLock']): number | null {
  if (keepForSeconds === null || lock === undefined) return keepForSeconds
  return Math.max(keepForSeconds, objectLockOf(lock).forSeconds ?? 0)
}

function objectLockOf({ mode, legalHold, for: time }: NonNullable<RawRepository['objectLock']>): ObjectLockConfig {
  return { mode, legalHold, forSeconds: time === undefined ? null : parseDuration(time) / 1000 }
}

export function bucketOf(
  raw: Omit<RawRepository, 'name' | 'url' | 'retention' | 'bandwidth'>,
  { bucket, prefix }: { bucket: string; prefix: string },
): BucketConfig {
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
    storageClass: raw.storageClass ?? (endpoint === null ? 'GLACIER_IR' : null),
    walStorageClass: raw.walStorageClass ?? null,
    checksum: raw.checksum ?? (endpoint === null ? 'sha256' : 'md5'),
    tags: Object.fromEntries((raw.tags ?? []).map(splitTag)),
    objectLock: raw.objectLock === undefined ? null : objectLockOf(raw.objectLock),
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
    checkTags(raw, at, problems)
    checkLock(raw, at, problems)
    checkKeyPair(raw, at, problems)
  }
}

function splitTag(tag: string): readonly [key: string, value: string] {
  const end = tag.indexOf('=')
  return [tag.slice(0, end), tag.slice(end + 1)]
}

function checkTags(raw: Readonly<Record<string, unknown>>, at: At, problems: Problems): void {
  if (!Array.isArray(raw.tags)) return
  const keys = raw.tags.filter((tag) => typeof tag === 'string').map((tag) => splitTag(tag)[0])
  if (keys.length > mostTags) problems.add(at('tags'), `are more than ${mostTags}`, 'S3 takes no more of one object.')
  const twice = keys.find((key, index) => keys.indexOf(key) !== index)
  if (twice !== undefined) problems.add(at('tags'), `have the key ${quote(twice)} twice`, 'Give each key one value.')
}

function checkLock({ objectLock }: Readonly<Record<string, unknown>>, at: At, problems: Problems): void {
  if (!isRecord(objectLock) || objectLock.for !== undefined || objectLock.legalHold === true) return
  const hint = 'Set objectLock.for, e.g. 90d, or objectLock.legalHold.'
  problems.add(at('objectLock'), 'says neither for how long nor that there is a legal hold', hint)
}

/**
 * Finds halves of pairs. The files are read at each use: one that is missing concerns its bucket alone, and keeps nobody from the
 * other repositories.
 */
export function checkKeyPair(raw: Readonly<Record<string, unknown>>, at: At, problems: Problems): void {
  const names = ['accessKeyIdFile', 'secretAccessKeyFile']
  for (const [index, name] of names.entries()) {
    const other = names[1 - index] ?? ''
    if (typeof raw[name] === 'string' && raw[other] === undefined)
      problems.add(at(name), `is set, and ${other} is not`, 'Set both, or none.')
  }
}
