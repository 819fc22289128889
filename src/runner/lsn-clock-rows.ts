import type { DatabaseSync, SQLOutputValue } from 'node:sqlite'
import type { ClockBound, ClockRun } from '../domain/recovery-point.ts'
import { text } from './history-rows.ts'
import type { Access } from './wal-records.ts'

/** A run, and what of it is needed to show the server as it was last seen. */
export interface KeptRun extends ClockRun {
  /** The place of its newest sample, as the server gave it. */
  readonly lastLsn: bigint
  readonly segmentSize: number
}

/** Where a kept run stands in the order of samples, and the moment that it stands for. */
export interface FoundRun {
  readonly seq: number
  readonly at: number
}

const minuteMs = 60_000
const dayMs = 86_400_000
/** One row for each of these is kept, of those that are older. */
const thinning = [
  { olderThanMs: 2 * dayMs, everyMs: minuteMs },
  { olderThanMs: 9 * dayMs, everyMs: 5 * minuteMs },
] as const
const longestMs = 366 * dayMs
/** Kept whatever the clock says: one that is years ahead for a moment must not cost what is known. */
const newestKept = 1000
/** Looked at by one step, so that it takes milliseconds. */
const thinningStep = 1000

/**
 * The clock of the WAL in the state file: runs in the order of their samples. Of one timeline they also are in the order of
 * their places, since those that a crash has made void go: so the newest that is covered is found by one step in an index.
 */
export class LsnClockRows {
  readonly #db: DatabaseSync
  readonly #access: Access
  /** How far each step of the thinning has come, and the row that it kept last. */
  readonly #thinned = thinning.map(() => ({ seq: 0, kept: '' }))

  constructor(db: DatabaseSync, access: Access) {
    this.#db = db
    this.#access = access
  }

  /** The run of the newest sample; null when there is none. */
  newest(): (KeptRun & { readonly seq: number }) | null {
    const row = this.#access.read(() => this.#db.prepare('select * from lsn_clock order by seq desc limit 1').get())
    return row === undefined ? null : { ...runOf(row), seq: Number(row.seq) }
  }

  /**
   * Keeps runs, the oldest first, in one write; `seq` of the first one if it is kept already. Gives the seq of the last.
   */
  save(runs: readonly KeptRun[], seq: number | null, thinAt: number | null): number {
    return this.#access.write(() => {
      let last = seq ?? 0
      for (const [index, run] of runs.entries()) {
        if (index === 0 && seq !== null) this.#update(seq, run)
        else last = this.#insert(run)
      }
      if (thinAt !== null) this.#thin(thinAt)
      return last
    })
  }

  /** The newest run that counts, by the first bound that has any; null: none does. */
  newestCovered(systemIdentifier: string, bounds: readonly ClockBound[]): FoundRun | null {
    return this.#access.read(() => {
      const statement = this.#db.prepare(
        `select seq, at from lsn_clock where system_identifier = ? and timeline = ? and lsn <= ?
         order by lsn desc, seq desc limit 1`,
      )
      for (const { timeline, lsn } of bounds) {
        const row = statement.get(systemIdentifier, timeline, digits(lsn))
        if (row !== undefined) return { seq: Number(row.seq), at: Number(row.at) }
      }
      return null
    })
  }

  /** The earliest moment, after a run, before which the server's clock was set back; null: it never was. */
  leastAfter(systemIdentifier: string, seq: number): number | null {
    return this.#access.read(() => {
      const row = this.#db
        .prepare(
          'select min(least_at) as least from lsn_clock where system_identifier = ? and seq > ? and went_back = 1',
        )
        .get(systemIdentifier, seq)
      return row?.least == null ? null : Number(row.least)
    })
  }

  /** The first place of a timeline that stands for a moment not before this one; null: none does. */
  firstReaching(systemIdentifier: string, timeline: number, at: number): bigint | null {
    return this.#access.read(() => {
      const row = this.#db
        .prepare('select min(lsn) as lsn from lsn_clock where system_identifier = ? and timeline = ? and at >= ?')
        .get(systemIdentifier, timeline, at)
      return row?.lsn == null ? null : BigInt(`0x${text(row.lsn)}`)
    })
  }

  #insert(run: KeptRun): number {
    // A standby that lags behind says nothing of what is lost. Where the clock was set back stays known.
    if (run.state !== null) {
      this.#db
        .prepare('delete from lsn_clock where system_identifier = ? and timeline = ? and lsn > ? and went_back = 0')
        .run(run.systemIdentifier, run.timeline, digits(run.lsn))
    }
    const { lastInsertRowid } = this.#db
      .prepare(
        `insert into lsn_clock (system_identifier, timeline, state, lsn, last_lsn, segment_size, at, least_at, went_back)
         values (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      )
      .run(
        run.systemIdentifier,
        run.timeline,
        run.state,
        digits(run.lsn),
        digits(run.lastLsn),
        run.segmentSize,
        run.at,
        run.leastAt,
        Number(run.wentBack),
      )
    return Number(lastInsertRowid)
  }

  #update(seq: number, { lastLsn, at, leastAt, wentBack }: KeptRun): void {
    this.#db
      .prepare('update lsn_clock set last_lsn = ?, at = ?, least_at = ?, went_back = ? where seq = ?')
      .run(digits(lastLsn), at, leastAt, Number(wentBack), seq)
  }

  /** Drops rows that lie close together, a few at a time. What is left gives an older answer, never a newer one. */
  #thin(now: number): void {
    const newest = Number(this.#db.prepare('select max(seq) as seq from lsn_clock').get()?.seq ?? 0)
    const limit = newest - newestKept
    const drop = this.#db.prepare('delete from lsn_clock where seq = ?')
    const after = this.#db.prepare(
      `select seq, system_identifier, timeline, at, went_back from lsn_clock where seq > ? and seq <= ?
       order by seq limit ${thinningStep}`,
    )
    for (const { seq, at } of after.all(0, limit)) {
      if (now - Number(at) <= longestMs) break
      drop.run(Number(seq))
    }
    for (const [index, { olderThanMs, everyMs }] of thinning.entries()) {
      const progress = this.#thinned[index]
      for (const row of progress === undefined ? [] : after.all(progress.seq, limit)) {
        if (progress === undefined || now - Number(row.at) <= olderThanMs) break
        const place = `${text(row.system_identifier)} ${Number(row.timeline)} ${Math.floor(Number(row.at) / everyMs)}`
        if (place === progress.kept && row.went_back === 0) drop.run(Number(row.seq))
        progress.kept = place
        progress.seq = Number(row.seq)
      }
    }
  }
}

function runOf(row: Readonly<Record<string, SQLOutputValue>>): KeptRun {
  return {
    systemIdentifier: text(row.system_identifier),
    timeline: Number(row.timeline),
    state: row.state === null ? null : text(row.state),
    lsn: BigInt(`0x${text(row.lsn)}`),
    lastLsn: BigInt(`0x${text(row.last_lsn)}`),
    segmentSize: Number(row.segment_size),
    at: Number(row.at),
    leastAt: Number(row.least_at),
    wentBack: row.went_back === 1,
  }
}

/** So that their order is that of text: the numbers of SQLite end at 63 bits. */
function digits(lsn: bigint): string {
  return lsn.toString(16).toUpperCase().padStart(16, '0')
}
