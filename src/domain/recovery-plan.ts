import type { WalCoverage, WalGap, WalPosition } from './coverage.ts'
import { type Failure, LifeboatError } from './errors.ts'
import { formatLsn } from './lsn.ts'
import { segmentAt, segmentBefore } from './wal.ts'

/*
 * How a moment is restored: which backups, which WAL, and what is in the way. One answer for whoever asks what could be
 * restored, for the dry run, and for the restore itself.
 */

/** The moment that is wanted. */
export type RecoveryTarget =
  /** All that there is. */
  | { readonly kind: 'latest' }
  /** As soon as the backup is consistent. */
  | { readonly kind: 'immediate' }
  | { readonly kind: 'time'; readonly at: Date }
  | { readonly kind: 'lsn'; readonly lsn: bigint }
  /** A point that `pg_create_restore_point` made. */
  | { readonly kind: 'name'; readonly name: string }

/** A physical backup. */
export interface PlanBackup {
  readonly id: string
  readonly type: 'full' | 'incremental'
  readonly parent: string | null
  readonly start: WalPosition
  /** Where it is consistent, and when: it restores no earlier moment. */
  readonly stop: WalPosition
  readonly finishedAt: Date
  readonly storedBytes: number
  /** A verification has refuted it. */
  readonly isRefuted: boolean
}

export interface PlanOptions {
  /** Of the cluster that is to be restored, all that one repository holds. */
  readonly backups: readonly PlanBackup[]
  /** The WAL that it holds. */
  readonly coverage: WalCoverage
  /** To which timeline: the server's own, unless another one is wanted. */
  readonly timeline: number
  readonly target: RecoveryTarget
  /** Only from this backup on; null: the plan chooses. */
  readonly backup: string | null
  /** The moment before which everything is in the WAL up to a place; null: nobody knows. */
  readonly coveredUntil: (end: WalPosition) => Date | null
  readonly now: Date
}

/** What the server is told to stop at. */
export type RecoveryStop =
  /** `mayEnd`: nothing was committed after that moment, as far as the WAL goes, so its end is as good. */
  | { readonly kind: 'time'; readonly at: Date; readonly mayEnd: boolean }
  | { readonly kind: 'lsn'; readonly lsn: bigint }
  | { readonly kind: 'name'; readonly name: string }
  | { readonly kind: 'immediate' }
  | { readonly kind: 'end' }

export interface RecoveryPlan {
  /** The full backup first, then the incrementals on it. */
  readonly chain: readonly PlanBackup[]
  readonly timeline: number
  readonly stop: RecoveryStop
  /** The WAL that is replayed; to its end where nothing tells that less will do. */
  readonly from: WalPosition
  readonly to: WalPosition
  readonly segments: number
  /** As stored. */
  readonly backupBytes: number
}

/** A backup, and how far the WAL leads from it. */
interface Candidate {
  readonly chain: readonly PlanBackup[]
  readonly backup: PlanBackup
  readonly end: WalPosition
  readonly isConsistent: boolean
}

/** Clocks differ, and people round. */
const futureToleranceMs = 60_000

/**
 * Plans a recovery, or says why there is none.
 *
 * @throws LifeboatError `not-recoverable` with what is in the way; `not-found` for a backup that is not there
 */
export function planRecovery(options: PlanOptions): RecoveryPlan {
  const { target, timeline, now } = options
  if (target.kind === 'time' && target.at.getTime() > now.getTime() + futureToleranceMs)
    throw refuse(`${iso(target.at)} is in the future`, 'times without a zone are taken for UTC: name the zone')
  const candidates = findCandidates(options)
  const chosen = candidates.filter(({ backup }) => isBefore(backup, target))
  if (chosen.length === 0) {
    const oldest = candidates.at(-1)?.backup
    throw refuse(
      `no backup is as old as that: the oldest one on timeline ${timeline} is consistent from ${describeStop(oldest)} on`,
      'ask for a later moment, or look in another repository: lifeboat list',
    )
  }
  const candidate = chosen.find(({ isConsistent }) => isConsistent)
  if (candidate === undefined) throw incomplete(chosen[0] as Candidate, options)
  const { chain, end, backup } = candidate
  const stop = stopAt(candidate, options)
  const to = stop.kind === 'immediate' ? backup.stop : stop.kind === 'lsn' ? { ...end, lsn: stop.lsn } : end
  const size = options.coverage.segmentSize
  return {
    chain,
    timeline,
    stop,
    from: backup.start,
    to,
    segments: Math.max(0, segmentBefore(to.lsn, size) - segmentAt(backup.start.lsn, size) + 1),
    backupBytes: chain.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
  }
}

/** An interval of moments that can be restored. */
export interface RecoveryWindow {
  readonly from: Date
  /** The end of the WAL that leads from there. */
  readonly end: WalPosition
  /** The backup where it begins. */
  readonly backup: string
  /** What ends it: the first segment that is missing; null: nothing does, it goes on to the newest WAL. */
  readonly hole: WalGap | null
}

/**
 * What can be restored, oldest first: from when a backup is consistent on, as far as the WAL leads from it. Backups that
 * the WAL leads past are in the window of those before them.
 */
export function recoveryWindows(
  options: Pick<PlanOptions, 'backups' | 'coverage' | 'timeline'>,
): readonly RecoveryWindow[] {
  const { coverage, timeline } = options
  const windows: RecoveryWindow[] = []
  let reached = -1n
  for (const { backup, end, isConsistent } of candidatesOf({ ...options, backup: null }).found.toReversed()) {
    if (!isConsistent || end.lsn <= reached) continue
    reached = end.lsn
    const [hole = null] = coverage.gaps({ from: backup.start, target: timeline })
    windows.push({ from: backup.finishedAt, end, backup: backup.id, hole })
  }
  return windows
}

