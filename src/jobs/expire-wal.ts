import { LifeboatError } from '../domain/errors.ts'
import type { RetentionRefusal } from '../domain/retention.ts'
import type { Repository } from '../repository/repository.ts'
import {
  type JudgedWal,
  judgeWal,
  type PhysicalBackups,
  readPhysicalBackups,
  type WalPolicy,
} from '../repository/wal-expiry.ts'
import type { JobContext } from '../runner/job.ts'
import { clockChanged, refused } from './retention-refused.ts'

/** What an expiry has removed of the WAL of a repository. */
export interface RemovedWal {
  readonly files: number
  /** As stored. */
  readonly bytes: number
}

export interface ExpireWalOptions extends WalPolicy {
  readonly isClockRight: () => boolean
  /** Told, for each timeline of which something went, up to which segment that was. Must not throw. */
  readonly onExpired?: (systemIdentifier: string, timeline: number, lastSegment: string) => void
}

/** So many files are removed between two looks at the clock, at the lease and at what repository this is. */
const batch = 16

/** The beginning of a timeline that was removed. */
interface Went {
  readonly first: string
  last: string
  /** Partials may go before their segment does. */
  lastSegment: string | null
  files: number
  bytes: number
}

/**
 * Removes from a repository the WAL that no backup which is still there and no window needs, of each timeline the oldest
 * first: interrupted at any point, what is left of a timeline has no hole that was not there before. The first file that
 * cannot be removed ends it.
 *
 * @throws LifeboatError `retention-refused` when a physical backup cannot be read, or the clock was set meanwhile;
 *   `conflict` when the repository has got another writer
 */
export async function expireWal(
  repository: Repository,
  { isClockRight, onExpired, ...policy }: ExpireWalOptions,
  context: JobContext,
): Promise<RemovedWal> {
  const { signal, log } = context
  const physical = await readPhysical(repository, signal)
  const went = new Map<string, Went>()
  const locked = new Set<string>()
  let files = 0
  let bytes = 0
  /** What is locked stays, and all of its timeline after it. */
  async function unlocked(some: readonly JudgedWal[]): Promise<readonly JudgedWal[]> {
    const free: JudgedWal[] = []
    for (const judged of some) {
      const timeline = timelineOf(judged)
      if (locked.has(timeline)) continue
      const lock = await repository.wal.lockOf(judged.file, policy.now, { signal })
      if (lock === null) {
        free.push(judged)
        continue
      }
      locked.add(timeline)
      const about = { repository: repository.name, file: judged.file.name, until: lock.until }
      log.info(about, 'WAL would expire, and stays: the bucket has it locked')
    }
    return free
  }
  async function remove(some: readonly JudgedWal[]): Promise<void> {
    if (!isClockRight()) throw refused(repository.name, clockChanged)
    const message = `removing WAL from ${repository.name}: ${some[0]?.file.name ?? ''}`
    context.progress({ done: files, total: null, unit: 'files', message })
    const removed = repository.wal.removeInOrder(
      (await unlocked(some)).map((judged) => ({ judged, info: judged.file.info })),
      { signal },
    )
    for await (const { judged, info } of removed) {
      files += 1
      bytes += info.bytes
      note(went, judged)
    }
  }
  let going: JudgedWal[] = []
  try {
    for await (const judged of judgeWal(repository, policy, physical, { signal })) {
      if (!judged.keep) going.push(judged)
      if (going.length < batch) continue
      await remove(going)
      going = []
    }
    if (going.length > 0) await remove(going)
  } finally {
    for (const [key, { first, last, lastSegment, files: count, bytes: size }] of went) {
      const [systemIdentifier = '', timeline] = key.split('/')
      if (lastSegment !== null) onExpired?.(systemIdentifier, Number(timeline), lastSegment)
      const about = { repository: repository.name, systemIdentifier, timeline: Number(timeline), first, last }
      log.info({ ...about, files: count, bytes: size }, 'WAL has expired')
    }
  }
  return { files, bytes }
}

/** In words, e.g. `1200 files of WAL (4711 MiB)`. */
export function walInWords({ files, bytes }: RemovedWal): string {
  return `${files} file${files === 1 ? '' : 's'} of WAL (${Math.ceil(bytes / 2 ** 20)} MiB)`
}

function timelineOf({ systemIdentifier, timeline }: JudgedWal): string {
  return `${systemIdentifier}/${timeline}`
}

function note(went: Map<string, Went>, judged: JudgedWal): void {
  const { file } = judged
  const key = timelineOf(judged)
  const one = went.get(key) ?? { first: file.name, last: file.name, lastSegment: null, files: 0, bytes: 0 }
  went.set(key, one)
  one.last = file.name
  if (file.kind === 'segment') one.lastSegment = file.name
  one.files += 1
  one.bytes += file.info.bytes
}

async function readPhysical(repository: Repository, signal: AbortSignal): Promise<PhysicalBackups> {
  try {
    return await readPhysicalBackups(repository, { signal })
  } catch (error) {
    if (!(error instanceof LifeboatError && /^manifest-/.test(error.code))) throw error
    const refusal: RetentionRefusal = {
      cause: 'manifest-invalid',
      message: error.message,
      hint: 'the next expiry decides anew',
    }
    throw refused(repository.name, refusal)
  }
}
