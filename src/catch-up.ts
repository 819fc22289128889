import type { Logger } from 'pino'
import type { Clock } from './clock.ts'
import { toFailure } from './domain/errors.ts'
import type { Catalog } from './observe/catalog.ts'
import { laggards } from './observe/lagging.ts'
import { repositoryCollector } from './observe/questions.ts'
import { isBackupJob } from './runner/job.ts'
import type { Runner } from './runner/runner.ts'

/** WAL comes all the time, and to go through ten thousand backups takes some milliseconds. */
const lookMs = 5_000

/** The wait before a copy that failed is tried again; it doubles each time. */
const [firstPauseMs, longestPauseMs] = [60_000, 6 * 3_600_000]

/**
 * The wait after one that found no copy whole, also across restarts: time mends nothing there, and what was stored of it until then
 * cannot be removed from a bucket that locks.
 */
const brokenPauseMs = 7 * 24 * 3_600_000

/**
 * Has repositories catch up with what they missed while they were out of reach: one copy at a time, when no backup is under
 * way, which may yet bring it there itself. To be called with each catalog.
 */
export function createCatchUp({
  runner,
  clock,
  log,
  isEncrypting,
}: {
  readonly runner: Pick<Runner, 'trigger' | 'list'>
  readonly clock: Clock
  readonly log: Logger
  /** What is stored from now on is encrypted. */
  readonly isEncrypting: boolean
}): (catalog: Catalog) => void {
  const tried = new Map<string, { readonly again: number; readonly pauseMs: number }>()
  let seen: readonly unknown[] = []

  /** Whether there may be something to do. */
  function isNews({ repositories, wal }: Catalog): boolean {
    const now = [
      ...repositories.flatMap(({ backups, proofs }) => [backups, proofs]),
      ...(wal?.stored.map(({ revision }) => revision) ?? []),
    ]
    const isSame = now.length === seen.length && now.every((one, index) => one === seen[index])
    seen = now
    return !isSame
  }

  /** Unless a verification has found it sound since. */
  function isBroken({ repositories }: Catalog, repository: string, backup: string): boolean {
    const last = runner
      .list({ job: 'copy' })
      .find(({ params, finishedAt }) => finishedAt && params.backup === backup && params.repository === repository)
    if (last?.failure?.code !== 'artifact-invalid') return false
    const failedAt = Date.parse(last.finishedAt ?? '')
    const isMended = repositories.some(({ proofs }) =>
      proofs.get(backup)?.some(({ verdict, finishedAt }) => verdict === 'pass' && finishedAt.getTime() > failedAt),
    )
    return !isMended && clock.now().getTime() - failedAt < brokenPauseMs
  }

  let isStale = false
  let lookedAt = Number.NEGATIVE_INFINITY
  let waiting: ReadonlyMap<string, readonly string[]> = new Map()
  return (catalog) => {
    if (!catalog.complete || catalog.repositories.length < 2) return
    isStale = isNews(catalog) || isStale
    if (isStale && clock.monotonic() - lookedAt >= lookMs) {
      ;[isStale, lookedAt, waiting] = [false, clock.monotonic(), laggards(catalog, { isEncrypting })]
    }
    if (waiting.size === 0 || catalog.jobs.some(({ job, running }) => running && (isBackupJob(job) || job === 'copy')))
      return
    for (const [repository, ids] of waiting) {
      const name = repositoryCollector(repository)
      if (catalog.collectors.some(({ collector, success }) => collector === name && success !== true)) continue
      const backup = ids.find((id) => (tried.get(`${repository} ${id}`)?.again ?? 0) <= clock.monotonic())
      if (backup === undefined) continue
      const pauseMs = Math.min(longestPauseMs, 2 * (tried.get(`${repository} ${backup}`)?.pauseMs ?? firstPauseMs / 2))
      tried.set(`${repository} ${backup}`, { again: clock.monotonic() + pauseMs, pauseMs })
      if (isBroken(catalog, repository, backup)) continue
      try {
        runner.trigger({ job: 'copy', params: { backup, repository }, trigger: 'catch-up', requestedBy: null })
      } catch (error) {
        log.debug({ repository, backup, ...toFailure(error) }, 'it cannot catch up just now')
      }
    }
  }
}