function findCandidates(options: PlanOptions): readonly Candidate[] {
  const { found, broken } = candidatesOf(options)
  if (found.length > 0) return found
  const [first = 'no physical backup is there'] = broken
  const more = broken.length > 1 ? `, and ${broken.length - 1} more cannot be used` : ''
  throw refuse(`nothing to begin from: ${first}${more}`, 'WAL alone restores nothing: take a full backup')
}

/** The usable backups on the way to the timeline, the newest first, and why the others are none. */
function candidatesOf({
  backups,
  coverage,
  timeline,
  backup: wanted,
}: Pick<PlanOptions, 'backups' | 'coverage' | 'timeline' | 'backup'>) {
  const byId = new Map(backups.map((backup) => [backup.id, backup]))
  if (wanted !== null && !byId.has(wanted))
    throw new LifeboatError('not-found', `there is no physical backup ${wanted} of this cluster`, {
      hint: 'see lifeboat list',
    })
  const broken: string[] = []
  const found = [...byId.values()]
    .filter(({ id }) => wanted === null || id === wanted)
    .flatMap((backup): Candidate[] => {
      const chain = chainOf(backup, byId)
      if (typeof chain === 'string') {
        broken.push(chain)
        return []
      }
      if (!coverage.timelines.leadsTo(backup.start, timeline)) {
        broken.push(`${backup.id} is not on the way to timeline ${timeline}`)
        return []
      }
      const end = coverage.reach({ from: backup.start, target: timeline })?.end ?? backup.start
      return [{ chain, backup, end, isConsistent: end.lsn >= backup.stop.lsn }]
    })
  // Of two that start at one place one was put together from the chain of the other: the shorter one is there sooner.
  found.sort((a, b) => Number(b.backup.start.lsn - a.backup.start.lsn) || a.chain.length - b.chain.length)
  return { found, broken }
}

/** The chain of a backup, oldest first, or why it is none. */
function chainOf(backup: PlanBackup, byId: ReadonlyMap<string, PlanBackup>): readonly PlanBackup[] | string {
  const chain: PlanBackup[] = []
  for (let member: PlanBackup | undefined = backup; ; member = byId.get(member.parent ?? '')) {
    const child = chain[0]
    if (member === undefined) return `${child?.parent ?? 'a backup'}, on which ${child?.id} builds, is not there`
    if (chain.includes(member)) return `${member.id} builds on itself`
    if (member.isRefuted) return `${member.id} failed its verification`
    chain.unshift(member)
    if (member.type === 'full') return chain
  }
}

/** Whether the moment comes after the backup is consistent: an earlier target would be passed by without a word. */
function isBefore({ stop, finishedAt }: PlanBackup, target: RecoveryTarget): boolean {
  if (target.kind === 'time') return finishedAt <= target.at
  return target.kind !== 'lsn' || stop.lsn <= target.lsn
}

function stopAt({ end, backup }: Candidate, { target, coveredUntil, coverage, timeline }: PlanOptions): RecoveryStop {
  switch (target.kind) {
    case 'latest':
      return { kind: 'end' }
    case 'immediate':
      return { kind: 'immediate' }
    case 'name':
      return target
    case 'lsn':
      if (target.lsn <= end.lsn) return target
      throw refuse(`the WAL that is stored ends at ${place(end)}${why({ coverage, timeline, backup })}`, newestHint)
    case 'time': {
      const until = coveredUntil(end)
      // Nobody noted when what was written: the server ends with an error if it does not get there.
      if (until === null) return { ...target, mayEnd: false }
      if (target.at <= until) return { ...target, mayEnd: true }
      const known = `everything up to ${iso(until)} is there${why({ coverage, timeline, backup })}`
      throw refuse(`${iso(target.at)} is after what is known to be stored: ${known}`, newestHint)
    }
  }
}

const newestHint = 'ask for an earlier moment, or for the latest one'

function incomplete({ backup, end }: Candidate, { coverage, timeline }: PlanOptions): LifeboatError {
  const missing = why({ coverage, timeline, backup })
  return refuse(
    `the WAL that makes ${backup.id} consistent is not stored: it ends at ${place(end)}, and ${formatLsn(backup.stop.lsn)} is needed${missing}`,
    'see lifeboat wal gaps, and whether another repository has it',
  )
}

/** The hole that is in the way, in words; empty where there is none. */
function why(of: Pick<PlanOptions, 'coverage' | 'timeline'> & { readonly backup: PlanBackup }): string {
  const [hole] = of.coverage.gaps({ from: of.backup.start, target: of.timeline })
  if (hole === undefined) return ''
  const count = hole.last - hole.first + 1
  return `; ${count === 1 ? 'a segment is' : `${count} segments are`} missing there`
}

function refuse(message: string, hint: string): LifeboatError {
  return new LifeboatError('not-recoverable', message, { hint })
}

/** A plan, or why there is none, as values. */
export function tryPlan(options: PlanOptions): { readonly plan: RecoveryPlan } | { readonly refused: Failure } {
  try {
    return { plan: planRecovery(options) }
  } catch (error) {
    if (!(error instanceof LifeboatError)) throw error
    const { code, message, hint } = error
    return { refused: { code, message, ...(hint === undefined ? {} : { hint }) } }
  }
}

function place({ timeline, lsn }: WalPosition): string {
  return `${formatLsn(lsn)} on timeline ${timeline}`
}

function describeStop(backup: PlanBackup | undefined): string {
  return backup === undefined ? 'nowhere' : `${iso(backup.finishedAt)} (${formatLsn(backup.stop.lsn)})`
}

function iso(at: Date): string {
  return at.toISOString()
}
