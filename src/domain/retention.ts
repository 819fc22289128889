import type { BackupType } from './backup.ts'
import type { Standing } from './proof.ts'

/** What is kept in one repository. Rules add up: a backup goes only when none of them keeps it. */
export interface RetentionPolicy {
  /** Every backup stays for so long after it was finished; null: for ever, nothing expires. */
  readonly keepForSeconds: number | null
  /** So many of the newest usable backups of each database stay, however old they are; at least 1. */
  readonly keepAtLeast: number
  /** Each moment of the last so many seconds stays restorable, from a backup before it; null: no such rule. */
  readonly windowSeconds: number | null
  /** Of so many days (weeks, months, years) that have usable backups the newest one stays. In UTC, weeks as in ISO 8601. */
  readonly daily: number
  readonly weekly: number
  readonly monthly: number
  readonly yearly: number
}

/** What the plan must know of one backup, or of one file that another tool wrote. */
export interface RetentionCandidate {
  readonly id: string
  readonly type: BackupType
  /** Empty for physical backups. */
  readonly database: string
  /** Empty where it is not known (files of other tools); those of one database then make one group. */
  readonly systemIdentifier: string
  readonly timeline: number
  /** Null where it is not known: then time alone gives the order. */
  readonly lsn: string | null
  readonly consistentAt: Date
  readonly finishedAt: Date
  /** The backup that this one builds on. */
  readonly parent: string | null
  /** What it builds on is not here, but whole in another repository. */
  readonly isParentElsewhere?: boolean
  /** A backup in another repository, which has not got it, builds on it. */
  readonly isNeededElsewhere?: boolean
  /** A backup that nobody can see now, in a repository that does not answer, may build on it. */
  readonly mayBeNeededElsewhere?: boolean
  /** `unknown`: a proof of it cannot be read, which may be the one that proves or refutes it. */
  readonly standing: Standing | 'unknown'
  /** False for what cannot be restored, whatever was proven: torn, truncated, of a wrong kind. */
  readonly usable: boolean
  /** Why it is not: files of it are missing, truncated or replaced. */
  readonly isDamaged?: boolean
  /** Somebody wants it kept, until a moment or (null) until it is released. */
  readonly hold: { readonly until: Date | null } | null
  /** The bucket keeps it, until a moment or (null) until somebody lifts a legal hold. */
  readonly lock?: { readonly until: Date | null } | null
  /** It is being verified or restored. */
  readonly inUse: boolean
}

/** Why a backup stays or goes: stable words, and what each of them means, as a sentence about "it". */
export const retentionReasons = {
  'keep-for': 'it is younger than keepFor',
  forever: 'keepFor is forever: nothing expires in this repository',
  'last-usable': 'it is the newest usable backup of its database',
  'last-proven': 'it is the newest backup of its database that a restore has proven',
  'keep-at-least': 'it is among the newest usable backups of its database that keepAtLeast counts',
  window: 'the recovery window needs it',
  daily: 'it is the newest usable backup of its day',
  weekly: 'it is the newest usable backup of its week',
  monthly: 'it is the newest usable backup of its month',
  yearly: 'it is the newest usable backup of its year',
  held: 'it is held',
  locked: 'the bucket has it locked (Object Lock)',
  'in-use': 'it is being verified or restored',
  'clock-ahead': 'it is dated into the future, so its age is not known',
  'standing-unknown': 'a proof of it cannot be read, which may be the one that matters',
  'no-better': 'it is not usable, but no usable backup of its database is newer',
  parent: 'a backup that stays builds on it',
  'maybe-parent': 'a repository that cannot be looked at may hold an incremental backup that builds on it',
  blocked: 'nothing expires in this repository until what blocks it is settled',
  expired: 'it is older than keepFor, and no other rule keeps it',
  damaged: 'files of it are missing, truncated or replaced, so that it counts for no rule',
} as const

export type RetentionReason = keyof typeof retentionReasons

export interface RetentionDecision {
  readonly keep: boolean
  /** All that hold, at least one. Only `expired` lets a backup go; `damaged` tells why it counts for none, and keeps nothing. */
  readonly reasons: readonly RetentionReason[]
  /** When the last of its reasons ends, where time alone ends them; null when something else must happen first, or it goes now. */
  readonly until: Date | null
}

/** Why nothing may be removed from a repository, whatever the policy says. */
export interface RetentionRefusal {
  readonly cause: 'clock-back' | 'clock-forward' | 'clock-unknown' | 'manifest-invalid' | 'not-read' | 'parent-cycle'
  /** Lower-case, what was found. */
  readonly message: string
  /** What to do about it. */
  readonly hint: string
}

/** One backup that goes. */
export interface Removal {
  readonly id: string
  /** Backups of the same database that must still be there when it is removed: the last usable and the last proven one. */
  readonly needs: readonly string[]
}

export interface RetentionPlan {
  readonly decisions: ReadonlyMap<string, RetentionDecision>
  /** In the order of removal: children before parents, and of each database the oldest first. Empty when refused. */
  readonly removals: readonly Removal[]
  readonly refusal: RetentionRefusal | null
  /** How many backups are held. */
  readonly held: number
}
