import { LifeboatError } from './errors.ts'
import { parseLsn } from './lsn.ts'
import { historyName } from './wal.ts'

/** Where a timeline was left for the next one. */
export interface TimelineSwitch {
  /** The timeline that was left. */
  readonly timeline: number
  /** The first place that is no longer on it. */
  readonly lsn: bigint
  /** PostgreSQL's words, for people: `no recovery target specified`, `before 2026-03-01 …`. */
  readonly reason: string
}

/** What a history file says: all that a timeline descends from, the oldest first. */
export interface TimelineHistory {
  readonly timeline: number
  readonly switches: readonly TimelineSwitch[]
}

/** A part of the WAL that leads to a timeline, and the timeline that it is on. */
export interface Stretch {
  readonly timeline: number
  readonly begin: bigint
  /** The first place that is not in it any more; null for the timeline's own, which has no end yet. */
  readonly end: bigint | null
}

// The place must be followed by something, and be it the end of the line: a torn `0/30` of `0/3000028` is not.
const switchPattern = /^[ \t]*(\d{1,10})[ \t]+([0-9A-Fa-f]{1,8}\/[0-9A-Fa-f]{1,8})(?:[ \t](.*)|\r?)$/s

/**
 * Reads the history file of a timeline: one line for each switch, of the parent's number, the place and a reason;
 * comments after `#` and blank lines in between. PostgreSQL takes a file without any switch to mean that the timeline has
 * no parents; we do not, since it never writes one: it is torn.
 * Source: src/backend/access/transam/timeline.c
 *
 * @throws LifeboatError `wal-invalid` when the file is not whole or not a history of this timeline
 */
export function parseHistory(timeline: number, text: string): TimelineHistory {
  const name = historyName(timeline)
  const invalid = (problem: string) =>
    new LifeboatError('wal-invalid', `the timeline history ${name} ${problem}`, {
      hint: `fetch ${name} again from the server's pg_wal or another copy of the archive, and remove this one`,
    })
  const lines = text.split('\n')
  const unfinished = lines.pop() ?? ''
  const switches: TimelineSwitch[] = []
  const read = (line: string, number: number) => {
    if (/^\s*(?:#|$)/.test(line)) return
    const [, parent, place, reason = ''] = switchPattern.exec(line) ?? []
    const lsn = place === undefined ? null : parseLsn(place)
    if (parent === undefined || lsn === null)
      throw invalid(`has a line ${number} that is no switch of timelines: ${JSON.stringify(line.slice(0, 100))}`)
    const last = switches.at(-1)
    if (Number(parent) <= (last?.timeline ?? 0) || Number(parent) >= timeline)
      throw invalid(`names the timeline ${parent} in line ${number}: not one after its parent and before ${timeline}`)
    if (lsn === 0n) throw invalid(`leaves the timeline ${parent} in line ${number} before it begins`)
    switches.push({ timeline: Number(parent), lsn, reason: reason.trim() })
  }
  for (const [index, line] of lines.entries()) read(line, index + 1)
  if (/\/[0-9A-Fa-f]*$/.test(unfinished)) throw invalid('ends within its last line')
  read(unfinished, lines.length + 1)
  if (switches.length === 0) throw invalid('names no parent')
  return { timeline, switches }
}

/**
 * The WAL that leads to a timeline, from the beginning on: the stretches follow one another without a gap. A server that
 * was to go to timeline 3 and found no more WAL on 2 writes that it has left 3, at a place before 3 begins: it has never
 * been there, and what counts of the older ones ends at that place.
 */
export function lineage({ timeline, switches }: TimelineHistory): readonly Stretch[] {
  const stretches: Stretch[] = []
  let end: bigint | null = null
  for (const [index, { timeline: parent, lsn }] of [...switches.entries()].reverse()) {
    if (end === null || lsn < end) end = lsn
    const begin = switches[index - 1]?.lsn ?? 0n
    if (begin <= end) stretches.unshift({ timeline: parent, begin, end })
  }
  return [...stretches, { timeline, begin: switches.at(-1)?.lsn ?? 0n, end: null }]
}

/** The stretch that holds the byte at a place. Every place is on exactly one. */
export function stretchAt(stretches: readonly Stretch[], lsn: bigint): Stretch {
  const found = stretches.findLast(({ begin, end }) => begin <= lsn && (end === null || lsn < end))
  if (found === undefined) throw new RangeError(`the lineage does not hold ${lsn}`)
  return found
}

/** The timelines of one cluster, as far as their history files are known. */
export class Timelines {
  readonly #histories = new Map<number, TimelineHistory>()

  constructor(histories: Iterable<TimelineHistory> = []) {
    for (const history of histories) this.add(history)
  }

  /** What is known in two places. */
  static of(one: Timelines, other: Timelines): Timelines {
    return new Timelines([...other.#histories.values(), ...one.#histories.values()])
  }

  add(history: TimelineHistory): void {
    this.#histories.set(history.timeline, history)
  }

  remove(timeline: number): void {
    this.#histories.delete(timeline)
  }

  /** Those whose history is known, and those that a history names; ascending. */
  known(): readonly number[] {
    const all = [...this.#histories.values()].flatMap(({ timeline, switches }) => [
      timeline,
      ...switches.map((one) => one.timeline),
    ])
    return [...new Set(all)].sort((a, b) => a - b)
  }

  /** True if all that leads to this timeline is known. The first has no history file. */
  isKnown(timeline: number): boolean {
    return timeline === 1 || this.#histories.has(timeline)
  }

  /** The WAL that leads to a timeline. Without its history file nothing is assumed but the timeline itself. */
  lineage(timeline: number): readonly Stretch[] {
    return lineage(this.#histories.get(timeline) ?? { timeline, switches: [] })
  }

  /** The timelines that begin on this one, in the order of their places: it may have been left more than once. */
  forks(timeline: number): readonly { readonly timeline: number; readonly lsn: bigint }[] {
    return [...this.#histories.values()]
      .flatMap((history) => {
        const parent = lineage(history).at(-2)
        return parent?.timeline === timeline && parent.end !== null
          ? [{ timeline: history.timeline, lsn: parent.end }]
          : []
      })
      .sort((a, b) => (a.lsn === b.lsn ? a.timeline - b.timeline : a.lsn < b.lsn ? -1 : 1))
  }

  /** True if whoever stands at a place on one timeline can go on to the other by replaying WAL. */
  leadsTo(from: { readonly timeline: number; readonly lsn: bigint }, timeline: number): boolean {
    return stretchAt(this.lineage(timeline), from.lsn).timeline === from.timeline
  }

  /**
   * The newest timeline, by number, that can be reached from a place. A stray history file (a restored copy that was let
   * near the archive) leads astray: who knows the server's own timeline says it.
   */
  newestFrom(from: { readonly timeline: number; readonly lsn: bigint }): number {
    const reachable = [...this.#histories.keys()].filter((timeline) => this.leadsTo(from, timeline))
    return reachable.reduce((a, b) => Math.max(a, b), from.timeline)
  }
}
