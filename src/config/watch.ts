import { basename } from 'node:path'
import { LifeboatError } from '../domain/errors.ts'
import { compileKeyPattern, compilePattern, type FilePattern, namesDatabase } from '../domain/file-pattern.ts'
import { parseRepositoryUrl } from './addresses.ts'
import type { Problems } from './problems.ts'
import { bucketOf, checkKeyPair } from './repositories.ts'
import { retentionOf } from './retention.ts'
import type { RawConfig } from './schema.ts'
import { isRecord } from './shape.ts'
import { parseDuration, parsePercent, parseSize } from './units.ts'
import type { WatchConfig, WatchedBucketConfig } from './validated.ts'

type RawWatch = RawConfig['watch'][number]

/** The watched directory that an entry is; none if it is a bucket. */
export function watchOf(raw: RawWatch): readonly WatchConfig[] {
  const { directory } = raw
  if (directory === undefined) return []
  return [
    {
      ...{ ...sharedOf(raw), directory, match: ownNamesApart(compilePattern(raw.pattern)) },
      inspectNewest: raw.inspectNewest,
      retention: raw.retention === undefined ? null : retentionOf(raw.retention),
    },
  ]
}

/** The watched bucket that an entry is; none if it is a directory. */
export function watchedBucketOf(raw: RawWatch): readonly WatchedBucketConfig[] {
  const place = raw.url === undefined ? null : parseRepositoryUrl(raw.url)
  if (place === null || 'path' in place) return []
  return [{ ...sharedOf(raw), bucket: bucketOf(raw, place), match: compileKeyPattern(raw.pattern) }]
}

function sharedOf(raw: RawWatch) {
  return {
    name: nameOf(raw),
    pattern: raw.pattern,
    database: raw.database ?? null,
    quietMs: parseDuration(raw.quietTime),
    maxAgeSeconds: parseDuration(raw.maxAge) / 1000,
    minBytes: parseSize(String(raw.minSize)),
    shrinkBelow: parsePercent(raw.shrinkBelow),
  }
}

/** Where dumps are that just expire is no dump. */
function ownNamesApart(match: FilePattern): FilePattern {
  return (name) => (name.startsWith('.lifeboat-') ? null : match(name))
}

/** A directory may have any name; a label may not. */
function nameOf({ name, directory, url = '' }: Pick<RawWatch, 'name' | 'directory' | 'url'>): string {
  const last = basename(directory ?? url)
    .replaceAll(/[^A-Za-z0-9._-]/g, '-')
    .replace(/^[^A-Za-z0-9]+/, '')
    .slice(0, 63)
  return name ?? (last === '' ? 'watch' : last)
}

/** What no key of `watch` shows alone. */
export function checkWatches(tree: unknown, problems: Problems): void {
  if (!isRecord(tree)) return
  const repositories = Array.isArray(tree.repositories) ? tree.repositories : []
  const watches = Array.isArray(tree.watch) ? tree.watch : []
  if (
    repositories.length === 0 &&
    watches.length === 0 &&
    Array.isArray(tree.repositories) &&
    Array.isArray(tree.watch)
  ) {
    problems.add(
      ['repositories'],
      'is missing',
      'Name a directory for the backups, or, under watch, one in which other tools put theirs.',
    )
  }
  const taken = new Set(repositories.flatMap((one) => (isRecord(one) ? [one.name] : [])))
  for (const [index, one] of watches.entries()) {
    if (!isRecord(one) || !checkPlace(one, ['watch', index], problems)) continue
    const place = typeof one.directory === 'string' ? { directory: one.directory } : { url: String(one.url) }
    const name = nameOf({ ...place, ...(typeof one.name === 'string' ? { name: one.name } : {}) })
    if (taken.has(name)) {
      problems.add(
        ['watch', index, 'name'],
        `is ${JSON.stringify(name)}, the name of a repository or of another watch too`,
        'Give it a name of its own.',
      )
    }
    taken.add(name)
    if (typeof one.pattern === 'string' && !namesDatabase(one.pattern) && one.database === undefined) {
      problems.add(['watch', index, 'database'], 'is missing', 'Set it, or put {database} into the pattern.')
    }
  }
}

const bucketKeys = ['region', 'endpoint', 'pathStyle', 'accessKeyIdFile', 'secretAccessKeyFile']

/** A watch is a directory or a bucket, and has the keys of that. False where it is not known which. */
function checkPlace(one: Readonly<Record<string, unknown>>, at: (string | number)[], problems: Problems): boolean {
  const { directory, url, pattern } = one
  if (typeof directory !== 'string' && typeof url !== 'string') {
    if (directory === undefined && url === undefined)
      problems.add([...at, 'directory'], 'is missing', 'Name the directory, or as url the bucket, with the dumps.')
    return false
  }
  if (typeof url !== 'string') {
    for (const key of bucketKeys.filter((key) => one[key] !== undefined))
      problems.add([...at, key], 'is for buckets, and this is a directory', 'Remove the key, or set url.')
    if (typeof pattern === 'string') checkNames(pattern, [...at, 'pattern'], problems)
    return true
  }
  if (directory !== undefined)
    problems.add([...at, 'url'], 'is set, and directory too', 'Make it two entries, one for each place.')
  if (!/^s3:/i.test(url)) problems.add([...at, 'url'], 'is no bucket', 'Set directory for a directory.')
  if (one.retention !== undefined)
    problems.add([...at, 'retention'], 'is for directories', 'Let a lifecycle rule of the bucket remove what is old.')
  return true
}

/** What is a pattern of keys may be none of names in a directory. */
function checkNames(pattern: string, at: (string | number)[], problems: Problems): void {
  try {
    compileKeyPattern(pattern)
  } catch {
    return // told already
  }
  try {
    compilePattern(pattern)
  } catch (error) {
    if (!(error instanceof LifeboatError)) throw error
    problems.add(at, error.message, error.hint)
  }
}

/** Finds keys of watched buckets that cannot be read. */
export async function checkWatchedBuckets(tree: unknown, problems: Problems): Promise<void> {
  const watches = isRecord(tree) && Array.isArray(tree.watch) ? tree.watch : []
  for (const [index, one] of watches.entries()) {
    if (isRecord(one) && typeof one.url === 'string') checkKeyPair(one, (key) => ['watch', index, key], problems)
  }
}
