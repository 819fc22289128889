import { join } from 'node:path'
import type { Logger } from 'pino'
import type { Clock } from './clock.ts'
import type { ValidatedConfig } from './config/validated.ts'
import type { Core } from './core.ts'
import { toFailure } from './domain/errors.ts'
import type { StreamState } from './domain/stream.ts'
import { firstLsn, parseWalName } from './domain/wal.ts'
import { Cipher } from './encryption/cipher.ts'
import { type ArchiverLookOptions, missingFrom } from './observe/archiver.ts'
import type { Catalog } from './observe/catalog.ts'
import { createLsnClock } from './observe/lsn-clock.ts'
import { tracesOf } from './observe/retention.ts'
import type { ShippingState } from './observe/shipping-state.ts'
import { createSlotsLook } from './observe/slots.ts'
import { StoredWalIndex } from './observe/stored-wal.ts'
import { WalArchive } from './observe/wal-archive.ts'
import { type WalSources, walArchiveCollector, walCollector } from './observe/wal-collectors.ts'
import type { StoredWalState, WalArchiveState, WalState } from './observe/wal-state.ts'
import { createLsnClockProbe } from './postgres/lsn-clock.ts'
import { type ExpiredWal, lastExpiredWal } from './runner/wal-expired.ts'
import { createShipper, type Shipper } from './shipping/shipper.ts'
import { createStreamer, type Streamer } from './streaming/streamer.ts'

/** What the WAL needs of the observer, which is made from its sources. */
interface Observing {
  catalog(): Catalog
  hint(collector: string): void
  onChange(listener: (catalog: Catalog) => void): () => void
}

/** All that goes on about the WAL while the sidecar runs. */
export interface WalService {
  readonly sources: WalSources
  /** Files that the server takes for archived, and that are neither in the archive nor stored; null: nobody can tell. */
  readonly missing: ArchiverLookOptions['missing']
  /** Null: nothing is shipped. */
  shipping(): ShippingState | null
  /** Null: WAL is not received by streaming. */
  stream(): StreamState | null
  /** Begins to ship, and to receive. */
  start(): void
  /** Resolves when nothing goes on any more; the sources are the observer's to close. */
  stop(): Promise<void>
}

export interface WalServiceOptions {
  readonly clock: Clock
  readonly log: Logger
  /** Called when it is needed, not before the observer is there. */
  readonly observer: () => Observing
}

/** Puts together what watches, ships and receives the WAL. Nothing runs before it is started, or looked through. */
export function createWalService(config: ValidatedConfig, core: Core, options: WalServiceOptions): WalService {
  const { postgres, wal } = config
  const { clock, log, observer } = options
  const { history } = core
  const known = () => observer().catalog().wal
  const segmentSize = (system: string) => {
    const { archive, clock: server } = known() ?? { archive: null, clock: null }
    if (server?.systemIdentifier === system) return server.segmentSize
    return archive?.systemIdentifier === system ? archive.segmentSize : null
  }
  const onHint = () => observer().hint(walArchiveCollector)
  const stored = core.repositories.map(({ repository, observed }) => {
    const index = new StoredWalIndex({
      ...{ repository: observed.repository, records: history.wal.index, segmentSize, clock, log },
      ...{ isCostly: observed.objects !== null, confirm: (options) => repository.checkPresence(options) },
    })
    return {
      repository: repository.name,
      look: (signal: AbortSignal) => index.look(signal),
      close: () => index.close(),
    }
  })
  const shipper = wal.archive === null ? null : shipperOf(config, core, options)
  const onHeard = (names: readonly string[]) => shipper?.hint(names)
  const archive = wal.archive === null ? null : new WalArchive({ directory: wal.archive, clock, log, onHint, onHeard })
  const streamer = streamerOf(config, core, shipper, options)
  const inArchive = missingFrom(wal.archive)
  return {
    sources: {
      archive: archive && { look: (signal) => archive.look(signal), close: async () => archive.close() },
      stored,
      clock: createLsnClock({
        probe: createLsnClockProbe(postgres),
        store: history.wal.lsnClock,
        storedEnd: (system, timeline) => storedEnd(known()?.stored ?? [], system, timeline),
        clock,
        log,
      }),
      clockSeconds: wal.clockSeconds,
      slots: createSlotsLook({
        source: postgres,
        maintenanceDatabase: postgres.maintenanceDatabase,
        limitBytes: wal.slotLimitBytes,
      }),
      holes: wal.holes,
      refused: (repository) => shipper?.refused(repository) ?? null,
    },
    missing:
      inArchive &&
      (async (names, signal) => (await inArchive(names, signal)).filter((name) => !(shipper?.isStored(name) ?? false))),
    shipping: () => shipper?.state() ?? null,
    stream: () => streamer?.state() ?? null,
    start() {
      if (shipper === null) return
      let revision: number | null = null
      observer().onChange(({ wal: now }) => {
        const found = now?.archive?.revision ?? null
        if (found !== revision) shipper.hint()
        revision = found
      })
      shipper.start()
      streamer?.start()
    },
    async stop() {
      await streamer?.stop()
      await shipper?.stop()
    },
  }
}

