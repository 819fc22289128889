import type { AddressInfo } from 'node:net'
import type { Logger } from 'pino'
import { shownDrills } from './alert-drill/shown.ts'
import { backupDetails, externalDetails } from './backup-details.ts'
import { createCatchUp } from './catch-up.ts'
import type { Clock } from './clock.ts'
import { createConditionsReport } from './conditions.ts'
import { rpoHint, rpoWarning } from './config/objectives.ts'
import { isWatchOnly, retentionPolicies, type ValidatedConfig } from './config/validated.ts'
import { createCore } from './core.ts'
import { costsOf } from './costs.ts'
import { isExternalId } from './domain/backup.ts'
import { LifeboatError, toFailure } from './domain/errors.ts'
import { isEncrypting, lookAtKeys } from './encryption/age.ts'
import { inspectDump } from './external/inspect.ts'
import type { RenderedMetrics } from './http/ports.ts'
import { createHttpServer } from './http/server.ts'
import { readGrowth } from './jobs/growth-reader.ts'
import { createMetrics, type Metrics } from './metrics/registry.ts'
import { createArchiverLook } from './observe/archiver.ts'
import type { Catalog } from './observe/catalog.ts'
import { createClockAheadReport } from './observe/clock-ahead.ts'
import { wasDoneSince } from './observe/done-since.ts'
import { createExternalHolds } from './observe/external-holds.ts'
import { createExternalProofs } from './observe/external-proofs.ts'
import { createGrowth } from './observe/growth.ts'
import { createObserver, type Observer } from './observe/observer.ts'
import { createRecoveryView } from './observe/recovery-view.ts'
import { createRetentionView, tracesOf } from './observe/retention.ts'
import { createArchiverProbe, createServerProbe } from './observe/server.ts'
import { createServerMemory } from './observe/server-memory.ts'
import { createWalNews } from './observe/wal-news.ts'
import { findInstallations } from './postgres/installations.ts'
import { bucketRequests, makeWatchedBuckets } from './repositories.ts'
import type { ClockGuard } from './runner/clock-guard.ts'
import { schedulesOf } from './schedules.ts'
import type { Version } from './version.ts'
import { walPreviewOf } from './wal-preview.ts'
import { createWalService } from './wal-service.ts'

export interface AppOptions {
  readonly clock: Clock
  readonly log: Logger
  readonly version: Version
}

/** The sidecar. */
export interface App {
  /** Where it listens, e.g. `http://127.0.0.1:10187`; known after start. */
  readonly url: string
  /** Begins to observe, to listen and to keep the schedules. */
  start(): Promise<void>
  /** Ends runs (as `interrupted`), connections and watches; resolves when nothing is left. May be called more than once. */
  stop(): Promise<void>
}

/** The values of the process itself are as old as the last rendering. */
const renderEveryMs = 15_000

/** So long the start waits to learn whose the leases are, at most. */
const leasesMs = 5000

/** A jump of the clock is told by what it showed last, to the minute. */
const noteClockEveryMs = 60_000

/**
 * Puts the sidecar together; nothing runs before `start`.
 *
 * @throws LifeboatError what `createCore` throws; `conflict` from `start` when the address is taken
 */
