import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import { type Failure, toFailure } from '../domain/errors.ts'
import type { MeasuredRestore } from '../domain/recovery-costs.ts'
import { usualPatienceMs, whoAnswers } from '../fetch/answering.ts'
import { chooseRepositories } from '../repository/choose.ts'
import type { Repository } from '../repository/repository.ts'
import type { WalRecords } from '../runner/wal-records.ts'
import { createLsnClock, type LsnClockStore } from './lsn-clock.ts'
import type { RecoveryAnswer, RecoveryClock, RecoveryQuestion, RecoverySource } from './recovery.ts'
import { planFromAll } from './recovery-together.ts'
import { createRepositoryLook } from './repository.ts'
import { StoredWalIndex, type StoredWalOptions } from './stored-wal.ts'
import type { WalClockState } from './wal-state.ts'

/** Where a recovery can be planned from without a server and without a sidecar: nothing is written anywhere. */
export interface OfflineSources {
  /** All that are configured. */
  readonly repositories: readonly Repository[]
  /**
   * What a sidecar of this host has noted of the WAL (`history.wal`); null: there was none. Without `index` all that is stored
   * is listed anew: what has vanished amid the rest is found by nothing else.
   */
  readonly records: Partial<Pick<WalRecords, 'lsnClock' | 'index'>> | null
  /** Restores that this host has done; left out: none are known. */
  readonly restores?: readonly MeasuredRestore[]
  readonly clock: Clock
  readonly log: Logger
  readonly signal: AbortSignal
  /** One that says nothing for so long, milliseconds, cannot be looked at. Default: 20 s. */
  readonly patienceMs?: number
}

/** What the repositories say. */
export interface OfflinePlans {
  /** One for each repository that could be looked at, in their order; and one of all together where that gets further. */
  readonly answers: readonly RecoveryAnswer[]
  /** What is known of each of these. */
  readonly sources: readonly RecoverySource[]
  /** Those that could not be looked at. */
  readonly failures: readonly { readonly repository: string; readonly failure: Failure }[]
}

/**
 * Looks at the repositories, and plans a recovery from each. A repository that cannot be looked at takes nothing from the
 * others. It needs neither the server nor the state directory; with the latter, moments can be compared with the WAL.
 *
 * @throws LifeboatError `not-found` for a repository that there is not
 */
export async function planFromRepositories(sources: OfflineSources, question: RecoveryQuestion): Promise<OfflinePlans> {
  const found: RecoverySource[] = []
  const failures: { repository: string; failure: Failure }[] = []
  const notes = rememberedClock(sources)
  const chosen = chooseRepositories(sources.repositories, question.repository)
  const { answering, silent } = await whoAnswers(chosen, { patienceMs: usualPatienceMs, ...sources })
  for (const { repository, error } of silent) failures.push({ repository: repository.name, failure: toFailure(error) })
  for (const repository of answering) {
    try {
      found.push(await lookAt(repository, sources, notes))
    } catch (error) {
      sources.signal.throwIfAborted()
      failures.push({ repository: repository.name, failure: toFailure(error) })
    }
  }
  return { answers: planFromAll(found, question), sources: found, failures }
}

interface RememberedClock {
  readonly clock: RecoveryClock
  readonly server: WalClockState | null
}

async function lookAt(
  repository: Repository,
  { records, restores = [], clock, log, signal }: OfflineSources,
  remembered: RememberedClock | null,
): Promise<RecoverySource> {
  const index = new StoredWalIndex({ repository, records: readOnlyIndex(records), clock, log })
  try {
    const stored = await index.lookAtAll(signal)
    const { files = null } = repository.storage
    const state = await createRepositoryLook({ repository, capacity: null, files, log })(signal)
    return {
      ...{ repository: state, stored, restores, now: clock.now(), serverVersion: null },
      server: remembered?.server ?? null,
      clock: remembered?.clock ?? null,
    }
  } finally {
    await index.close()
  }
}

/** What a sidecar of this host has noted, beside which nothing is written. */
function rememberedClock({ records, clock, log }: OfflineSources): RememberedClock | null {
  if (records?.lsnClock === undefined) return null
  const probe = { sample: () => Promise.reject(new Error('unreachable: nobody looks')), close: async () => {} }
  const lsnClock = createLsnClock({ probe, store: readOnlyClock(records), clock, log })
  return { clock: lsnClock, server: lsnClock.remembered }
}

/** The clock of the WAL as a sidecar has noted it, beside which nothing is written. */
export function readOnlyClock(records: Partial<Pick<WalRecords, 'lsnClock'>> | null): LsnClockStore {
  const rows = records?.lsnClock
  return {
    newest: () => rows?.newest() ?? null,
    save: () => 0,
    newestCovered: (system, bounds) => rows?.newestCovered(system, bounds) ?? null,
    leastAfter: (system, seq) => rows?.leastAfter(system, seq) ?? null,
    firstReaching: (system, timeline, at) => rows?.firstReaching(system, timeline, at) ?? null,
  }
}

/** The index of stored WAL as a sidecar has noted it, beside which nothing is written. */
export function readOnlyIndex(records: Partial<Pick<WalRecords, 'index'>> | null): StoredWalOptions['records'] {
  const rows = records?.index
  return {
    identity: (repository, cluster) => rows?.identity(repository, cluster) ?? null,
    load: (repository, cluster) => rows?.load(repository, cluster) ?? null,
    save: () => {},
  }
}
