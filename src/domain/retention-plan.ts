import { clockToleranceMs } from './backup.ts'
import type {
  Removal,
  RetentionCandidate,
  RetentionDecision,
  RetentionPlan,
  RetentionPolicy,
  RetentionReason,
  RetentionRefusal,
} from './retention.ts'
import { readChains } from './retention-chains.ts'
import { newestOfPeriods } from './retention-periods.ts'

export interface PlanInput {
  /** All backups of one repository, each id once. */
  readonly backups: readonly RetentionCandidate[]
  readonly policy: RetentionPolicy
  readonly now: Date
  /** What forbids any removal, the gravest first. */
  readonly refusals: readonly RetentionRefusal[]
}

/** A backup while it is judged. */
export interface Member {
  readonly backup: RetentionCandidate
  readonly consistentMs: number
  readonly finishedMs: number
  /** The place in the WAL, in two halves: as one number it would not fit a double. */
  readonly high: number
  readonly low: number
  /** It can stand for its database: restorable with all that it builds on, not refuted, and its date is believable. */
  good: boolean
  readonly ahead: boolean
  readonly reasons: RetentionReason[]
  /** When its reasons end, milliseconds since 1970; infinite once one of them has no end in time. */
  untilMs: number
  /** How many backups it builds on that are there. */
  depth: number
  /** See `Removal.needs`. */
  needs: readonly string[]
}

/**
 * Decides for every backup of a repository whether it stays, why, and until when. Pure: the same input gives the same
 * plan. What is not known keeps: a backup dated ahead of the clock, or whose proofs cannot be read, stays and counts for
 * nothing, so that nothing else goes because of it. A refusal keeps everything.
 */
export function planRetention({ backups, policy, now, refusals }: PlanInput): RetentionPlan {
  const members = backups.map((backup) => memberOf(backup, now.getTime()))
  const chains = readChains(members)
  const refusal = refusals[0] ?? chains.refusal
  const groups = groupOf(members)
  for (const group of groups) judgeGroup(group, policy, now.getTime())
  chains.keepParents()
  const decisions = new Map<string, RetentionDecision>()
  for (const member of members) decisions.set(member.backup.id, decide(member, refusal !== null))
  const held = members.filter(({ reasons }) => reasons.includes('held')).length
  return { decisions, removals: refusal === null ? removalsOf(groups) : [], refusal, held }
}

function memberOf(backup: RetentionCandidate, nowMs: number): Member {
  const { lsn, standing, usable } = backup
  const consistentMs = backup.consistentAt.getTime()
  const finishedMs = backup.finishedAt.getTime()
  const ahead = Math.max(consistentMs, finishedMs) - nowMs > clockToleranceMs
  return {
    backup,
    consistentMs,
    finishedMs,
    high: lsn === null ? 0 : Number.parseInt(lsn, 16), // ends at the slash
    low: lsn === null ? 0 : Number.parseInt(lsn.slice(lsn.indexOf('/') + 1), 16),
    good: usable && standing !== 'refuted' && standing !== 'unknown' && !ahead,
    ahead,
    reasons: [],
    untilMs: Number.NEGATIVE_INFINITY,
    depth: 0,
    needs: [],
  }
}

/**
 * What can stand for one another: backups of one database of one cluster, made in the same way. In an order of their own,
 * not that of the input. Maps in maps: to make a key of the three for each backup takes a good part of all the time.
 */
function groupOf(members: readonly Member[]): readonly Member[][] {
  const clusters = new Map<string, Map<string, Map<string, Member[]>>>()
  for (const member of members) {
    const { type, database, systemIdentifier } = member.backup
    const kinds = at(clusters, systemIdentifier, () => new Map<string, Map<string, Member[]>>())
    const databases = at(kinds, type === 'incremental' ? 'full' : type, () => new Map<string, Member[]>())
    at(databases, database, () => []).push(member)
  }
  return sorted(clusters).flatMap((kinds) => sorted(kinds).flatMap(sorted))
}

function at<T>(map: Map<string, T>, key: string, make: () => T): T {
  const known = map.get(key)
  if (known !== undefined) return known
  const made = make()
  map.set(key, made)
  return made
}

function sorted<T>(map: ReadonlyMap<string, T>): T[] {
  return [...map].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, value]) => value)
}

/** By the place in the WAL, newest first; clocks go back, and a name says nothing. Ids make equal ones come out in one order. */
function newestFirst(a: Member, b: Member): number {
  return (
    b.backup.timeline - a.backup.timeline ||
    b.high - a.high ||
    b.low - a.low ||
    b.consistentMs - a.consistentMs ||
    b.finishedMs - a.finishedMs ||
    (a.backup.id < b.backup.id ? 1 : -1)
  )
}

function keep(member: Member, reason: RetentionReason, untilMs = Number.POSITIVE_INFINITY): void {
  member.reasons.push(reason)
  member.untilMs = Math.max(member.untilMs, untilMs)
}

