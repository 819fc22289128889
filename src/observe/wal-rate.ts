import type { WalClockState } from './wal-state.ts'

interface Mark {
  readonly atMs: number
  readonly lsn: bigint
}

const longestMs = 3_600_000
const everyMs = 60_000

/** How fast the server writes WAL: over the last hour, or as long as it has been watched. */
export class WalRate {
  #line = ''
  #marks: Mark[] = []

  /** Notes a look; gives bytes per second, null while there is nothing to compare with. */
  note(
    { systemIdentifier, timeline, lsn }: Pick<WalClockState, 'systemIdentifier' | 'timeline' | 'lsn'>,
    atMs: number,
  ): number | null {
    const line = `${systemIdentifier} ${timeline}`
    const last = this.#marks.at(-1)
    // Another server, or one that lost WAL in a crash: what was before says nothing.
    if (line !== this.#line || (last !== undefined && lsn < last.lsn)) this.#marks = []
    this.#line = line
    const newest = this.#marks.at(-1)
    if (newest === undefined || atMs - newest.atMs >= everyMs) this.#marks.push({ atMs, lsn })
    // The one that is just too old stays, so that a whole hour can be seen.
    while ((this.#marks[1]?.atMs ?? atMs) <= atMs - longestMs) this.#marks.shift()
    const first = this.#marks[0]
    if (first === undefined || atMs - first.atMs < 1000) return null
    return Number(lsn - first.lsn) / ((atMs - first.atMs) / 1000)
  }
}
