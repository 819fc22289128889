import { monthSeconds } from './prices.ts'
import type { RetentionCandidate, RetentionPolicy } from './retention.ts'
import { planRetention } from './retention-plan.ts'

/** Kinds of backups that come by a schedule. */
export const scheduledTypes = ['dump', 'full', 'incremental'] as const
export type ScheduledType = (typeof scheduledTypes)[number]

/** How many of each come in a month; null: none is scheduled. */
export type BackupRates = Readonly<Record<ScheduledType, number | null>>

/** What a policy leaves of backups that come at a steady rate: of each database so many. */
export interface SteadyBackups {
  /** How old each of those is that stays, seconds; ascending. */
  readonly kept: Readonly<Record<ScheduledType, readonly number[]>>
  /** How old each of those would be that went. */
  readonly gone: Readonly<Record<ScheduledType, readonly number[]>>
}

/** More would take seconds to plan for. */
const mostBackups = 20_000
const daySeconds = 86_400
/** The middle of a month and of a week, so that no period has just begun. */
const anchorMs = Date.UTC(2025, 6, 16, 12)

export type Endless = 'forever' | 'too-many'

export interface SteadyOptions {
  readonly policy: RetentionPolicy
  readonly rates: BackupRates
  /** So many backups one chain has at most; the next incremental is a full one. */
  readonly chainLimit: number
  /** Up to this age each backup is told of that went; of older ones one a day at least. */
  readonly seenSeconds: number
  /** Of what is older than both that and keepFor nobody asks: for a process that has other things to do. Default: false. */
  readonly onlySeen?: boolean
}

interface Event {
  readonly type: ScheduledType
  readonly ageSeconds: number
}

/**
 * Finds what stays once a policy has been at work for long, by letting it judge a history of backups as the schedules would have
 * made it. The rules are those of the expiry itself, so that no second set of them can be wrong.
 *
 * `forever`: it never gets full, since nothing expires. `too-many`: there would be more than twenty thousand backups.
 */
export function steadyBackups(options: SteadyOptions): SteadyBackups | Endless {
  const { policy, chainLimit } = options
  if (policy.keepForSeconds === null) return 'forever'
  const kept = { dump: [], full: [], incremental: [] } as Record<ScheduledType, number[]>
  const gone = { dump: [], full: [], incremental: [] } as Record<ScheduledType, number[]>
  for (const types of [['dump'], ['full', 'incremental']] as const) {
    const events = eventsOf(types, options)
    if (events === null) return 'too-many'
    const backups = candidates(events, chainLimit)
    const plan = planRetention({ backups, policy, now: new Date(anchorMs), refusals: [] })
    for (const { id, type, finishedAt } of backups) {
      const ageSeconds = (anchorMs - finishedAt.getTime()) / 1000
      const list = plan.decisions.get(id)?.keep === true ? kept : gone
      list[type as ScheduledType].push(ageSeconds)
    }
  }
  return { kept: sorted(kept), gone: sorted(gone) }
}

function sorted(ages: Record<ScheduledType, number[]>): SteadyBackups['kept'] {
  for (const type of scheduledTypes) ages[type].sort((a, b) => a - b)
  return ages
}

/** Oldest first; null: there are too many. */
function eventsOf(
  types: readonly ScheduledType[],
  { rates, policy, seenSeconds, onlySeen = false }: SteadyOptions,
): readonly Event[] | null {
  const events: Event[] = []
  for (const type of types) {
    const rate = rates[type]
    if (rate === null || rate <= 0) continue
    const interval = monthSeconds / rate
    const least = (policy.keepAtLeast + 1) * interval
    const dense = Math.max(policy.keepForSeconds ?? 0, policy.windowSeconds ?? 0, least, seenSeconds) + 2 * interval
    const periods = [
      ...[(policy.daily + 1) * daySeconds, (policy.weekly + 1) * 7 * daySeconds],
      ...[(policy.monthly + 1) * 31 * daySeconds, (policy.yearly + 1) * 366 * daySeconds],
    ]
    const longest = onlySeen ? dense : Math.max(dense, ...periods)
    // What a chain needs stays with its last one.
    const reach = longest + (type === 'dump' ? 0 : 2 * Math.max(interval, monthSeconds / (rates.full ?? rate)))
    // Half an interval: at any moment the newest one is between no and a whole interval old.
    // Of older dumps at most one of each day can stay; older incrementals may be what such a one builds on.
    const sparse = type === 'dump' ? Math.max(interval, daySeconds) : interval
    for (let age = interval / 2; age <= reach; age += age < dense ? interval : sparse) {
      events.push({ type, ageSeconds: age })
      if (events.length > mostBackups) return null
    }
  }
  // Of two at one moment the full one comes first: what follows builds on it.
  return events.sort((a, b) => b.ageSeconds - a.ageSeconds || (a.type === 'full' ? -1 : 1))
}

function candidates(events: readonly Event[], chainLimit: number): RetentionCandidate[] {
  let [previous, length]: [string | null, number] = [null, 0]
  return events.map(({ type, ageSeconds }, index) => {
    const at = new Date(anchorMs - ageSeconds * 1000)
    const id = String(index)
    const startsChain = type !== 'incremental' || previous === null || length >= chainLimit
    const parent = startsChain ? null : previous
    length = startsChain ? 1 : length + 1
    previous = id
    return {
      ...{ id, parent, type: type === 'incremental' && startsChain ? 'full' : type },
      ...{ database: '', systemIdentifier: '', timeline: 1, consistentAt: at, finishedAt: at },
      // Places in the order of time, each its own.
      lsn: `${index.toString(16)}/0`,
      ...{ standing: 'unproven', usable: true, hold: null, inUse: false },
    }
  })
}
