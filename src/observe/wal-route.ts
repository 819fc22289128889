import type { WalCoverage, WalPosition, WalRange } from '../domain/coverage.ts'
import { parseLsn } from '../domain/lsn.ts'
import { standing } from '../domain/proof.ts'
import type { BackupSummary, RepositoryState } from './catalog.ts'

/** A physical backup from which WAL can be replayed. */
export interface WalStart {
  readonly backup: BackupSummary
  readonly from: WalPosition
  /** WAL up to here makes it consistent. */
  readonly stop: bigint
}

/** Which WAL of a repository counts, and from where on. */
export interface WalRouteFound {
  /** The timeline to which the recovery goes. */
  readonly target: number
  readonly from: WalPosition | null
  readonly end: WalPosition | null
  /** The backup where it begins; null: there is none on the way. */
  readonly backup: BackupSummary | null
  /** The WAL makes that backup consistent: it can be restored. */
  readonly isConsistent: boolean
  /** Where WAL begins to be needed: the oldest physical backup, or without one the oldest WAL. */
  readonly needed: WalPosition | null
}

/**
 * The physical backups of one cluster, the newest first by the place where they start. One that was refuted by a proof is
 * none, nor is an incremental of which an ancestor was refuted or is not there.
 */
export function walStarts(
  { backups, proofs }: Pick<RepositoryState, 'backups' | 'proofs'>,
  systemIdentifier: string,
): readonly WalStart[] {
  const physical = new Map<string, BackupSummary>()
  for (const backup of backups) {
    const isPhysical = backup.type === 'full' || backup.type === 'incremental'
    if (isPhysical && backup.systemIdentifier === systemIdentifier) physical.set(backup.id, backup)
  }
  const isUsable = (backup: BackupSummary): boolean => {
    const seen = new Set<string>()
    for (let member: BackupSummary | undefined = backup; member !== undefined && !seen.has(member.id); ) {
      if (standing(proofs.get(member.id)) === 'refuted') return false
      if (member.type === 'full') return true
      seen.add(member.id)
      member = physical.get(member.parent ?? '')
    }
    return false
  }
  const starts = [...physical.values()].filter(isUsable).flatMap((backup) => {
    const [start, stop] = [parseLsn(backup.startLsn), parseLsn(backup.lsn)]
    if (start === null || stop === null) return []
    return [{ backup, from: { timeline: backup.startTimeline, lsn: start }, stop }]
  })
  return starts.sort((a, b) =>
    a.from.lsn === b.from.lsn ? b.from.timeline - a.from.timeline : a.from.lsn < b.from.lsn ? 1 : -1,
  )
}

/**
 * From where a recovery to the server's timeline gets furthest. Of the backups on the way that is the newest that the WAL
 * makes consistent: WAL without a gap from an older one leads past the start of a newer one, and from there on is the same.
 * While the WAL makes none of them consistent it is the newest. Without any, it is the beginning of the last WAL without a
 * gap: what a backup that is taken now would be continued by.
 *
 * A server that was promoted a moment ago is on a timeline whose history is not stored yet. Until it is, the WAL leads to
 * the newest timeline that is known here.
 */
export function findWalRoute(
  coverage: WalCoverage,
  serverTimeline: number,
  starts: readonly WalStart[],
): WalRouteFound {
  const { timelines } = coverage
  const begin = starts[0]?.from ?? { timeline: 1, lsn: 0n }
  const target = timelines.isKnown(serverTimeline) ? serverTimeline : timelines.newestFrom(begin)
  const onTheWay = starts.filter(({ from }) => timelines.leadsTo(from, target))
  const oldest = onTheWay.at(-1)
  if (oldest === undefined) {
    let [first, last]: (WalRange | null)[] = [null, null]
    for (const range of coverage.ranges(target)) {
      first ??= range
      last = range
    }
    return {
      ...{ target, backup: null, isConsistent: false },
      from: last?.from ?? null,
      end: last?.to ?? null,
      needed: first?.from ?? null,
    }
  }
  let newest: WalRouteFound | null = null
  for (const start of onTheWay) {
    const end = coverage.reach({ from: start.from, target })?.end ?? null
    const isConsistent = end !== null && end.lsn >= start.stop
    const found = { target, from: start.from, end, backup: start.backup, isConsistent, needed: oldest.from }
    if (isConsistent) return found
    newest ??= found
  }
  return newest ?? { target, from: null, end: null, backup: null, isConsistent: false, needed: null }
}
