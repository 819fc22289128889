import { opendir } from 'node:fs/promises'
import { join } from 'node:path'
import { type Clock, withDeadline } from '../clock.ts'
import { withSlack } from '../config/schedule.ts'
import { LifeboatError } from '../domain/errors.ts'
import type { FileFacts } from '../domain/external-file.ts'
import { compilePattern } from '../domain/file-pattern.ts'
import { factsAt, scanDirectory } from '../observe/scan.ts'
import { refusalOf } from './bounded-read.ts'
import type { DumpJob } from './crontabs.ts'
import { groupNames, isDumpName, type NameGroup } from './dump-names.ts'
import { seemsDump } from './seems-dump.ts'
import type { DumpCall } from './shell-text.ts'

/** Files that other tools have written, as one entry of `watch` describes them. */
export interface FoundDumps {
  readonly directory: string
  readonly pattern: string
  /** Null: the pattern names it, or nobody knows. */
  readonly database: string | null
  readonly files: number
  readonly newest: Date
  /** How far apart they usually are, seconds; null with too few of them. */
  readonly gapSeconds: number | null
  /** By the schedule of the job that writes them, else by the gap; null: not known. */
  readonly maxAgeSeconds: number | null
  /** The crontab that writes there; null: not known. */
  readonly source: string | null
}

export interface DumpSearch {
  /** Usual places, looked at two levels deep; nothing is said of those that are missing. */
  readonly usual: readonly string[]
  /** Those that somebody has asked for. */
  readonly asked: readonly string[]
  readonly jobs: readonly DumpJob[]
  readonly databases: readonly string[]
  readonly clock: Clock
  readonly signal: AbortSignal
}

const mostDirectories = 500
const patienceMs = 20_000
const system = /^\/(?:bin|boot|dev|etc|lib\w*|proc|run|sbin|sys|usr)(?:\/|$)/

interface Place {
  readonly directory: string
  readonly depth: number
  /** It should be there. */
  readonly isExpected: boolean
}

/** Looks for dumps where scripts put them and where they usually are. Nothing is followed out of a place, and nothing is waited for. */
export async function findDumps(
  search: DumpSearch,
): Promise<{ readonly dumps: readonly FoundDumps[]; readonly troubles: readonly string[] }> {
  const dumps: FoundDumps[] = []
  const troubles: string[] = []
  const seen = new Set<string>()
  const targets = search.jobs.flatMap(({ calls }) => calls.flatMap(({ directory }) => directory ?? []))
  const named = search.jobs.flatMap(({ paths }) => paths)
  const queue: Place[] = [
    ...search.asked.map((directory) => ({ directory, depth: 2, isExpected: true })),
    ...targets.map((directory) => ({ directory, depth: 2, isExpected: true })),
    ...named.map((directory) => ({ directory, depth: 1, isExpected: false })),
    ...search.usual.map((directory) => ({ directory, depth: 2, isExpected: false })),
  ].filter(({ directory, isExpected }) => isExpected || !system.test(directory))
  const told = new Set<string>()
  for (let place = queue.shift(); place !== undefined; place = queue.shift()) {
    if (seen.size >= mostDirectories) {
      troubles.push(`more than ${mostDirectories} directories: the rest was not looked at`)
      break
    }
    const scan = await scanned(place.directory, search).catch(async (error: unknown) => {
      search.signal.throwIfAborted()
      return error instanceof LifeboatError && error.code === 'timed-out' ? 'does not answer' : whyNot(place.directory)
    })
    if (typeof scan === 'string') {
      const { directory, isExpected } = place
      const isWorthTelling = isExpected || !['missing', 'is no directory'].includes(scan)
      if (isWorthTelling && !told.has(directory))
        troubles.push(`${directory} ${scan === 'missing' ? 'is not there' : scan}`)
      told.add(directory)
      continue
    }
    if (seen.has(scan.identity)) continue
    seen.add(scan.identity)
    const found = await groupsIn(place.directory, scan.files, { ...search, troubles })
    dumps.push(...found)
    for (const [name, { isDirectory }] of scan.files) {
      if (isDirectory && place.depth > 0 && !isDumpName(name, true) && queue.length < 2 * mostDirectories)
        queue.push({ directory: join(place.directory, name), depth: place.depth - 1, isExpected: false })
    }
  }
  return { dumps: dumps.toSorted((a, b) => b.files - a.files), troubles }
}

