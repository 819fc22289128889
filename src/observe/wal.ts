import { WalCoverage, type WalGap, type WalPosition } from '../domain/coverage.ts'
import { type JudgedGap, judgeGaps, type NamedHole, numberHoles } from '../domain/holes.ts'
import { type RecoveryWindow, recoveryWindows } from '../domain/recovery-plan.ts'
import { clockBounds, normalLsn } from '../domain/recovery-point.ts'
import { Timelines } from '../domain/timeline.ts'
import { firstLsn, segmentAt } from '../domain/wal.ts'
import type { RepositoryState } from './catalog.ts'
import type { LsnClock } from './lsn-clock.ts'
import { planBackups } from './recovery.ts'
import type { RefusedSegments } from './shipping-state.ts'
import { findWalRoute, type WalRouteFound, walStarts } from './wal-route.ts'
import type { RepositoryWal, SlotState, StoredWalState, WalArchiveState, WalClockState, WalState } from './wal-state.ts'

export interface WalViewOptions {
  readonly holes: readonly NamedHole[]
  /** Says what WAL covers; null: there is no server to look at. */
  readonly clock: Pick<LsnClock, 'covered'> | null
  /** There is an archive directory: until it was looked at, nobody knows what is on its way. */
  readonly hasArchive: boolean
  /** Segments that the archive has, and a repository will not get; by default all of it is on its way. */
  readonly refused?: (repository: string) => RefusedSegments | null
}

/** What the collectors saw last; null: nothing yet. */
export interface WalInputs {
  readonly at: Date
  readonly archive: WalArchiveState | null
  readonly stored: readonly StoredWalState[]
  readonly clock: WalClockState | null
  readonly slots: readonly SlotState[] | null
  readonly repositories: readonly RepositoryState[]
}

/** What depends on the files and the server's segment alone: it takes one step for each gap, and is kept while these stay. */
interface Findings {
  readonly coverage: WalCoverage
  readonly route: WalRouteFound
  readonly windows: readonly RecoveryWindow[]
  /** Null: not known. */
  readonly lacking: Lacking | null
}

interface Lacking {
  readonly backlog: number
  readonly missing: number
  readonly gaps: readonly JudgedGap[]
  /** Judged at this moment, and the same until a hole is acknowledged no longer. */
  readonly at: number
  readonly until: number
}

/** A repository at one moment. */
interface Place {
  readonly stored: StoredWalState
  readonly repository: Pick<RepositoryState, 'backups' | 'proofs'>
  readonly archive: WalArchiveState | null
  readonly clock: WalClockState
  readonly refused: RefusedSegments | null
  /** The segment that the server writes. */
  readonly current: number
}

const mostGaps = 1000
const nothing: Pick<RepositoryState, 'backups' | 'proofs'> = { backups: [], proofs: new Map() }

/** Makes the state of the WAL again and again; what is the same as last time is not found out anew. */
export function createWalView(options: WalViewOptions): (inputs: WalInputs) => WalState {
  const known = new Map<string, { readonly key: readonly unknown[]; readonly findings: Findings }>()

  function findings(place: Place, now: Date): Findings {
    const { stored, repository, archive, clock, current, refused } = place
    const key = [
      ...[stored.revision, stored.listedAt === null, stored.systems.get(clock.systemIdentifier)?.coverage],
      ...[archive?.revision, archive?.coverage, repository.backups, repository.proofs],
      ...[clock.systemIdentifier, clock.timeline, clock.segmentSize, current, refused?.revision],
    ]
    const last = known.get(stored.repository)
    const isSame =
      last?.key.every((part, index) => part === key[index]) && isStillJudged(last.findings.lacking, now.getTime())
    if (last !== undefined && isSame) return last.findings
    const found = find(place, options, now)
    known.set(stored.repository, { key, findings: found })
    return found
  }

  return ({ at, archive, stored, clock, slots, repositories }) => {
    const states = stored.map((one) => {
      const base = { repository: one.repository, ...inventory(one) }
      if (clock === null || one.listedAt === null) return { ...base, ...unknown }
      const coverage = one.systems.get(clock.systemIdentifier)?.coverage
      // A server whose segments have got another size (pg_resetwal): the numbers mean other places.
      if (coverage !== undefined && coverage.segmentSize !== clock.segmentSize) return { ...base, ...unknown }
      const normal = normalLsn(clock.lsn, clock.segmentSize)
      const current = segmentAt(normal, clock.segmentSize)
      const repository = repositories.find(({ name }) => name === one.repository) ?? nothing
      const refused = options.refused?.(one.repository) ?? null
      const found = findings({ stored: one, repository, archive, clock, current, refused }, at)
      return { ...base, ...describe(found, { clock, normal, now: at, covered: options.clock }) }
    })
    return Object.freeze({ archive, stored, clock, repositories: Object.freeze(states), slots })
  }
}

const unknown = {
  ...{ from: null, hasBackup: false, end: null, coveredUntil: null, recoveryPoint: null, exposureBytes: null },
  ...{ backlogSegments: null, backlogBytes: null, missingSegments: null, gaps: [], windows: [] },
} as const

/** Of all clusters: all of them take up space. */
function inventory({ systems }: StoredWalState): Pick<RepositoryWal, 'segments' | 'bytes'> {
  let [segments, bytes] = [0, 0]
  for (const system of systems.values()) {
    segments += system.segments
    bytes += system.bytes
  }
  return { segments, bytes }
}

