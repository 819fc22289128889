import { basename } from 'node:path'
import { compilePattern, type FilePattern, namesDatabase } from '../domain/file-pattern.ts'
import type { Problems } from './problems.ts'
import { retentionOf } from './retention.ts'
import type { RawConfig } from './schema.ts'
import { isRecord } from './shape.ts'
import { parseDuration, parsePercent, parseSize } from './units.ts'
import type { WatchConfig } from './validated.ts'

type RawWatch = RawConfig['watch'][number]

export function watchOf(raw: RawWatch): WatchConfig {
  return {
    name: nameOf(raw),
    directory: raw.directory,
    pattern: raw.pattern,
    match: ownNamesApart(compilePattern(raw.pattern)),
    database: raw.database ?? null,
    quietMs: parseDuration(raw.quietTime),
    maxAgeSeconds: parseDuration(raw.maxAge) / 1000,
    minBytes: parseSize(String(raw.minSize)),
    shrinkBelow: parsePercent(raw.shrinkBelow),
    inspectNewest: raw.inspectNewest,
    retention: raw.retention === undefined ? null : retentionOf(raw.retention),
  }
}

/** Where dumps are that just expire is no dump. */
function ownNamesApart(match: FilePattern): FilePattern {
  return (name) => (name.startsWith('.lifeboat-') ? null : match(name))
}

/** A directory may have any name; a label may not. */
function nameOf({ name, directory }: Pick<RawWatch, 'name' | 'directory'>): string {
  const last = basename(directory)
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
    if (!isRecord(one) || typeof one.directory !== 'string') continue
    const name = nameOf({ directory: one.directory, ...(typeof one.name === 'string' ? { name: one.name } : {}) })
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
