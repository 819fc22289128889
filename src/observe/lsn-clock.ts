import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import type { WalPosition } from '../domain/coverage.ts'
import { toFailure } from '../domain/errors.ts'
import { formatLsn } from '../domain/lsn.ts'
import { type ClockBound, coveredMoment, isVoid, normalLsn, noteSample } from '../domain/recovery-point.ts'
import type { LsnClockProbe, LsnSample } from '../postgres/lsn-clock.ts'
import type { FoundRun, KeptRun } from '../runner/lsn-clock-rows.ts'
import { WalRate } from './wal-rate.ts'
import type { WalClockState } from './wal-state.ts'

/** Where the clock is kept over restarts: see LsnClockRows. */
export interface LsnClockStore {
  newest(): (KeptRun & { readonly seq: number }) | null
  save(runs: readonly KeptRun[], seq: number | null, thinAt: number | null): number
  newestCovered(systemIdentifier: string, bounds: readonly ClockBound[]): FoundRun | null
  leastAfter(systemIdentifier: string, seq: number): number | null
  /** The first place of a timeline that stands for a moment not before this one; null: none does. */
  firstReaching(systemIdentifier: string, timeline: number, at: number): bigint | null
}

export interface LsnClockOptions {
  readonly probe: LsnClockProbe
  readonly store: LsnClockStore
  /**
   * Where the whole segments end that are stored anywhere of a timeline; null: nowhere are any; undefined: nobody has looked
   * yet, and nothing is noted. By default there are none.
   */
  readonly storedEnd?: (systemIdentifier: string, timeline: number) => bigint | null | undefined
  readonly clock: Clock
  readonly log: Logger
}

/** What WAL that counts by some bounds covers. */
export interface Covered {
  /** Everything that was committed before it. */
  readonly at: Date
  /** The newest sample is covered. */
  readonly isNewest: boolean
}

/** Notes again and again how far the server is, and tells up to which moment WAL brings everything back. */
export interface LsnClock {
  look(signal: AbortSignal): Promise<WalClockState>
  /** As the newest sample of an earlier process has it; null when none was kept. */
  readonly remembered: WalClockState | null
  /** Null: no sample is covered. Never fails: what cannot be read is told in the log. */
  covered(systemIdentifier: string, bounds: readonly ClockBound[], now: Date): Covered | null
  /**
   * A place before which everything was written that was committed before the moment, the first that is known on the way;
   * null: none is. Never fails.
   */
  reached(systemIdentifier: string, bounds: readonly ClockBound[], at: Date): WalPosition | null
  /** Keeps what was put off, and ends the session. */
  close(): Promise<void>
}

/** A run that only gets longer is written so often: a restart loses at most that. */
const extendMs = 10_000
const thinMs = 60_000
/** So many runs are in memory at most while they cannot be written: that is hours of a busy server. */
const mostUnsaved = 2_000