function find(place: Place, options: WalViewOptions, now: Date): Findings {
  const { stored, repository, clock } = place
  const archive = archiveOf(place)
  const coverage =
    stored.systems.get(clock.systemIdentifier)?.coverage ??
    new WalCoverage(clock.segmentSize, archive?.timelines ?? new Timelines())
  const route = findWalRoute(coverage, clock.timeline, walStarts(repository, clock.systemIdentifier))
  const isKnown = !options.hasArchive || place.archive !== null
  const backups = planBackups(repository, clock.systemIdentifier)
  return {
    coverage,
    route,
    windows: recoveryWindows({ backups, coverage, timeline: route.target }),
    lacking: isKnown ? lack(place, { coverage, route, archive, holes: options.holes, now }) : null,
  }
}

/** What the archive holds of this server. */
function archiveOf({ archive, clock }: Place): WalCoverage | null {
  const isOfServer = archive?.systemIdentifier === clock.systemIdentifier && archive.segmentSize === clock.segmentSize
  return isOfServer ? archive.coverage : null
}

/**
 * What is not stored of what is needed: segments that the archive has or will get are the backlog. The others are missing:
 * the server, or the archive, is beyond them.
 */
function lack(
  { current, refused }: Place,
  options: Pick<Findings, 'coverage' | 'route'> & {
    readonly archive: WalCoverage | null
    readonly holes: readonly NamedHole[]
    readonly now: Date
  },
): Lacking | null {
  const { coverage, route, archive, now } = options
  const { target } = route
  const { segmentSize } = coverage
  const from = route.needed ?? firstOf(archive, target)
  if (from === null) return null
  const coming = archive === null ? null : without(archive, refused)
  // A file that is refused tells nothing of what comes before it, when the server itself has not got so far.
  const archived = archive?.segments(target).upTo(Math.max(current, coming?.segments(target).last ?? -1)) ?? null
  // Of a server that is down, or was put back, the archive may know more.
  const finished = Math.max(current, (archived ?? -1) + 1)
  const all = coverage.gaps({ from, target, until: firstLsn(finished, segmentSize) })
  let backlog = 0
  for (const { first, last } of all) backlog += last - first + 1
  const nowhere = coverage.gaps({
    ...{ from, target },
    ...(archived === null ? {} : { until: firstLsn(archived + 1, segmentSize) }),
    ...(coming === null ? {} : { pending: coming }),
  })
  const holes = numberHoles(options.holes, segmentSize)
  const gaps: JudgedGap[] = []
  let missing = 0
  for (const gap of judgeGaps(counted(nowhere), holes, now)) {
    if (gap.acknowledged === null) missing += gap.last - gap.first + 1
    if (gaps.length < mostGaps) gaps.push(gap)
  }
  const expiries = holes.map(({ until }) => until.getTime()).filter((until) => until > now.getTime())
  return { backlog, missing, gaps, at: now.getTime(), until: Math.min(...expiries, Number.POSITIVE_INFINITY) }

  function* counted(found: Iterable<WalGap>): Generator<WalGap, void> {
    for (const gap of found) {
      backlog -= gap.last - gap.first + 1
      yield gap
    }
  }
}

/** What of the archive is on its way. */
function without(archive: WalCoverage, refused: RefusedSegments | null): WalCoverage {
  const bad = [...(refused?.segments ?? [])].filter(([, { size }]) => size > 0)
  if (bad.length === 0) return archive
  const rest = new WalCoverage(archive.segmentSize, archive.timelines)
  for (const timeline of archive.present()) {
    const segments = rest.segments(timeline)
    for (const { first, last } of archive.segments(timeline).ranges()) segments.addRange(first, last)
  }
  for (const [timeline, set] of bad) {
    const segments = rest.segments(timeline)
    for (const { first, last } of set.ranges()) for (let one = first; one <= last; one += 1) segments.remove(one)
  }
  return rest
}

/** Nothing is stored, and no backup is there: what the archive has is all still to come. */
function firstOf(archive: WalCoverage | null, target: number): WalPosition | null {
  return archive?.ranges(target).next().value?.from ?? null
}

function isStillJudged(lacking: Lacking | null, now: number): boolean {
  return lacking === null || (lacking.at <= now && now < lacking.until)
}

function describe(
  { coverage, route, lacking, windows }: Findings,
  options: {
    readonly clock: WalClockState
    readonly normal: bigint
    readonly now: Date
    readonly covered: Pick<LsnClock, 'covered'> | null
  },
): Omit<RepositoryWal, 'repository' | 'segments' | 'bytes'> {
  const { clock, normal, now } = options
  const { from, end, backup, isConsistent, target } = route
  const stretches = coverage.timelines.lineage(target)
  const coveredTo = (place: WalPosition | null) =>
    place === null
      ? null
      : (options.covered?.covered(clock.systemIdentifier, clockBounds(stretches, place.lsn), now) ?? null)
  const covered = coveredTo(end)
  // No sample is as old: what had been committed before the backup began is in it, and in the WAL that makes it consistent.
  const started = backup !== null && backup.startedAt <= now ? backup.startedAt : null
  const behind = end === null ? null : normal - end.lsn
  return {
    from,
    hasBackup: backup !== null,
    end,
    coveredUntil: covered?.at ?? null,
    recoveryPoint: isConsistent ? (covered?.at ?? started) : null,
    windows: windows.map(({ end: last, ...one }) => ({ ...one, until: coveredTo(last)?.at ?? null })),
    exposureBytes: behind === null || clock.isSetBack ? null : covered?.isNewest || behind < 0n ? 0 : Number(behind),
    backlogSegments: lacking?.backlog ?? null,
    backlogBytes: lacking === null ? null : lacking.backlog * coverage.segmentSize,
    missingSegments: lacking?.missing ?? null,
    gaps: lacking?.gaps ?? [],
  }
}
