import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import { LifeboatError, toFailure } from '../domain/errors.ts'
import type { BackupFailure, JobSummary } from '../runner/job.ts'
import type { Capacity, FileLook } from '../storage/storage.ts'
import type { ArchiverView } from './archiver.ts'
import type { Catalog, RepositoryPosture, RepositoryState, ServerState } from './catalog.ts'
import { type Collector, createCollector } from './collector.ts'
import type { WatchState } from './external-catalog.ts'
import { repositoryCollector, watchCollector } from './questions.ts'
import { createRepositoryLook, type ObservableRepository } from './repository.ts'
import { inferServer } from './server-memory.ts'
import type { RememberedObjects } from './stored-artifacts.ts'
import { createThrottle } from './throttle.ts'
import { observeWal, type WalSources } from './wal-collectors.ts'
import { createRepositoryWatch, type RepositoryWatch } from './watch.ts'
import { WatchedBucket, type WatchedBucketOptions } from './watched-bucket.ts'
import { WatchedDirectory, type WatchedDirectoryOptions } from './watched-directory.ts'

export interface ObservedRepository {
  readonly repository: ObservableRepository
  /** Directory of a local storage, to be watched for changes; null where there is none to watch. */
  readonly watchRoot: string | null
  readonly capacity: (() => Promise<Capacity>) | null
  /** See `RepositoryLookOptions`. */
  readonly objects?: RememberedObjects | null
  /** See `RepositoryLookOptions`. */
  readonly files?: FileLook | null
  /** Looks at how its bucket is set up; null for a directory. */
  readonly posture?: ((signal: AbortSignal) => Promise<RepositoryPosture['findings']>) | null
}

export interface ObserverOptions {
  readonly repositories: readonly ObservedRepository[]
  /** What looks at each watched directory. */
  readonly watches: readonly Omit<WatchedDirectoryOptions, 'clock' | 'log' | 'onHint'>[]
  /** What looks at each watched bucket. Default: there are none. */
  readonly watchedBuckets?: readonly WatchedBucketOptions[]
  /** Null: there is no server to look at. */
  readonly server: null | {
    look(signal: AbortSignal): Promise<ServerState>
    /** What is known of the server before the first look that works. */
    readonly remembered: ServerState | null
  }
  /** Looks at the server's archiver; null: there is no server to look at. */
  readonly archiver: ((signal: AbortSignal) => Promise<ArchiverView>) | null
  /** Fails when a key of the encryption cannot be used any more. Default: there are none. */
  readonly keys?: ((signal: AbortSignal) => Promise<unknown>) | null
  /** What looks at the WAL; null: nobody wants to know. */
  readonly wal: WalSources | null
  /** Databases that the user wants backed up; null: all that the server has. */
  readonly databases: readonly string[] | null
  readonly history: { jobs(): readonly JobSummary[]; backupFailures(): readonly BackupFailure[] }
  readonly clock: Clock
  readonly log: Logger
  readonly intervalSeconds: number
  readonly timeoutSeconds: number
}

/** Keeps the catalog: looks at the server, the repositories and the history, each by a collector of its own. */
export interface Observer {
  start(): void
  /** Ends looks and watches. The last catalog stays. */
  stop(): Promise<void>
  /** The newest catalog; before the first look everything in it is unknown. */
  catalog(): Catalog
  /**
   * Looks now: everywhere but at postures, or with one collector (`server`, `repository:<name>`, `history`, …). When it resolves the
   * catalog is new and the listeners know it. A look that fails is no failure here; an unknown collector is `not-found`.
   */
  refresh(collector?: string): Promise<void>
  /** Says that a collector of the WAL (`wal-archive`, `wal:<repository>`) has something to see: it looks soon. Others do not listen. */
  hint(collector: string): void
  /** Says that a run began, moved on or ended. */
  historyChanged(): void
  /** Calls the listener with the catalog after changes, at most five times a second. Gives back what ends it. */
  onChange(listener: (catalog: Catalog) => void): () => void
}