function shipperOf(config: ValidatedConfig, core: Core, { clock, log, observer }: WalServiceOptions): Shipper {
  const { wal } = config
  const catalog = () => observer().catalog()
  return createShipper({
    archive: () => ofServer(catalog().wal),
    stored: (name) => catalog().wal?.stored.find(({ repository }) => repository === name) ?? null,
    repositories: core.repositories.map(({ repository }) => repository),
    // A repository that is not there yet has no lease: it is made, and its lease taken, by the first segment.
    isOurs: (name) => core.leases.standby(name) === null,
    systemIdentifiers: () => identifiersOf(catalog()),
    shipFrom: (repository, systemIdentifier, timeline) => {
      const size = catalog().wal?.archive?.segmentSize ?? null
      return expiredBefore(core.history, { repository, systemIdentifier, timeline }, size, log)
    },
    onStored: (repository) => observer().hint(walCollector(repository)),
    ...wal.ship,
    cipher: new Cipher(config.encryption),
    keepInArchiveMs: wal.keepInArchiveMs,
    clockDoubt: () => core.guard.doubt(() => tracesOf(catalog().repositories))?.message ?? null,
    clock,
    log,
  })
}

/** The first segment that has not expired. */
export function expiredBefore(
  history: Core['history'],
  of: ExpiredWal,
  segmentSize: number | null,
  log: Logger,
): number {
  try {
    const last = lastExpiredWal(history, of)
    const file = last === null || segmentSize === null ? null : parseWalName(last, segmentSize)
    return file?.kind === 'segment' ? file.segment + 1 : 0
  } catch (error) {
    // What has expired is shipped once more then: shipping must not wait for the state file.
    log.debug({ ...of, failure: toFailure(error) }, 'what has expired cannot be read')
    return 0
  }
}

/**
 * The archive, as that of the server that is there: by its newest segment it may be that of another one, which has left
 * segments of higher numbers behind. What is not of the server is seen file by file.
 */
function ofServer(wal: WalState | null): WalArchiveState | null {
  const { archive, clock } = wal ?? { archive: null, clock: null }
  return archive && clock ? { ...archive, systemIdentifier: clock.systemIdentifier } : archive
}

/** Where the last whole segment ends that any repository has of a timeline; undefined: none was looked at yet. */
function storedEnd(
  stored: readonly StoredWalState[],
  systemIdentifier: string,
  timeline: number,
): bigint | null | undefined {
  if (stored.length === 0) return
  const ends = stored.flatMap(({ systems }) => {
    const coverage = systems.get(systemIdentifier)?.coverage
    const last = coverage?.segments(timeline).last ?? null
    return coverage === undefined || last === null ? [] : [firstLsn(last + 1, coverage.segmentSize)]
  })
  return ends.reduce<bigint | null>((end, one) => (end === null || one > end ? one : end), null)
}

/** What this server is known to have, or to have had. */
function identifiersOf({ server, wal, repositories }: Catalog): ReadonlySet<string> {
  const ofBackups = repositories.flatMap(({ backups }) => backups.map(({ systemIdentifier }) => systemIdentifier))
  const all = [server?.systemIdentifier, wal?.clock?.systemIdentifier, ...ofBackups]
  return new Set(all.filter((one) => typeof one === 'string'))
}

function streamerOf(
  config: ValidatedConfig,
  { repositories, leases }: Core,
  shipper: Shipper | null,
  { clock, log }: WalServiceOptions,
): Streamer | null {
  const { postgres, wal, stateDir } = config
  const [first] = repositories
  if (wal.stream === null || wal.archive === null || shipper === null || first === undefined) return null
  return createStreamer({
    source: postgres,
    maintenanceDatabase: postgres.maintenanceDatabase,
    binDir: postgres.binDir,
    archive: wal.archive,
    ...wal.stream,
    // Not in the work folder, which is cleared at each start.
    workFolder: join(stateDir, 'stream'),
    isOurs: () => leases.standby(null) === null,
    shipPartial: async (partial) => {
      const work = repositories.map(({ repository }) => shipper.shipPartial(repository, partial))
      const failed = (await Promise.allSettled(work)).find((one) => one.status === 'rejected')
      if (failed !== undefined) throw failed.reason
    },
    clock,
    log,
  })
}
