import { archiverHint } from '../domain/archiver.ts'
import type { WalCoverage, WalPosition } from '../domain/coverage.ts'
import type { Failure } from '../domain/errors.ts'
import type { JudgedGap } from '../domain/holes.ts'
import { formatLsn } from '../domain/lsn.ts'
import type { StreamState } from '../domain/stream.ts'
import { segmentName } from '../domain/wal.ts'
import type { ArchiverView } from './archiver.ts'
import type { RepositoryShipping, ShippingState } from './shipping-state.ts'
import type { RepositoryWal, StoredSystem, StoredWalState, WalArchiveState, WalState } from './wal-state.ts'

/*
 * What is known of the WAL, for `GET /api/wal` and `lifeboat wal status`: plain values, no more of them than people read.
 * Times are RFC 3339, places in the WAL as PostgreSQL writes them, segments by their names. Null: not known, or none.
 */

/** Of one timeline, what one place holds. */
export interface TimelineReport {
  readonly timeline: number
  /** Where it comes from; null: it is the first, or its history is not here. */
  readonly parent: { readonly timeline: number; readonly lsn: string } | null
  readonly segments: number
  readonly first: string | null
  readonly last: string | null
  /** Gaps between the first and the last. */
  readonly gaps: number
}

export interface PlaceReport {
  readonly timeline: number
  readonly lsn: string
}

export interface GapReport {
  readonly timeline: number
  readonly first: string
  readonly last: string
  readonly segments: number
  /** Where some of it is: `archive`, or names of repositories. */
  readonly elsewhere: readonly string[]
  readonly acknowledged: { readonly reason: string; readonly until: string } | null
}

/** An interval of moments that can be restored, and what ends it. */
export interface WindowReport {
  readonly from: string
  readonly until: string | null
  readonly backup: string
  /** The first segment that is missing after it; null: it goes on to the newest WAL. */
  readonly hole: string | null
}

export interface ArchiveReport {
  readonly directory: string
  readonly segments: number
  readonly bytes: number
  readonly partials: number
  readonly histories: number
  readonly labels: number
  readonly foreign: number
  readonly newest: { readonly name: string; readonly at: string } | null
  readonly freeBytes: number | null
  readonly capacityBytes: number | null
  readonly timelines: readonly TimelineReport[]
}

export interface StoredReport {
  readonly repository: string
  readonly segments: number
  readonly bytes: number
  /** When everything was listed last. */
  readonly listedAt: string | null
  readonly hasBackup: boolean
  readonly from: PlaceReport | null
  readonly end: PlaceReport | null
  readonly coveredUntil: string | null
  readonly recoveryPoint: string | null
  readonly windows: readonly WindowReport[]
  readonly exposureBytes: number | null
  readonly backlogSegments: number | null
  readonly backlogBytes: number | null
  readonly missingSegments: number | null
  readonly gaps: readonly GapReport[]
  /** Of the server's system identifier. */
  readonly timelines: readonly TimelineReport[]
  /** System identifiers of other clusters that are stored here, before an upgrade for example. */
  readonly others: readonly string[]
  readonly contradictions: number
  /** Null: nothing is shipped, or who looks does not know. */
  readonly shipping: ShippingReport | null
}

export interface WalReport {
  readonly at: string
  readonly systemIdentifier: string | null
  readonly segmentSize: number | null
  readonly server: {
    readonly at: string
    readonly timeline: number
    readonly lsn: string
    readonly inRecovery: boolean
    readonly bytesPerSecond: number | null
  } | null
  /** `hint`: what to do first; null while nothing is wrong. */
  readonly archiver: (ArchiverView & { readonly hint: string | null }) | null
  readonly archive: ArchiveReport | null
  readonly repositories: readonly StoredReport[]
  readonly slots: WalState['slots']
  /** The receiver of WAL; null: there is none, or who looks does not know. */
  readonly stream: StreamReport | null
}

export interface StreamReport extends Omit<StreamState, 'position' | 'shippedTo'> {
  /** Received up to here, and stored up to there. */
  readonly position: string | null
  readonly shippedTo: string | null
}

