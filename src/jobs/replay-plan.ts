import type { Manifest, PhysicalFacts } from '../domain/backup.ts'
import { WalCoverage, type WalPosition } from '../domain/coverage.ts'
import { LifeboatError } from '../domain/errors.ts'
import { parseLsn } from '../domain/lsn.ts'
import type { RecoveryStop } from '../domain/recovery-plan.ts'
import { parseHistory, Timelines } from '../domain/timeline.ts'
import { firstLsn, historyName, parseWalName, segmentAt, segmentBefore, segmentName } from '../domain/wal.ts'
import { readPlain } from '../fetch/plain.ts'
import type { Repository } from '../repository/repository.ts'
import { VerdictError } from './level-recorder.ts'
import type { ReplayTarget } from './replay-target.ts'
import { segmentsOf } from './wal-stored.ts'

/** What a scratch server replays. */
export interface ReplayPlan {
  readonly timeline: number
  readonly stop: RecoveryStop
  /** Less is a failure: the backup's end, or that of the WAL. */
  readonly mustReach: WalPosition
  /** Without these the backup cannot be used. */
  readonly needed: readonly string[]
  /** WAL of a moment after its end. */
  readonly beyond: readonly string[]
  readonly segmentSize: number
}

/** @throws LifeboatError `not-recoverable` for a moment before the end of the backup, which restores none */
export function assertAfterBackup({ backupId, stop }: Manifest, target: ReplayTarget | null): void {
  if (target === null || target === 'latest' || target.at.getTime() >= Date.parse(stop.time)) return
  throw new LifeboatError('not-recoverable', `${backupId} restores no moment before ${stop.time}`, {
    hint: 'ask for a later one, or verify an older backup',
  })
}

/**
 * What must be replayed to the end of a backup, or from there on to a moment.
 *
 * @throws VerdictError `manifest-invalid`; LifeboatError what the repository fails with
 */
export async function planReplay(
  repository: Repository,
  manifest: Manifest & { readonly physical: PhysicalFacts },
  target: ReplayTarget | null,
  signal: AbortSignal,
): Promise<ReplayPlan> {
  const { physical } = manifest
  const { wal, segmentSize } = physical
  const end = wal.at(-1)
  const stop = end === undefined ? null : parseLsn(end.end)
  if (end === undefined || stop === null)
    throw new VerdictError('fail', 'manifest-invalid', 'wal', 'the manifest does not say which WAL it needs')
  const own = { timeline: end.timeline, lsn: stop }
  const needed = [...historiesOf(end.timeline), ...segmentsOf({ intervals: wal, segmentSize })]
  if (target === null) {
    const plan = { timeline: end.timeline, stop: { kind: 'immediate' }, mustReach: own } as const
    return { ...plan, needed, beyond: [], segmentSize }
  }
  const reached = await reachFrom(repository, { manifest, own }, signal)
  const known = new Set(needed)
  return {
    timeline: reached.timeline,
    // Nobody has noted here when what was written: where the WAL ends before the moment, that is told of.
    stop:
      target === 'latest'
        ? { kind: 'end' }
        : { kind: 'time', at: target.at, text: asServerReads(target.text), mayEnd: false },
    mustReach: target === 'latest' ? reached.end : own,
    needed,
    beyond: reached.files.filter((name) => !known.has(name)),
    segmentSize,
  }
}

/** As `targetTime` writes it. */
function asServerReads(text: string): string {
  return text.replace('T', ' ').replace('Z', '+00')
}

/** All WAL that follows the end of a backup without a gap, on the newest timeline that leads on from there. */
async function reachFrom(
  { wal }: Repository,
  { manifest, own }: { readonly manifest: Manifest & { readonly physical: PhysicalFacts }; readonly own: WalPosition },
  signal: AbortSignal,
): Promise<{ readonly timeline: number; readonly end: WalPosition; readonly files: readonly string[] }> {
  const { systemIdentifier, physical } = manifest
  const { segmentSize } = physical
  const timelines = new Timelines()
  for await (const object of wal.listPlain(systemIdentifier, { signal })) {
    if (object.kind !== 'history') continue
    const bytes = await readPlain({ wal }, object, signal)
    timelines.add(parseHistory(Number.parseInt(object.name, 16), bytes.toString('latin1')))
  }
  const last = segmentBefore(own.lsn, segmentSize)
  const from = { timeline: own.timeline, lsn: own.lsn - 1n } // the byte before: its segment counts
  const timeline = timelines.newestFrom(own)
  const coverage = new WalCoverage(segmentSize, timelines)
  const stretches = timelines.lineage(timeline)
  for (const { timeline: one, begin } of stretches) {
    const first = Math.max(last, segmentAt(begin, segmentSize))
    const listed = wal.list(systemIdentifier, one, { from: segmentName(one, first, segmentSize), signal })
    for await (const object of listed) {
      const file = parseWalName(object.name, segmentSize)
      if (file !== null) coverage.add(file)
    }
  }
  const end = coverage.reach({ from, target: timeline })?.end ?? own
  const files: string[] = [...historiesOf(timeline)]
  for (let segment = last; segment <= segmentBefore(end.lsn, segmentSize); segment += 1) {
    // A timeline that begins within a segment has that segment whole.
    const owner = stretches.findLast(({ begin }) => begin < firstLsn(segment + 1, segmentSize))
    files.push(segmentName(owner?.timeline ?? timeline, segment, segmentSize))
  }
  return { timeline, end, files }
}

/** PostgreSQL asks for the history of the timeline that it is to go to; the first one has none. */
function historiesOf(timeline: number): readonly string[] {
  return timeline === 1 ? [] : [historyName(timeline)]
}