export async function createApp(config: ValidatedConfig, { clock, log, version }: AppOptions): Promise<App> {
  let watched: () => Catalog['repositories'] = () => []
  const core = await createCore(config, {
    ...{ clock, log, version: version.version, schedules: schedulesOf(config) },
    watched: () => watched(),
  })
  const { runner } = core
  const proofs = createExternalProofs(core.history.external, log)
  const holds = createExternalHolds(core.history.external)
  const inspect = async (path: string, signal: AbortSignal) =>
    // Without PostgreSQL's programs plain dumps can still be told.
    inspectDump(path, { installations: await findInstallations(config.postgres.binDir).catch(() => []), signal })
  const wal = isWatchOnly(config) ? null : createWalService(config, core, { clock, log, observer: () => observer })
  const watchedBuckets = makeWatchedBuckets(config, clock)
  const observer: Observer = createObserver({
    repositories: core.repositories.map(({ observed, path, ...one }) => ({ ...one, ...observed, watchRoot: path })),
    watchedBuckets: watchedBuckets.map((of) => ({ ...of, holds, clock })),
    watches: config.watch.map((place) => ({ place, inspect, store: core.history.external, proofs, holds })),
    server: isWatchOnly(config)
      ? null
      : createServerMemory({
          probe: createServerProbe(config.postgres),
          facts: core.history,
          databases: config.postgres.databases,
          clock,
          log,
        }),
    archiver: isWatchOnly(config)
      ? null
      : createArchiverLook({
          sample: createArchiverProbe(config.postgres),
          missing: wal?.missing ?? null,
          clock,
        }),
    wal: wal?.sources ?? null,
    keys: lookAtKeys(config.encryption),
    databases: config.postgres.databases,
    history: runner,
    clock,
    log,
    ...config.observe,
  })
  watched = () => observer.catalog().repositories
  const policy = { ...config.objectives, ...config.policy }
  const policies = retentionPolicies(config)
  const retention = createRetentionView({ policies, clockDoubt: (traces) => core.guard.doubt(traces) })
  const stopping = new AbortController()
  const growth = createGrowth({
    bounds: config.growth,
    log,
    reader: (name) => readGrowth(core.repositories, name, { encryption: config.encryption, signal: stopping.signal }),
    signal: stopping.signal,
  })
  const recovery = createRecoveryView({ clock: wal?.sources.clock ?? null, runner })
  const buckets = () => bucketRequests(core.repositories, watchedBuckets)
  const drills = config.alertDrill.alertmanagers.length === 0 ? null : core.drills
  const metrics = createMetrics({
    ...{ version: version.version, revision: version.revision, nodeVersion: process.version },
    cluster: config.cluster,
    policy: { ...policy, retention: policies, growth: config.growth },
    tellings: core,
    ...{ shipping: () => wal?.shipping() ?? null, buckets, costs: costsOf(config, { clock, requests: buckets }) },
    ...(wal === null ? {} : { wal: { slotLimitBytes: config.wal.slotLimitBytes, stream: () => wal.stream() } }),
    ...{ retention, growth, recovery: recovery.predictedSeconds },
    alertDrills: drills && shownDrills(drills, log),
  })
  const exposition = createExposition(metrics, observer, log)
  const http = await createHttpServer({
    version: version.version,
    clock,
    log,
    tokens: config.auth.tokens,
    cluster: config.cluster,
    catalog: () => observer.catalog(),
    metrics: () => exposition.current(),
    runner,
    backupDetails: async (id, name, signal) =>
      isExternalId(id)
        ? externalDetails(observer.catalog(), core.history.external, id, name)
        : backupDetails(
            core.repositories.map(({ repository }) => repository).filter((one) => name === null || one.name === name),
            id,
            { clock, signal, patienceMs: 1000 * config.observe.timeoutSeconds },
          ),
    policy,
    retention,
    growth,
    walWork: () => ({ shipping: wal?.shipping() ?? null, stream: wal?.stream() ?? null }),
    planRecoveries: recovery.plan,
    previewWal: walPreviewOf(config, core, { clock, server: () => observer.catalog().server }),
    alertDrill: drills && { from: config.alertDrill.from, hear: (echo) => drills.hear(echo) },
    leases: () => core.leases.states(),
  })
  drills?.onChange(() => exposition.render(observer.catalog()))
  const tellConditions = createConditionsReport({ config, repositories: core.repositories, log })
  let stopped: Promise<void> | undefined
  let url = ''
  const background = (work: Promise<unknown>, what: string) =>
    void work.catch((error: unknown) => log.error(toFailure(error), `${what} failed`))
  const stop = async () => {
    stopping.abort()
    await http.close()
    await wal?.stop()
    await observer.stop()
    await core.close()
    log.info('lifeboat has stopped')
  }
  return {
    get url() {
      return url
    },
    async start() {
      // Before the metrics, which tell what it knows.
      observer.onChange((catalog) => growth.look(catalog))
      observer.onChange((catalog) => exposition.render(catalog))
      observer.onChange(createClockAheadReport(log))
      observer.onChange(createCatchUp({ runner, clock, log, isEncrypting: isEncrypting(config.encryption) }))
      observer.onChange(createWalNews({ log, mustArchive: config.wal.archive !== null && config.wal.stream === null }))
      runner.onChange((run) => {
        observer.historyChanged()
        // What a run changed shows at once, also where no file event tells.
        if (run.finishedAt !== null) background(observer.refresh(), 'the look after a run')
      })
      await listen(http, config.listen)
      url = addressOf(http.server.address() as AddressInfo)
      // Not `refresh`: that would look at everything a second time, since the first look has begun already.
      const firstLook = new Promise<void>((resolve) => {
        observer.onChange(({ complete }) => complete && resolve())
      })
      observer.start()
      void repeat(clock, renderEveryMs, stopping.signal, () => exposition.render(observer.catalog()))
      void repeat(clock, noteClockEveryMs, stopping.signal, () => noteClock(core.guard, observer.catalog(), log))
      const tidy = () => core.tidy().then(() => observer.refresh())
      // A repository that does not answer keeps nothing else from beginning.
      await core.leases.start(leasesMs)
      wal?.start()
      // Neither before it is up: a start that fails, since the address is taken, must not use up what was missed; nor before it
      // is known what is there.
      const catchUp = () => runner.catchUp((job, slot) => wasDoneSince(observer.catalog(), job, slot))
      core.leases.onTaken((name) => {
        background(tidy().then(catchUp), 'the takeover')
        background(tellConditions(name), 'a look at the bucket')
      })
      for (const { repository } of core.repositories)
        if (core.leases.isHeld(repository.name)) background(tellConditions(repository.name), 'a look at the bucket')
      background(firstLook.then(catchUp).then(tidy), 'cleaning up')
      const short = isWatchOnly(config) ? null : rpoWarning(config)
      if (isWatchOnly(config)) log.info('no repository is configured: lifeboat only watches, and takes no backups')
      if (short !== null) log.warn({ hint: rpoHint }, short)
      log.info({ url, cluster: config.cluster }, 'lifeboat is up')
    },
    stop: () => (stopped ??= stop()),
  }
}

