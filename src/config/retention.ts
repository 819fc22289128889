import type { RetentionPolicy } from '../domain/retention.ts'
import { formatKey, type KeyPath, type Problems } from './problems.ts'
import type { RawConfig } from './schema.ts'
import { isRecord } from './shape.ts'
import { formatDuration, parseDuration } from './units.ts'

type RawRetention = RawConfig['repositories'][number]['retention']

/** How long backups stay where nothing is said. A bucket is the place for those of last quarter. */
export function defaultKeepFor(url: unknown): string {
  return typeof url === 'string' && url.startsWith('s3:') ? '90d' : '30d'
}

/** The policy of one repository, from its sound section. */
export function retentionOf({
  keepFor,
  keepAtLeast,
  window,
  ...periods
}: Omit<RawRetention, 'walKeepFor' | 'keepFor'> & { readonly keepFor: string }): RetentionPolicy {
  const { daily, weekly, monthly, yearly } = periods
  return {
    keepForSeconds: keepFor === 'forever' ? null : parseDuration(keepFor) / 1000,
    keepAtLeast,
    windowSeconds: window === undefined ? null : parseDuration(window) / 1000,
    daily,
    weekly,
    monthly,
    yearly,
  }
}

/** For how many seconds WAL stays in any case; null: for ever. */
export function walKeepForOf({
  keepFor,
  walKeepFor = keepFor,
}: {
  readonly keepFor: string
  readonly walKeepFor?: string
}): number | null {
  return walKeepFor === 'forever' ? null : parseDuration(walKeepFor) / 1000
}

/**
 * Finds rules that contradict `keepFor`: whoever reads it must be able to trust that it says how long backups stay at
 * least, and that with `forever` no other rule was meant to let any go.
 */
export function checkRetention(tree: unknown, problems: Problems): void {
  if (!isRecord(tree)) return
  for (const key of ['repositories', 'watch']) {
    const list: unknown = tree[key]
    for (const [index, one] of Array.isArray(list) ? list.entries() : []) {
      if (!isRecord(one) || !isRecord(one.retention)) continue
      const section = { keepFor: defaultKeepFor(one.url), ...one.retention }
      checkSection(section, [key, index, 'retention'], problems)
    }
  }
}

function checkSection(section: Readonly<Record<string, unknown>>, path: KeyPath, problems: Problems): void {
  const { keepFor, window } = section
  if (keepFor === 'forever') {
    const useless = ['window', 'daily', 'weekly', 'monthly', 'yearly'].filter((key) => section[key])
    for (const key of useless) {
      problems.add(
        [...path, key],
        'has no effect: keepFor is forever, so nothing expires',
        `Leave it out, or give ${formatKey([...path, 'keepFor'])} a duration.`,
      )
    }
    return
  }
  if (typeof keepFor !== 'string' || typeof window !== 'string') return
  const [keepMs, windowMs] = [parseDuration(keepFor), parseDuration(window)]
  if (windowMs > keepMs) {
    problems.add(
      [...path, 'window'],
      `is longer than keepFor, ${formatDuration(keepMs)}: backups would stay longer than keepFor says`,
      `Make keepFor at least ${formatDuration(windowMs)}, or the window shorter.`,
    )
  }
}
