import type { Clock } from '../clock.ts'
import { LifeboatError, toFailure } from '../domain/errors.ts'
import { identityOf } from '../domain/external-file.ts'
import type { RetentionCandidate, RetentionPolicy, RetentionRefusal } from '../domain/retention.ts'
import { planUncertain } from '../domain/retention-uncertain.ts'
import { lookAtFile } from '../external/file-facts.ts'
import { finishRemovals, removeDump } from '../external/remove-dump.ts'
import type { JobContext } from '../runner/job.ts'
import { clockChanged, refused } from './retention-refused.ts'

/** A watched directory whose files may expire, since the configuration says so. */
export interface ExpiringWatch {
  readonly name: string
  readonly directory: string
  readonly retention: RetentionPolicy
}

interface ExpiringFile {
  readonly name: string
  readonly path: string
  readonly identity: string
}

/** A complete look at the files of a watched directory. */
export interface WatchExpirySurvey {
  readonly backups: readonly RetentionCandidate[]
  /** Files of which nobody knows whether they could be restored. */
  readonly uncertain: ReadonlySet<string>
  readonly files: ReadonlyMap<string, ExpiringFile>
}

export interface ExpireWatchOptions {
  readonly clock: Clock
  readonly survey: (watch: string, signal: AbortSignal) => Promise<WatchExpirySurvey>
  /** Whether something is being verified just now, by its id. */
  readonly isInUse: (id: string) => boolean
  readonly doubt: RetentionRefusal | null
  readonly isClockRight: () => boolean
}

/**
 * Removes the files of other tools that the policy of their watched directory lets go, one item for each.
 *
 * @throws LifeboatError `retention-refused`; `storage-failed` when the directory cannot be read, or the first file that could
 *   not be removed
 */
export async function expireWatch(
  { name, directory, retention }: ExpiringWatch,
  { clock, survey, isInUse, doubt, isClockRight }: ExpireWatchOptions,
  context: JobContext,
): Promise<void> {
  const { signal, log } = context
  context.progress({ done: 0, total: null, unit: 'backups', message: `looking at ${name}` })
  const back = await finishRemovals(directory)
  if (back.length > 0)
    log.warn({ watch: name, files: back }, 'put back what an expiry that was cut off had moved aside')
  const { backups, uncertain, files } = await survey(name, signal)
  const { removals, refusal } = planUncertain(
    {
      backups: backups.map((one) => (isInUse(one.id) ? { ...one, inUse: true } : one)),
      policy: retention,
      now: clock.now(),
      refusals: doubt === null ? [] : [doubt],
    },
    (id) => uncertain.has(id),
  )
  if (refusal !== null) throw refused(name, refusal)
  const byId = new Map(backups.map((backup) => [backup.id, backup]))
  let failed: unknown = null
  let gone = 0
  for (const [index, { id, needs }] of removals.entries()) {
    const [file, backup] = [files.get(id), byId.get(id)]
    if (file === undefined || backup === undefined) continue
    signal.throwIfAborted()
    const message = `removing ${JSON.stringify(file.name)} from ${name}`
    context.progress({ done: index, total: removals.length, unit: 'backups', message })
    if (!isClockRight()) throw refused(name, clockChanged)
    const about = { backupType: 'external', database: backup.database, repository: name, backupId: id } as const
    try {
      for (const needed of needs) await assertThere(file.name, files.get(needed))
      await removeDump(directory, file.name, file.identity)
      gone += 1
      context.item({ ...about, outcome: 'succeeded', finishedAt: clock.now().toISOString() })
      log.info({ watch: name, file: file.name, backup: id }, 'file has expired')
    } catch (error) {
      const failure = toFailure(error)
      if (failure.code === 'conflict') {
        log.info({ watch: name, file: file.name, ...failure }, 'file stays after all')
        continue
      }
      context.item({ ...about, outcome: 'failed', failure, finishedAt: clock.now().toISOString() })
      log.error({ watch: name, file: file.name, ...failure }, 'file could not be removed')
      failed ??= error
    }
  }
  log.info({ watch: name, removed: gone, of: backups.length }, 'expiry has ended')
  if (failed !== null) throw failed
}

/** Another tool may have removed, since the look, what was to stay in the place of what goes. */
async function assertThere(name: string, needed: ExpiringFile | undefined): Promise<void> {
  const facts = needed === undefined ? null : await lookAtFile(needed.path)
  if (needed !== undefined && facts !== null && identityOf(facts) === needed.identity) return
  const which = needed === undefined ? 'a file' : JSON.stringify(needed.name)
  throw new LifeboatError(
    'conflict',
    `${JSON.stringify(name)} stays: ${which}, which was to stay in its place, has changed`,
    {
      hint: 'the next expiry decides anew',
    },
  )
}
