import type { Clock } from '../clock.ts'
import type { NamedHole } from '../domain/holes.ts'
import type { RepositoryState } from './catalog.ts'
import type { Collector } from './collector.ts'
import type { LsnClock } from './lsn-clock.ts'
import type { RefusedSegments } from './shipping-state.ts'
import { createThrottle, type Throttle } from './throttle.ts'
import { createWalView } from './wal.ts'
import type { SlotState, StoredWalState, WalArchiveState, WalClockState, WalState } from './wal-state.ts'

/** Looks at files, and at no more than has changed since the last time. */
export interface WalLook<T> {
  look(signal: AbortSignal): Promise<T>
  close(): Promise<void>
}

/** What looks at the WAL, each by a collector of its own; null: there is nothing to look at. */
export interface WalSources {
  readonly archive: WalLook<WalArchiveState> | null
  readonly stored: readonly (WalLook<StoredWalState> & { readonly repository: string })[]
  readonly clock: LsnClock | null
  readonly clockSeconds: number
  readonly slots: ((signal: AbortSignal) => Promise<readonly SlotState[]>) | null
  readonly holes: readonly NamedHole[]
  /** See `WalViewOptions`. */
  readonly refused?: (repository: string) => RefusedSegments | null
}

export const walArchiveCollector = 'wal-archive'
export const lsnClockCollector = 'lsn-clock'
export const slotsCollector = 'slots'

/** The name of the collector that looks at the WAL in a repository. */
export function walCollector(repository: string): string {
  return `wal:${repository}`
}

export interface ObservedWal {
  readonly collectors: readonly Collector<unknown>[]
  state(repositories: readonly RepositoryState[], at: Date): WalState
  /** See `Observer.hint`. */
  hint(collector: string): void
  stopHints(): void
  close(): Promise<void>
}

// As for watched directories: files come in bursts, and only those that are new are looked at.
const hintDelayMs = 50
const hintSpacingMs = 200
const clockSpacingMs = 1_000

type Collect = <T>(name: string, look: (signal: AbortSignal) => Promise<T>, intervalSeconds?: number) => Collector<T>

/** The observers of the WAL, and what they see together. */
export function observeWal(sources: WalSources, { collect, clock }: { collect: Collect; clock: Clock }): ObservedWal {
  const { archive, stored, clock: lsnClock, slots, holes, refused } = sources
  const throttles = new Map<string, Throttle>()
  const hinted = <T>(name: string, look: WalLook<T>['look']) => {
    const collector = collect(name, look)
    const action = () => void collector.refresh()
    throttles.set(name, createThrottle({ clock, delayMs: hintDelayMs, spacingMs: hintSpacingMs, action }))
    return collector
  }
  const ofArchive = archive === null ? null : hinted(walArchiveCollector, (signal) => archive.look(signal))
  const ofStored = stored.map((one) => hinted(walCollector(one.repository), (signal) => one.look(signal)))
  const ofClock =
    lsnClock === null
      ? null
      : collect<WalClockState>(lsnClockCollector, (signal) => lsnClock.look(signal), sources.clockSeconds)
  // A finished segment holds the last commit before it, and a quiet server soon writes a record of its own behind it. Whoever
  // looks between the two knows that all is stored; whoever looks later does not before the next segment is.
  const atSegments =
    ofClock && createThrottle({ clock, delayMs: 0, spacingMs: clockSpacingMs, action: () => void ofClock.refresh() })
  const ofSlots = slots === null ? null : collect(slotsCollector, slots)
  const view = createWalView({ holes, clock: lsnClock, hasArchive: archive !== null, ...(refused && { refused }) })
  return {
    collectors: [ofArchive, ...ofStored, ofClock, ofSlots].filter((one) => one !== null),
    state: (repositories, at) =>
      view({
        ...{ at, repositories },
        archive: ofArchive?.value() ?? null,
        stored: ofStored.flatMap((one) => one.value() ?? []),
        // A server that is down stays where it was seen last, also by an earlier process.
        clock: ofClock?.value() ?? lsnClock?.remembered ?? null,
        slots: ofSlots?.value() ?? null,
      }),
    hint: (name) => {
      throttles.get(name)?.request()
      if (name === walArchiveCollector) atSegments?.request()
    },
    stopHints: () => {
      atSegments?.stop()
      for (const throttle of throttles.values()) throttle.stop()
    },
    close: async () => {
      await Promise.all([archive, ...stored, lsnClock].map(async (one) => one?.close()))
    },
  }
}