async function listen(
  http: Awaited<ReturnType<typeof createHttpServer>>,
  { host, port }: ValidatedConfig['listen'],
): Promise<void> {
  try {
    await http.listen({ host, port }) // fastify writes into what it is given
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException
    const taken = code === 'EADDRINUSE'
    throw new LifeboatError(taken ? 'conflict' : 'config-invalid', `cannot listen on ${host}:${port}: ${message}`, {
      hint: taken
        ? 'another process has the address: stop it, or set listen'
        : 'set listen to an address of this machine',
      cause,
    })
  }
}

/** Holds the rendered metrics of the newest catalog. One rendering at a time; of those that wait only the newest counts. */
function createExposition(metrics: Metrics, observer: Pick<Observer, 'catalog'>, log: Logger) {
  let current: RenderedMetrics | null = null
  let rendering = false
  let waiting = false
  const render = async (catalog: Catalog): Promise<void> => {
    if (rendering) {
      waiting = true
      return
    }
    rendering = true
    try {
      current = await metrics.render(catalog)
    } catch (error) {
      log.error(toFailure(error), 'the metrics could not be rendered: the last ones stay')
    }
    rendering = false
    if (!waiting) return
    waiting = false
    await render(observer.catalog())
  }
  return { current: () => current, render: (catalog: Catalog) => void render(catalog) }
}

async function repeat(clock: Clock, everyMs: number, signal: AbortSignal, action: () => void): Promise<void> {
  while (!signal.aborted) {
    await clock.sleep(everyMs, signal).catch(() => {})
    if (!signal.aborted) action()
  }
}

/** Not before everything was looked at once: the backups tell whether the very first moment can be believed. */
function noteClock(guard: ClockGuard, { complete, repositories }: Catalog, log: Logger): void {
  if (!complete) return
  try {
    guard.look(() => tracesOf(repositories))
  } catch (error) {
    log.error(toFailure(error), 'the clock could not be noted')
  }
}

function addressOf({ address, family, port }: AddressInfo): string {
  return `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`
}