interface HistoryState {
  readonly jobs: readonly JobSummary[]
  readonly backupFailures: readonly BackupFailure[]
}

// Settings change seldom, and each look costs eight requests.
const seldom = { intervalSeconds: 6 * 3600, retrySeconds: 15 * 60, timeoutSeconds: 60 }

const spacingMs = 200
// Events come in bursts (a folder, its files, a rename); a look costs a listing, so they wait for each other longer.
const hintDelayMs = 50
const hintSpacingMs = 1_000
// Only the names that changed are looked at.
const watchSpacingMs = 200

// On a local disk enough for the files of ten thousand backups; on a slow one of which each costs a trip it takes some looks.
const artifactsBudgetMs = 1_000

export function createObserver(options: ObserverOptions): Observer {
  const { clock, log } = options
  const listeners = new Set<(catalog: Catalog) => void>()
  const watches: RepositoryWatch[] = []
  const notifier = createThrottle({ clock, delayMs: 0, spacingMs, action: notify })
  const throttles = [notifier]

  function collect<T>(
    name: string,
    look: (signal: AbortSignal) => Promise<T>,
    intervalSeconds = options.intervalSeconds,
  ): Collector<T> {
    const { timeoutSeconds } = options
    return createCollector({ name, look, clock, log, intervalSeconds, timeoutSeconds, onChange: changed })
  }

  const { server: source } = options
  const server = source === null ? null : collect<ServerState>('server', (signal) => source.look(signal))
  const archiver = options.archiver === null ? null : collect<ArchiverView>('archiver', options.archiver)
  const history = collect<HistoryState>('history', async () => ({
    jobs: Object.freeze([...options.history.jobs()]),
    backupFailures: Object.freeze([...options.history.backupFailures()]),
  }))
  const repositories = options.repositories.map(observeRepository)
  const postures = options.repositories.flatMap(({ repository: { name: repository }, posture: look }) => {
    if (!look) return []
    const find = async (signal: AbortSignal) => Object.freeze({ repository, findings: await look(signal) })
    const name = `posture:${repository}`
    return [createCollector<RepositoryPosture>({ name, look: find, clock, log, ...seldom, onChange: changed })]
  })
  const watched = options.watches.map(observeDirectory)
  const inWatches = [
    ...watched.map(({ collector }) => collector),
    ...(options.watchedBuckets ?? []).map((of) => {
      const bucket = new WatchedBucket(of)
      return collect<WatchState>(watchCollector(of.place.name), (signal) => bucket.look(signal))
    }),
  ]
  const wal = options.wal === null ? null : observeWal(options.wal, { collect, clock })
  const collectors: readonly Collector<unknown>[] = [
    ...(server === null ? [] : [server]),
    ...(archiver === null ? [] : [archiver]),
    ...repositories,
    ...inWatches,
    ...(wal?.collectors ?? []),
    ...(options.keys ? [collect('encryption', options.keys)] : []),
    history,
  ]
  const historyThrottle = createThrottle({
    clock,
    delayMs: 0,
    spacingMs,
    action: () => void history.refresh(),
  })
  throttles.push(historyThrottle)
  const infer = createInference(options.databases)
  let catalog = assemble()

  function observeRepository({ watchRoot, ...observed }: ObservedRepository): Collector<RepositoryState> {
    const { repository } = observed
    const look = createRepositoryLook({ ...observed, pace: { clock, budgetMs: artifactsBudgetMs }, log })
    const name = repositoryCollector(repository.name)
    if (watchRoot === null) return collect(name, look)

    const hints = createThrottle({
      clock,
      delayMs: hintDelayMs,
      spacingMs: hintSpacingMs,
      action: () => void collector.refresh(),
    })
    const { cluster } = repository
    const watch = createRepositoryWatch({ root: watchRoot, cluster, log, onHint: () => hints.request() })
    throttles.push(hints)
    watches.push(watch)
    const collector = collect(name, async (signal) => {
      await watch.renew()
      const state = await look(signal)
      watch.await(state.unusable.filter((backup) => backup.state !== 'invalid').map((backup) => backup.id))
      return state
    })
    return collector
  }

  function observeDirectory(of: ObserverOptions['watches'][number]) {
    const hints = createThrottle({
      clock,
      delayMs: hintDelayMs,
      spacingMs: watchSpacingMs,
      action: () => void collector.refresh(),
    })
    throttles.push(hints)
    const directory = new WatchedDirectory({ ...of, clock, log, onHint: () => hints.request() })
    const collector = collect<WatchState>(watchCollector(of.place.name), (signal) => directory.look(signal))
    return { collector, directory }
  }

  function assemble(): Catalog {
    const states = collectors.map((collector) => collector.state())
    const rare = postures.map((collector) => collector.state())
    const known = history.value()
    const seen = Object.freeze(repositories.flatMap((repository) => repository.value() ?? []))
    const at = clock.now()
    return Object.freeze({
      at,
      // While its first look is under way, nobody needs to guess yet.
      server: server?.value() ?? source?.remembered ?? (server?.state().success === false ? infer(seen, at) : null),
      archiver: archiver?.value() ?? null,
      repositories: seen,
      postures: Object.freeze(postures.flatMap((one) => one.value() ?? [])),
      wal: wal?.state(seen, at) ?? null,
      watches: Object.freeze(inWatches.flatMap((collector) => collector.value() ?? [])),
      collectors: Object.freeze([...states, ...rare]),
      jobs: known?.jobs ?? [],
      backupFailures: known?.backupFailures ?? [],
      complete: states.every((state) => state.success !== null),
    })
  }

  function changed(): void {
    catalog = assemble()
    notifier.request()
  }

  function notify(): void {
    for (const listener of listeners) {
      try {
        listener(catalog)
      } catch (error) {
        log.error({ failure: toFailure(error) }, 'a listener to the catalog failed')
      }
    }
  }

  return {
    start() {
      for (const collector of [...collectors, ...postures]) collector.start()
    },
    async stop() {
      for (const throttle of throttles) throttle.stop()
      wal?.stopHints()
      await Promise.all([...collectors, ...postures].map((collector) => collector.stop()))
      await Promise.all([...watches, ...watched.map(({ directory }) => directory)].map((watch) => watch.close()))
      await wal?.close()
    },
    catalog: () => catalog,
    async refresh(name) {
      const all = [...collectors, ...postures]
      const chosen = name === undefined ? collectors : all.filter((collector) => collector.name === name)
      if (chosen.length === 0) {
        throw new LifeboatError('not-found', `there is no collector ${JSON.stringify(name)}`, {
          hint: `Use one of ${all.map((collector) => collector.name).join(', ')}.`,
        })
      }
      await Promise.all(chosen.map((collector) => collector.refresh()))
      notifier.flush()
    },
    hint: (name) => wal?.hint(name),
    historyChanged: () => historyThrottle.request(),
    onChange(listener) {
      listeners.add(listener)
      return () => {
        listeners.delete(listener)
      }
    },
  }
}

/** Infers anew only when a repository has changed: it goes through every backup, and catalogs are made far more often. */
function createInference(databases: readonly string[] | null) {
  let last: { readonly repositories: readonly RepositoryState[]; readonly server: ServerState | null } | null = null
  return (repositories: readonly RepositoryState[], now: Date): ServerState | null => {
    const isSame = (state: RepositoryState, index: number) => state.backups === last?.repositories[index]?.backups
    if (last === null || last.repositories.length !== repositories.length || !repositories.every(isSame)) {
      last = { repositories, server: inferServer(repositories, databases, now) }
    }
    return last.server
  }
}
