/** How the server's archiver fares. What is not known is no state. */
export const archiverStates = ['off', 'idle', 'archiving', 'lagging', 'failing', 'hung', 'lying'] as const
export type ArchiverState = (typeof archiverStates)[number]

/** What the server says of its archiver at one moment. */
export interface ArchiverSample {
  readonly serverMajor: number
  /** The server's clock. */
  readonly at: Date
  readonly mode: 'off' | 'on' | 'always'
  /** There is an archive_command, or an archive_library. */
  readonly hasCommand: boolean
  /** Since the statistics were reset. */
  readonly archived: number
  readonly failed: number
  readonly lastArchivedAt: Date | null
  readonly lastFailedAt: Date | null
  readonly lastFailed: string | null
  /** Null where it does not run, before PostgreSQL 14, which does not show it, and for a role that may not see it. */
  readonly process: { readonly pid: number; readonly waitEvent: string | null } | null
  /** Null: the role may not list them. */
  readonly files: ArchiverFiles | null
}

export interface ArchiverFiles {
  /** So many wait to be archived. */
  readonly ready: number
  readonly oldestReady: { readonly name: string; readonly since: Date } | null
  /** The newest ones that the server takes for archived. */
  readonly done: readonly string[]
}

/** A sample, and when it was taken by a clock that never goes back, milliseconds. */
export interface TimedSample {
  readonly atMs: number
  readonly sample: ArchiverSample
}

export interface ArchiverVerdict {
  /** Null: the role may not see what tells. */
  readonly state: ArchiverState | null
  /** For people: what shows it. */
  readonly detail: string
}

/** What to do first in a state that is wrong; null: nothing, and where the state is not known. */
export function archiverHint(state: ArchiverState | null): string | null {
  return state === null ? null : hints[state]
}

const seeLog = "the server's log has the reason, beside `archive command failed`"
const hints: Readonly<Record<ArchiverState, string | null>> = {
  off: '`lifeboat wal setup` shows what to set; with wal.stream nothing need be archived',
  idle: null,
  archiving: null,
  lagging: 'look at the disk of the archive and its way there: the server writes WAL faster than it is archived',
  failing: `${seeLog}; \`lifeboat check\` tries it`,
  hung: 'see what archive_command waits for (`ps -ef`, a network disk), and end it: the server tries again',
  lying: 'let archive_command store before it returns 0 (`lifeboat wal setup`), then `lifeboat backup --type full`',
}

/** After three failures the archiver rests for a minute: what failed within this time fails still. */
const failingMs = 150_000
/** An archive_command that does nothing for so long has hung. */
const hungMs = 60_000
/** So many files wait, or one for so long: it does not keep up. */
const laggingFiles = 16
const laggingMs = 300_000

/** For so long samples are of use, milliseconds. */
export const sampleAgeMs = failingMs

/**
 * Judges the archiver by what the server showed lately. Counters alone do not tell: an archiver that a command with an exit
 * status above 125 kills counts no failure, and one whose command never returns counts nothing at all.
 *
 * @param lately earlier samples, oldest first, none older than `sampleAgeMs`
 * @param missing files that the server takes for archived, and that are nowhere
 * Source: https://www.postgresql.org/docs/current/continuous-archiving.html, pgarch.c
 */
export function judgeArchiver(
  now: TimedSample,
  lately: readonly TimedSample[],
  missing: readonly string[],
): ArchiverVerdict {
  const { sample } = now
  if (sample.mode === 'off') return { state: 'off', detail: 'archive_mode is off' }
  if (!sample.hasCommand) return { state: 'off', detail: 'archive_command is empty: WAL piles up on the server' }
  const { files } = sample
  if (files === null) {
    const failing = whyFailing(sample, [])
    const hidden = 'what waits to be archived is not for this role to see: it needs pg_monitor'
    return { state: failing === null ? null : 'failing', detail: failing ?? hidden }
  }
  const [absent] = missing
  if (absent !== undefined) {
    const more = missing.length > 1 ? ` and ${missing.length - 1} more` : ''
    return { state: 'lying', detail: `the server takes ${absent}${more} for archived, and it is not in the archive` }
  }
  const { ready, oldestReady } = files
  if (oldestReady === null) return { state: 'idle', detail: 'nothing waits' }
  const waits = `${ready} ${ready === 1 ? 'file waits' : 'files wait'}, ${oldestReady.name} first`
  const failing = whyFailing(sample, lately)
  if (failing !== null) return { state: 'failing', detail: `${failing}; ${waits}` }
  const stillMs = stillFor(now, lately)
  if (isInCommand(sample) && stillMs >= hungMs) {
    const seconds = Math.round(stillMs / 1000)
    return { state: 'hung', detail: `archive_command has not returned for ${seconds} s; ${waits}` }
  }
  const isSlow = sample.at.getTime() - oldestReady.since.getTime() > laggingMs
  return { state: ready >= laggingFiles || isSlow ? 'lagging' : 'archiving', detail: waits }
}

function whyFailing(sample: ArchiverSample, lately: readonly TimedSample[]): string | null {
  const { lastFailed, lastFailedAt, lastArchivedAt, at, process, serverMajor } = sample
  const recently = lastFailedAt !== null && at.getTime() - lastFailedAt.getTime() < failingMs
  if (recently && (lastArchivedAt === null || lastArchivedAt <= lastFailedAt))
    return `archive_command fails, last for ${lastFailed ?? 'a file'}`
  if (serverMajor < 14 || lately.length === 0) return null
  const before = lately.at(-1)?.sample.process
  if (process === null && before === null) return 'the archiver does not run'
  if (process !== null && lately.some(({ sample: { process: other } }) => other !== null && other?.pid !== process.pid))
    return 'the archiver dies and is started again'
  return null
}

/** PostgreSQL 13 does not say what it waits for. */
function isInCommand({ serverMajor, process }: ArchiverSample): boolean {
  return serverMajor < 14 || process?.waitEvent === 'ArchiveCommand'
}

/** For how long the same file has been the first to wait, and nothing was counted. */
function stillFor(now: TimedSample, lately: readonly TimedSample[]): number {
  const { files, archived, failed } = now.sample
  const isStill = ({ sample }: TimedSample) =>
    sample.files?.oldestReady?.name === files?.oldestReady?.name &&
    sample.archived === archived &&
    sample.failed === failed
  let since = now.atMs
  for (const earlier of lately.toReversed()) {
    if (!isStill(earlier)) break
    since = earlier.atMs
  }
  return now.atMs - since
}
