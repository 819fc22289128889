import { stretchAt, type Timelines } from './timeline.ts'
import { walFileKind } from './wal.ts'

/** Why a stored file of WAL stays or goes: stable words, and what each of them means, as a sentence about "it". */
export const walRetentionReasons = {
  backup: 'a physical backup that stays needs it',
  making: 'it, or WAL before it, was stored since a physical backup began that is still being made',
  window: 'it, or WAL before it, was stored less than walKeepFor ago',
  newest: 'it is the newest of its timeline',
  former: 'it is of a former cluster, whose WAL goes when all of it is older than walKeepFor',
  expired: 'no physical backup needs it, and it was stored longer than walKeepFor ago',
  superseded: 'it is a part of a segment, and the whole segment is there',
} as const

export type WalRetentionReason = keyof typeof walRetentionReasons

/** A segment or partial in a repository. */
export interface StoredWalFile {
  readonly name: string
  /** When it was stored, which is never before its WAL was written. */
  readonly storedAt: Date
}

export interface WalVerdict<File extends StoredWalFile> {
  readonly file: File
  /** False: it goes. */
  readonly keep: boolean
  readonly reason: WalRetentionReason
  /** The oldest backup that needs it; null for other reasons than `backup`. */
  readonly backupId: string | null
}

/** Where the WAL begins that a physical backup needs. */
export interface WalNeed {
  readonly id: string
  /** The timeline of the start, or one that descends from it. */
  readonly timeline: number
  readonly lsn: bigint
}

export interface WalRetentionInput {
  /** As far as their histories are stored. One that is not known is taken to descend from everything. */
  readonly timelines: Timelines
  /** Null where it is not known for certain: then places are compared by the log (4 GiB) that they are in. */
  readonly segmentSize: number | null
  /** The physical backups that stay, of this system identifier. */
  readonly backups: readonly WalNeed[]
  /** WAL that was stored since then stays: a physical backup that has no manifest yet begins there. Null: none is being made. */
  readonly makingSince: Date | null
  /** All WAL of the last so many seconds stays. */
  readonly keepForSeconds: number
  readonly now: Date
}

/** The place of a segment among all, whatever the segment size: names have the same order. */
type Order = number

/** A log is named by 8 digits, and has 4096 segments at most: of 1 MiB. */
const mostPerLog = 4096

/**
 * Decides what of the WAL of one cluster (system identifier) in one repository may go. What goes is always the beginning of
 * a timeline: everything before the first file that a kept backup may have to replay, on the way to any later timeline, and
 * before the first one that was stored within the window. So every backup that stays, and every base backup that begins
 * within the window, reaches as far as before. Memory grows with timelines and backups, not with segments.
 *
 * Timelines must be judged in ascending order: what the window keeps on one is kept on those that descend from it, too.
 */
export class WalRetention {
  readonly #input: WalRetentionInput
  readonly #windowMs: number
  /** Where the window begins on the timelines that have been judged. */
  readonly #windows: WalNeed[] = []

  constructor(input: WalRetentionInput) {
    this.#input = input
    this.#windowMs = input.now.getTime() - input.keepForSeconds * 1000
  }

