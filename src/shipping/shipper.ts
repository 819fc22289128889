import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import { parseWalName } from '../domain/wal.ts'
import type { RefusedSegments, ShippingState } from '../observe/shipping-state.ts'
import type { StoredWalState, WalArchiveState } from '../observe/wal-state.ts'
import type { Repository } from '../repository/repository.ts'
import type { WalCipher } from '../repository/wal-cipher.ts'
import { type Partial, shipPartial } from './partial.ts'
import { Pruner } from './prune.ts'
import { WalReaders } from './readers.ts'
import { RepositoryShipper } from './repository-shipper.ts'
import { Seal } from './seal.ts'
import { Source } from './source.ts'
import { judgeSystem } from './trust.ts'

export interface ShipperOptions {
  /** What the archive holds, by the last look; null: not looked at yet. Asked each second, and at each hint. */
  readonly archive: () => WalArchiveState | null
  /** What a repository holds, by the last look of its index; null: not looked at yet, and nothing is shipped there. */
  readonly stored: (repository: string) => StoredWalState | null
  readonly repositories: readonly Repository[]
  /** Whether the lease on a repository is held. Whoever does not hold it ships nothing there; `put` looks once more. */
  readonly isOurs: (repository: string) => boolean | Promise<boolean>
  /** What this server is known to have or to have had, of the server itself and of backups; empty: not known yet. See `judgeSystem`. */
  readonly systemIdentifiers: () => ReadonlySet<string>
  /** Segments before this one were expired from a repository, and are not shipped again; by default none. */
  readonly shipFrom?: (repository: string, systemIdentifier: string, timeline: number) => number
  /** Called when a segment was put: the index may look at once. The delay is from its writing to the archive. */
  readonly onStored?: (repository: string, name: string, delayMs: number) => void
  /** Segments that are put at once to each repository; and threads that read and compress for all of them. */
  readonly parallel: number
  /** Encrypts what is stored of segments and partials; null or left out: they are stored plain. */
  readonly cipher?: WalCipher | null
  /** Of zstd. */
  readonly level: number
  /** How long a segment stays in the archive; null: for ever. */
  readonly keepInArchiveMs: number | null
  /** Why the clock cannot be trusted with what is old; null: it can. */
  readonly clockDoubt?: () => string | null
  readonly clock: Clock
  readonly log: Logger
}

/** Ships the WAL archive to the repositories, for as long as it runs. Not a run of the runner: a run a segment would fill the history. */
export interface Shipper {
  start(): void
  /** Ends what is under way, and resolves when it has ended, or hangs. Nothing half-done is visible. Safe to call again. */
  stop(): Promise<void>
  state(): ShippingState
  /** The archive has changed; names of files that came or were written to, where they are known. */
  hint(names?: readonly string[]): void
  /** What of the archive a repository does not get for what it is. */
  refused(repository: string): RefusedSegments | null
  /**
   * Whether a segment is in some repository: one that is not in the archive any more was pruned then, and the server's
   * archiver does not lie about it. Segments alone; false for all other names.
   */
  isStored(name: string): boolean
  /**
   * Stores what streaming has of a segment, and removes what it supersedes; `whole`: the segment is stored whole already.
   * Fails as `put` does, and with `usage-invalid` when the place is not within the segment.
   */
  shipPartial(repository: Repository, partial: Partial): Promise<'stored' | 'there' | 'whole'>
}

/** How long a stop waits for what does not end. */
const stopMs = 10_000

/** Each compresses some 40 segments of 16 MB a second, and takes 30 MB: more would gain nothing that a disk keeps up with. */
const mostThreads = 2

export function createShipper(options: ShipperOptions): Shipper {
  const { repositories, archive, clock, log, level, parallel } = options
  const stopping = new AbortController()
  const { signal } = stopping
  const readers = new WalReaders({ clock, threads: Math.min(parallel, mostThreads) })
  const seal = new Seal(options.cipher ?? null)
  const source = new Source({ readers, seal, level, repositories: repositories.length, signal })
  const allStored = () => repositories.map(({ name }) => options.stored(name))
  const judge = (system: string) => judgeSystem(system, options.systemIdentifiers(), allStored())
  const places = repositories.map((repository) => {
    const { name } = repository
    const shipper = new RepositoryShipper({
      ...{ repository, archive, judge, source, parallel, clock, log },
      stored: () => options.stored(name),
      isOurs: () => options.isOurs(name),
      shipFrom: (system, timeline) => options.shipFrom?.(name, system, timeline) ?? 0,
      onStored: (file, delayMs) => options.onStored?.(name, file, delayMs),
    })
    return { repository, shipper }
  })
  const pruner =
    options.keepInArchiveMs === null
      ? null
      : new Pruner({
          ...{ keepMs: options.keepInArchiveMs, archive, places, source, clock, log },
          isOurs: options.isOurs,
          clockDoubt: options.clockDoubt ?? (() => null),
        })
  let running: Promise<unknown> = Promise.resolve()
  let isStarted = false
  let stopped: Promise<void> | undefined

  async function stop(): Promise<void> {
    stopping.abort()
    const over = new AbortController()
    await Promise.race([running, clock.sleep(stopMs, over.signal).catch(() => {})])
    over.abort()
    await readers.close()
  }

  return {
    start() {
      if (isStarted || signal.aborted) return
      isStarted = true
      running = Promise.all([...places.map(({ shipper }) => shipper.run(signal)), pruner?.run(signal)])
    },
    stop() {
      stopped ??= stop()
      return stopped
    },
    state: () => ({ repositories: places.map(({ shipper }) => shipper.state()), pruning: pruner?.state() ?? null }),
    hint(names = []) {
      for (const { shipper } of places) shipper.hint(names)
    },
    refused: (name) => places.find(({ repository }) => repository.name === name)?.shipper.bad.refused ?? null,
    isStored(name) {
      const state = archive()
      const size = state?.segmentSize ?? null
      const file = size === null ? null : parseWalName(name, size)
      return (
        file?.kind === 'segment' &&
        places.some(({ shipper }) => shipper.holds(name, file, state?.systemIdentifier ?? null))
      )
    },
    shipPartial: (repository, partial) => shipPartial(repository, partial, { readers, seal, level, signal }),
  }
}