async function scanned(directory: string, { clock, signal }: DumpSearch) {
  const reason = new LifeboatError('timed-out', `${directory} does not answer`)
  const scan = await withDeadline(clock, { ms: patienceMs, reason, signals: [signal] }, (limited) =>
    scanDirectory(directory, limited),
  )
  const files = new Map(scan.names.map((name, index) => [name, factsAt(scan, index)] as const))
  return { identity: `${scan.device}:${scan.inode}`, files }
}

async function whyNot(directory: string): Promise<string> {
  try {
    await (await opendir(directory)).close()
    return 'cannot be read'
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOTDIR' ? 'is no directory' : refusalOf(error)
  }
}

async function groupsIn(
  directory: string,
  files: ReadonlyMap<string, FileFacts>,
  { jobs, databases, troubles }: DumpSearch & { readonly troubles: string[] },
): Promise<readonly FoundDumps[]> {
  const names = [...files].flatMap(([name, { isDirectory }]) => (isDumpName(name, isDirectory) ? [name] : []))
  // A script that does not say where it writes may write to every place that it names.
  const writes = (call: DumpCall, { paths }: DumpJob) =>
    call.directory === directory || (call.directory === null && paths.includes(directory))
  const writers = jobs.filter((job) => job.calls.some((call) => writes(call, job)))
  const calls = writers.flatMap((job) => job.calls.filter((call) => writes(call, job)))
  const dumped = [...new Set(calls.flatMap((call) => call.database ?? []))]
  const found: FoundDumps[] = []
  const groups = groupNames(names, [...dumped, ...databases])
  const left = groups.reduce((rest, group) => rest - group.names.length, names.length)
  if (left > 0) troubles.push(`${directory}: ${left} more files have names too different for a pattern`)
  for (const group of groups) {
    const modified = (name: string) => files.get(name)?.modified ?? 0
    const newest = group.names.toSorted((a, b) => modified(b) - modified(a))
    const verdicts = await Promise.all(newest.slice(0, 3).map((name) => seemsDump(join(directory, name))))
    // What a script writes is watched all the more when none of it is a dump.
    if (writers.length === 0 && verdicts.every((verdict) => verdict === 'no')) continue
    const gapSeconds = gapOf(group, modified)
    const scheduled = writers.find((job) => job.maxAgeSeconds !== null)?.maxAgeSeconds ?? null
    found.push({
      directory,
      pattern: group.pattern,
      database:
        group.database ?? (group.pattern.includes('{database}') || dumped.length !== 1 ? null : (dumped[0] ?? null)),
      files: group.names.length,
      newest: new Date(modified(newest[0] ?? '')),
      gapSeconds,
      maxAgeSeconds: scheduled ?? (gapSeconds === null ? null : withSlack(gapSeconds)),
      source: writers[0]?.source ?? null,
    })
  }
  return found
}

/**
 * The gap that nine of ten are within, of the newest 30 files of the database with the most: weekends belong to a rhythm, one
 * missed night does not. Null with fewer than four files.
 */
function gapOf({ pattern, names }: NameGroup, modified: (name: string) => number): number | null {
  const match = compilePattern(pattern)
  const said = names.map((name) => ({ at: match(name)?.at?.getTime() ?? modified(name), of: match(name)?.database }))
  const series = [...Map.groupBy(said, ({ of }) => of).values()].toSorted((a, b) => b.length - a.length)[0] ?? []
  const times = series
    .map(({ at }) => at)
    .sort((a, b) => b - a)
    .slice(0, 31)
  if (times.length < 4) return null
  const gaps = times
    .slice(1)
    .map((time, index) => (times[index] ?? time) - time)
    .sort((a, b) => a - b)
  const gap = (gaps[Math.min(gaps.length - 1, Math.floor(gaps.length * 0.9))] ?? 0) / 1000
  return gap < 60 ? null : gap // all at once: they were copied here, perhaps
}