export function createLsnClock({ probe, store, storedEnd, clock, log }: LsnClockOptions): LsnClock {
  /** Runs that are newer than what is kept, the oldest first. */
  let tail: KeptRun[] = []
  /** The first of them has this row already, and has grown since; null: it has none. */
  let tailSeq: number | null = null
  let newest: KeptRun | null = null
  /** The row of the newest one while the tail is empty. */
  let newestSeq: number | null = null
  let [savedAt, thinnedAt] = [Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY]
  const rate = new WalRate()
  let toldSetBack = false
  const writing = createAttempt(log, 'the clock of the WAL cannot be kept: after a restart it would be older')
  const reading = createAttempt(log, 'the clock of the WAL cannot be read: no recovery point is known')

  const kept = reading(() => store.newest(), null)
  if (kept !== null) {
    newest = kept
    newestSeq = kept.seq
  }

  function note(run: KeptRun, isNew: boolean): void {
    if (isNew) {
      tail = tail.filter((other, index) => (index === 0 && tailSeq !== null) || other.wentBack || !isVoid(other, run))
    } else if (tail.length === 0) {
      tailSeq = newestSeq
    } else {
      tail.pop()
    }
    tail.push(run)
    // Lost with a restart, it would leave a moment that is too late.
    const isSetBack = newest !== null && run.at < newest.at
    newest = run
    while (tail.length > mostUnsaved) foldOldest()
    if (isNew || isSetBack || clock.monotonic() - savedAt >= extendMs) save()
  }

  /** The first one's own moment is lost, what it says of the clock is not: the answer may be older, never newer. */
  function foldOldest(): void {
    const [first, second] = tail.splice(0, 2)
    if (first === undefined || second === undefined) return
    const leastAt = Math.min(first.leastAt, second.leastAt)
    tail.unshift({ ...second, leastAt, wentBack: first.wentBack || second.wentBack })
    tailSeq = null
  }

  function save(): void {
    if (tail.length === 0) return
    const isDue = clock.monotonic() - thinnedAt >= thinMs
    const last = writing(() => store.save(tail, tailSeq, isDue ? clock.now().getTime() : null), null)
    if (last === null) return
    savedAt = clock.monotonic()
    if (isDue) thinnedAt = savedAt
    newestSeq = last
    tail = []
    tailSeq = null
  }

  function find(systemIdentifier: string, bounds: readonly ClockBound[]): Found | null {
    for (const bound of bounds) {
      const counts = (run: KeptRun) =>
        run.systemIdentifier === systemIdentifier && run.timeline === bound.timeline && run.lsn <= bound.lsn
      const index = tail.findLastIndex(counts)
      const run = tail[index]
      if (run !== undefined) {
        return { at: run.at, isNewest: index === tail.length - 1, later: least(tail.slice(index + 1), null) }
      }
      const row = store.newestCovered(systemIdentifier, [bound])
      if (row !== null) {
        const later = least(tail, store.leastAfter(systemIdentifier, row.seq))
        return { at: row.at, isNewest: tail.length === 0 && row.seq === newestSeq, later }
      }
    }
    return null
  }

  /** A primary is never before what it has finished: see `WalClockState.isSetBack`. */
  function isBefore(end: bigint | null, { state, lsn, segmentSize }: LsnSample): boolean {
    const isSetBack = end !== null && state !== null && normalLsn(lsn, segmentSize) < end
    if (isSetBack && !toldSetBack) {
      log.error(
        {
          lsn: formatLsn(lsn),
          stored: formatLsn(end),
          hint: 'do not let it archive to the same place: its WAL is not stored. Recover it to a new timeline, or give it a repository and an archive of its own',
        },
        'the server stands before WAL of its own that is stored: it was put back, or is a copy. The recovery point stands still',
      )
    }
    toldSetBack = isSetBack
    return isSetBack
  }

  return {
    remembered:
      kept === null
        ? null
        : stateOf(kept, { at: kept.at, lsn: kept.lastLsn, inRecovery: kept.state === null, rate: null }),
    async look(signal) {
      // Both clocks are asked before the snapshot is taken: of two that differ, the earlier moment is true by either.
      const before = clock.now().getTime()
      // What was stored before the server is asked.
      const end =
        newest === null || storedEnd === undefined ? null : storedEnd(newest.systemIdentifier, newest.timeline)
      const found = await probe.sample(signal)
      signal.throwIfAborted()
      const { systemIdentifier, timeline, state, lsn, segmentSize, at } = found
      const isSame = newest?.systemIdentifier === systemIdentifier && newest.timeline === timeline
      const isSetBack = isSame && isBefore(end ?? null, found)
      if (at !== null && !isSetBack && end !== undefined) {
        const noted = { lsn: normalLsn(lsn, segmentSize), at: Math.min(at, before) }
        const { run, isNew } = noteSample(newest, { systemIdentifier, timeline, state, ...noted })
        if (run !== newest) note({ ...run, lastLsn: lsn, segmentSize }, isNew)
      }
      const perSecond = rate.note(found, clock.monotonic())
      const seen = stateOf(found, { at: found.serverAt, lsn, inRecovery: found.inRecovery, rate: perSecond })
      return isSetBack ? Object.freeze({ ...seen, isSetBack }) : seen
    },
    covered(systemIdentifier, bounds, now) {
      const found = reading(() => find(systemIdentifier, bounds), null)
      if (found === null) return null
      return { at: new Date(coveredMoment(found.at, found.later, now.getTime())), isNewest: found.isNewest }
    },
    reached(systemIdentifier, bounds, at) {
      for (const { timeline, lsn } of bounds.toReversed()) {
        const moment = at.getTime()
        const row = reading(() => store.firstReaching(systemIdentifier, timeline, moment), null)
        const counts = (run: KeptRun) => run.systemIdentifier === systemIdentifier && run.timeline === timeline
        const places = tail.flatMap((run) => (counts(run) && run.at >= moment ? [run.lsn] : []))
        const found = [...(row === null ? [] : [row]), ...places].reduce<bigint | null>(
          (least, one) => (least === null || one < least ? one : least),
          null,
        )
        if (found !== null && found <= lsn) return { timeline, lsn: found }
      }
      return null
    },
    close: () => {
      save()
      return probe.close()
    },
  }
}

/** The run that is found, and the earliest moment after it before which the clock was set back. */
interface Found {
  readonly at: number
  readonly isNewest: boolean
  readonly later: number | null
}

function least(runs: readonly KeptRun[], other: number | null): number | null {
  const moments = runs.filter(({ wentBack }) => wentBack).map(({ leastAt }) => leastAt)
  return moments.reduce<number | null>((a, b) => (a === null ? b : Math.min(a, b)), other)
}

/** Tries work that uses the disk. What fails is told once, until it works again. */
function createAttempt(log: Logger, problem: string) {
  let told = false
  return <T>(work: () => T, otherwise: T): T => {
    try {
      const result = work()
      told = false
      return result
    } catch (error) {
      if (!told) log.warn({ failure: toFailure(error) }, problem)
      told = true
      return otherwise
    }
  }
}

function stateOf(
  { systemIdentifier, timeline, segmentSize }: Pick<KeptRun, 'systemIdentifier' | 'timeline' | 'segmentSize'>,
  { at, ...rest }: Pick<WalClockState, 'lsn' | 'inRecovery' | 'rate'> & { readonly at: number },
): WalClockState {
  return Object.freeze({ systemIdentifier, timeline, segmentSize, at: new Date(at), ...rest })
}