  /** Why the time at which it was stored keeps a file, and all after it; null: it does not. What has no sound time is kept. */
  young({ storedAt }: StoredWalFile): 'window' | 'making' | null {
    const { makingSince } = this.#input
    if (!(storedAt.getTime() < this.#windowMs)) return 'window'
    return makingSince !== null && storedAt >= makingSince ? 'making' : null
  }

  /** Judges the files of one timeline: each is given to `next`, in the order of their keys; `end` comes after the last. */
  timeline<File extends StoredWalFile>(timeline: number): TimelineJudge<File> {
    const first = (needs: readonly WalNeed[]) => this.#first(needs, timeline)
    return new TimelineJudge({
      needed: first(this.#input.backups),
      window: first(this.#windows)?.order ?? null,
      young: (file) => this.young(file),
      begins: (order) => {
        this.#windows.push({ id: '', timeline, lsn: this.#placeOf(order, timeline) })
      },
    })
  }

  /** The first segment of a timeline that any of these needs. */
  #first(needs: readonly WalNeed[], timeline: number): { readonly order: Order; readonly id: string } | null {
    let first: { order: Order; id: string } | null = null
    for (const need of needs) {
      const lsn = neededFrom(need, timeline, this.#input.timelines)
      const order = lsn === null ? Number.POSITIVE_INFINITY : this.#orderOf(lsn)
      if (order < (first?.order ?? Number.POSITIVE_INFINITY)) first = { order, id: need.id }
    }
    return first
  }

  #orderOf(lsn: bigint): Order {
    const { segmentSize } = this.#input
    const within = segmentSize === null ? 0n : (lsn & 0xffff_ffffn) / BigInt(segmentSize)
    return Number(lsn >> 32n) * mostPerLog + Number(within)
  }

  /** The place at which a segment's own WAL begins, or one before it. */
  #placeOf(order: Order, timeline: number): bigint {
    const { segmentSize, timelines } = this.#input
    const log = BigInt(Math.floor(order / mostPerLog)) << 32n
    const place = segmentSize === null ? log : log + BigInt(order % mostPerLog) * BigInt(segmentSize)
    const begin = timelines.lineage(timeline).at(-1)?.begin ?? 0n
    return begin > place ? begin : place
  }
}

/**
 * The first place on a timeline from which on a recovery may need it that begins at `need`; null: no recovery from there
 * comes by. Where a history is missing nobody knows who descends from whom: then it may come by from its beginning on.
 */
function neededFrom({ timeline, lsn }: WalNeed, by: number, timelines: Timelines): bigint | null {
  if (!timelines.isKnown(timeline) || !timelines.isKnown(by)) return lsn
  const own = timelines.lineage(timeline)
  const begins = stretchAt(own, lsn).timeline
  if (by === begins) return lsn
  for (const stretches of [own, timelines.lineage(by)]) {
    if (stretchAt(stretches, lsn).timeline !== begins) continue
    const stretch = stretches.find((one) => one.timeline === by && (one.end === null || one.end > lsn))
    if (stretch !== undefined) return stretch.begin > lsn ? stretch.begin : lsn
  }
  return null
}

interface Limits {
  readonly needed: { readonly order: Order; readonly id: string } | null
  /** From here on the window of an ancestor needs it. */
  readonly window: Order | null
  readonly young: (file: StoredWalFile) => 'window' | 'making' | null
  /** Told once, of the first segment that its time keeps. */
  readonly begins: (order: Order) => void
}

/** See `WalRetention.timeline`. */
export class TimelineJudge<File extends StoredWalFile> {
  readonly #limits: Limits
  #kept: 'window' | 'making' | null = null
  /** What goes as soon as something newer comes: files of one segment. */
  #held: File[] = []
  #at: Order = -1
  /** How many whole ones there are of the segment that was given last. */
  #whole = 0

  constructor(limits: Limits) {
    this.#limits = limits
  }

  /** What is certain now, in order. A file that is no segment or partial stays, unmentioned. */
  next(file: File): readonly WalVerdict<File>[] {
    const order = orderOf(file.name)
    if (order === null) return []
    const before: WalVerdict<File>[] = []
    if (order !== this.#at) {
      before.push(...this.#release(false, 'expired'))
      this.#at = order
      this.#whole = 0
    }
    // Whole ones come before parts. Of two that differ nobody knows which one the part belongs to.
    if (walFileKind(file.name) === 'segment') this.#whole += 1
    else if (this.#whole === 1 && hasKnownEnd(file.name)) return [...before, verdict(file, false, 'superseded')]
    const reason = this.#keeps(file, order)
    if (reason === null) {
      this.#held.push(file)
      return before
    }
    const backupId = reason === 'backup' ? (this.#limits.needed?.id ?? null) : null
    // What came before it of the same segment stays with it.
    return [...before, ...this.#release(true, reason, backupId), verdict(file, true, reason, backupId)]
  }

  end(): readonly WalVerdict<File>[] {
    return this.#release(true, 'newest')
  }

  #keeps(file: File, order: Order): 'backup' | 'window' | 'making' | null {
    const { needed, window, young, begins } = this.#limits
    const wasKept = this.#kept
    this.#kept ??= window !== null && order >= window ? 'window' : young(file)
    if (wasKept === null && this.#kept !== null) begins(order)
    return needed !== null && order >= needed.order ? 'backup' : this.#kept
  }

  #release(keep: boolean, reason: WalRetentionReason, backupId: string | null = null): WalVerdict<File>[] {
    const held = this.#held
    this.#held = []
    return held.map((file) => verdict(file, keep, reason, backupId))
  }
}

function verdict<File extends StoredWalFile>(
  file: File,
  keep: boolean,
  reason: WalRetentionReason,
  backupId: string | null = null,
): WalVerdict<File> {
  return { file, keep, reason, backupId }
}

/** Null for what is no segment or partial, of any segment size. */
function orderOf(name: string): Order | null {
  const kind = walFileKind(name)
  const within = Number.parseInt(name.slice(16, 24), 16)
  if ((kind !== 'segment' && kind !== 'partial') || within >= mostPerLog) return null
  return Number.parseInt(name.slice(8, 16), 16) * mostPerLog + within
}

/** One that pg_receivewal wrote. The server's own is kept with its segment: it may have been written by another server. */
function hasKnownEnd(name: string): boolean {
  return name.length > '.partial'.length + 24
}