/** So many timelines of each place are told, the newest. */
const mostTimelines = 100

/** What is told of shipping to one repository. */
export interface ShippingReport {
  /** What it waits for, though nothing has failed. */
  readonly waiting: RepositoryShipping['waiting']
  readonly shippedSegments: number
  readonly shippedBytes: number
  readonly queued: number | null
  readonly inFlight: number
  readonly lastSuccessAt: string | null
  readonly delaySeconds: number | null
  readonly failures: number
  readonly failure: Failure | null
  /** Files of the archive that are kept apart, by reason. */
  readonly quarantined: Readonly<Record<string, number>>
  readonly undecided: number
}

/** What the sidecar does about the WAL; who only looks knows nothing of it. */
export interface WalWork {
  readonly shipping: ShippingState | null
  readonly stream: StreamState | null
}

/** Makes the report. */
export function reportWal(
  wal: WalState | null,
  archiver: ArchiverView | null,
  at: Date,
  work: WalWork = { shipping: null, stream: null },
): WalReport {
  const { archive, clock } = wal ?? { archive: null, clock: null }
  const systemIdentifier = clock?.systemIdentifier ?? archive?.systemIdentifier ?? onlySystem(wal?.stored ?? [])
  return {
    at: at.toISOString(),
    systemIdentifier,
    segmentSize: clock?.segmentSize ?? archive?.segmentSize ?? null,
    server:
      clock === null
        ? null
        : {
            at: clock.at.toISOString(),
            timeline: clock.timeline,
            lsn: formatLsn(clock.lsn),
            inRecovery: clock.inRecovery,
            bytesPerSecond: clock.rate,
          },
    archiver: archiver === null ? null : { ...archiver, hint: archiverHint(archiver.state) },
    archive: archive === null ? null : reportArchive(archive),
    repositories: (wal?.stored ?? []).map((stored) => reportStored(wal, stored, systemIdentifier, work)),
    slots: wal?.slots ?? null,
    stream: work.stream === null ? null : reportStream(work.stream),
  }
}

function reportStream({ position, shippedTo, ...rest }: StreamState): StreamReport {
  const place = (lsn: bigint | null) => (lsn === null ? null : formatLsn(lsn))
  return { ...rest, position: place(position), shippedTo: place(shippedTo) }
}

/** Before the server and the archive were seen: the one cluster of which there is WAL. */
function onlySystem(stored: readonly StoredWalState[]): string | null {
  const all = new Set(stored.flatMap(({ systems }) => [...systems.keys()]))
  const [first] = all
  return all.size === 1 && first !== undefined ? first : null
}

function reportArchive(archive: WalArchiveState): ArchiveReport {
  const { directory, segments, bytes, partials, histories, labels, foreign, newest, capacity, coverage } = archive
  return {
    ...{ directory, segments, bytes, partials, histories, labels, foreign },
    newest: newest === null ? null : { name: newest.name, at: newest.at.toISOString() },
    freeBytes: capacity?.freeBytes ?? null,
    capacityBytes: capacity?.totalBytes ?? null,
    timelines: coverage === null ? [] : reportTimelines(coverage),
  }
}