/** Finds the reasons of all members, except that others build on them. */
function judgeGroup(group: Member[], policy: RetentionPolicy, nowMs: number): void {
  group.sort(newestFirst)
  const good = group.filter((member) => member.good)
  const [lastUsable] = good
  const lastProven = good.find(({ backup }) => backup.standing === 'proven')
  if (lastUsable !== undefined) keep(lastUsable, 'last-usable')
  if (lastProven !== undefined) keep(lastProven, 'last-proven')
  for (const member of group) keepForItself(member, policy, nowMs)
  for (const member of newestPlaces(good, policy.keepAtLeast)) keep(member, 'keep-at-least')
  if (policy.windowSeconds !== null) keepWindow(good, policy.windowSeconds * 1000, nowMs)
  for (const [reason, member] of newestOfPeriods(good, policy)) keep(member, reason)
  // What was refuted may be all that is left of the newest data.
  for (const member of group) {
    if (member === lastUsable) break
    if (!member.good && !member.ahead) keep(member, 'no-better')
  }
  const needs = [...new Set([lastUsable, lastProven])].flatMap((member) => member?.backup.id ?? [])
  for (const member of group) member.needs = needs
}

/** Those of the newest so many places in the WAL: a full backup that was put together is at the place of its chain's last one. */
function newestPlaces(newestFirst: readonly Member[], count: number): readonly Member[] {
  let places = 0
  const end = newestFirst.findIndex((member, index) => {
    const before = newestFirst[index - 1]
    if (before === undefined || !isSamePlace(before, member)) places += 1
    return places > count
  })
  return end < 0 ? newestFirst : newestFirst.slice(0, end)
}

function isSamePlace(a: Member, b: Member): boolean {
  const isPhysical = b.backup.type === 'full' || b.backup.type === 'incremental'
  return isPhysical && a.backup.timeline === b.backup.timeline && a.high === b.high && a.low === b.low
}

/** What keeps a backup whatever the others are. */
function keepForItself(member: Member, { keepForSeconds }: RetentionPolicy, nowMs: number): void {
  const { hold, lock = null, inUse, standing } = member.backup
  if (keepForSeconds === null) keep(member, 'forever')
  else {
    const endsMs = Math.max(member.finishedMs, member.consistentMs) + keepForSeconds * 1000
    if (endsMs > nowMs) keep(member, 'keep-for', endsMs)
  }
  for (const [reason, keeps] of [['held', hold] as const, ['locked', lock] as const]) {
    if (keeps !== null && (keeps.until === null || keeps.until.getTime() > nowMs))
      keep(member, reason, keeps.until?.getTime() ?? Number.POSITIVE_INFINITY)
  }
  if (inUse) keep(member, 'in-use')
  if (member.ahead) keep(member, 'clock-ahead')
  if (standing === 'unknown') keep(member, 'standing-unknown')
}

/** Keeps what is inside of the window, and the newest one before it: the window's first moments are restored from that. */
function keepWindow(newestFirst: readonly Member[], windowMs: number, nowMs: number): void {
  const startMs = nowMs - windowMs
  const first = newestFirst.find(({ consistentMs }) => consistentMs <= startMs)
  let newer: Member | undefined
  for (const member of newestFirst) {
    if (member.consistentMs > startMs || member === first) {
      // It is the newest one before the window until the next one is.
      const endsMs = (newer?.consistentMs ?? Number.POSITIVE_INFINITY) + windowMs
      keep(member, 'window', endsMs > nowMs ? endsMs : Number.POSITIVE_INFINITY)
    }
    newer = member
  }
}

const expired: RetentionDecision = Object.freeze({
  keep: false,
  reasons: Object.freeze(['expired'] as const),
  until: null,
})
const blocked: RetentionDecision = Object.freeze({
  keep: true,
  reasons: Object.freeze(['blocked'] as const),
  until: null,
})

function decide(member: Member, refused: boolean): RetentionDecision {
  const decision = decideByReasons(member, refused)
  return member.backup.isDamaged === true ? { ...decision, reasons: [...decision.reasons, 'damaged'] } : decision
}

function decideByReasons({ reasons, untilMs }: Member, refused: boolean): RetentionDecision {
  if (reasons.length === 0) return refused ? blocked : expired
  // The last moment that a Date can hold is some 270,000 years away: a duration may pass it.
  const until = Number.isNaN(new Date(untilMs).getTime()) ? null : new Date(untilMs)
  return { keep: true, reasons: refused ? [...reasons, 'blocked'] : reasons, until: refused ? null : until }
}

/** Stable: within one depth and group the order stays, oldest first. */
function removalsOf(groups: readonly (readonly Member[])[]): readonly Removal[] {
  return groups
    .flatMap((group) => group.filter(({ reasons }) => reasons.length === 0).reverse())
    .sort((a, b) => b.depth - a.depth)
    .map(({ backup, needs }) => ({ id: backup.id, needs }))
}