function reportStored(
  wal: WalState | null,
  stored: StoredWalState,
  systemIdentifier: string | null,
  { shipping }: WalWork,
): StoredReport {
  const shipped = shipping?.repositories.find(({ repository }) => repository === stored.repository)
  const judged = wal?.repositories.find(({ repository }) => repository === stored.repository)
  const system = systemIdentifier === null ? undefined : stored.systems.get(systemIdentifier)
  const all = [...stored.systems.values()]
  const place = (position: WalPosition | null) =>
    position === null ? null : { timeline: position.timeline, lsn: formatLsn(position.lsn) }
  return {
    repository: stored.repository,
    segments: sum(all, ({ segments }) => segments),
    bytes: sum(all, ({ bytes }) => bytes),
    listedAt: stored.listedAt?.toISOString() ?? null,
    hasBackup: judged?.hasBackup ?? false,
    from: place(judged?.from ?? null),
    end: place(judged?.end ?? null),
    coveredUntil: judged?.coveredUntil?.toISOString() ?? null,
    recoveryPoint: judged?.recoveryPoint?.toISOString() ?? null,
    windows:
      judged === undefined || system === undefined ? [] : reportWindows(judged.windows, system.coverage.segmentSize),
    exposureBytes: judged?.exposureBytes ?? null,
    backlogSegments: judged?.backlogSegments ?? null,
    backlogBytes: judged?.backlogBytes ?? null,
    missingSegments: judged?.missingSegments ?? null,
    gaps: (judged?.gaps ?? []).flatMap((gap) => reportGap(gap, wal, stored.repository, system)),
    timelines: system === undefined ? [] : reportTimelines(system.coverage),
    others: [...stored.systems.keys()].filter((one) => one !== systemIdentifier),
    contradictions: sum(all, ({ contradictions }) => contradictions),
    shipping: shipped === undefined ? null : reportShipping(shipped),
  }
}

function reportShipping(state: RepositoryShipping): ShippingReport {
  const { waiting, shippedSegments, shippedBytes, queued, inFlight, delaySeconds, failures, failure, undecided } = state
  return {
    ...{ waiting, shippedSegments, shippedBytes, queued, inFlight, delaySeconds, failures, failure, undecided },
    lastSuccessAt: state.lastSuccessAt?.toISOString() ?? null,
    quarantined: Object.fromEntries(state.quarantined),
  }
}

export function reportWindows(windows: RepositoryWal['windows'], segmentSize: number): readonly WindowReport[] {
  return windows.map(({ from, until, backup, hole }) => ({
    from: from.toISOString(),
    until: until?.toISOString() ?? null,
    backup,
    hole: hole === null ? null : segmentName(hole.timeline, hole.first, segmentSize),
  }))
}

function reportGap(
  { timeline, first, last, acknowledged }: JudgedGap,
  wal: WalState | null,
  repository: string,
  system: StoredSystem | undefined,
): GapReport[] {
  if (system === undefined) return []
  const { segmentSize } = system.coverage
  const has = (coverage: WalCoverage | null | undefined) =>
    coverage?.segmentSize === segmentSize && !coverage.segments(timeline).ranges(first, last).next().done
  const { archive, stored } = wal ?? { archive: null, stored: [] }
  const isSame = archive?.systemIdentifier === system.systemIdentifier
  const others = stored.filter(
    (one) => one.repository !== repository && has(one.systems.get(system.systemIdentifier)?.coverage),
  )
  return [
    {
      timeline,
      first: segmentName(timeline, first, segmentSize),
      last: segmentName(timeline, last, segmentSize),
      segments: last - first + 1,
      elsewhere: [
        ...(isSame && has(archive.coverage) ? ['archive'] : []),
        ...others.map(({ repository: name }) => name),
      ],
      acknowledged:
        acknowledged === null ? null : { reason: acknowledged.reason, until: acknowledged.until.toISOString() },
    },
  ]
}

function reportTimelines(coverage: WalCoverage): readonly TimelineReport[] {
  const { segmentSize, timelines } = coverage
  return coverage
    .present()
    .slice(-mostTimelines)
    .map((timeline) => {
      const held = coverage.segments(timeline)
      const parent = timelines.lineage(timeline).at(-2)
      const name = (segment: number | null) => (segment === null ? null : segmentName(timeline, segment, segmentSize))
      return {
        timeline,
        parent:
          parent === undefined || parent.end === null
            ? null
            : { timeline: parent.timeline, lsn: formatLsn(parent.end) },
        segments: held.size,
        first: name(held.first),
        last: name(held.last),
        gaps: Math.max(held.rangeCount - 1, 0),
      }
    })
}

function sum<Item>(items: readonly Item[], value: (item: Item) => number): number {
  return items.reduce((total, item) => total + value(item), 0)
}
