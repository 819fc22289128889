import { type SegmentRange, SegmentSet } from '../domain/segment-set.ts'
import { text } from './history-rows.ts'
import { parseRanges, rangesText } from './wal-ranges.ts'
import { WalRows } from './wal-rows.ts'

/** The WAL of one timeline in one repository. */
export interface VerifiedPlace {
  readonly repository: string
  readonly cluster: string
  readonly systemIdentifier: string
  readonly timeline: number
}

/** A stored file of WAL that is not what it must be. */
export interface BadWal {
  readonly systemIdentifier: string
  /** PostgreSQL's name of the file. */
  readonly name: string
  /** 12 hexadecimal digits, as in the key; null for a history. */
  readonly hash: string | null
  /** A stable word: `other-content`. */
  readonly problem: string
  readonly detail: string
  readonly foundAt: Date
}

/** Which stored WAL was read and found whole, as ranges, and which was not. Both count for one repository, as the index does. */
export class WalVerifiedRows extends WalRows {
  verified(place: VerifiedPlace): SegmentSet {
    return this.access.read(() => this.#verified(place))
  }

  /** Adds segments. Several processes may do so at once. */
  noteVerified(place: VerifiedPlace, ranges: Iterable<SegmentRange>): void {
    this.access.write(() => {
      const set = this.#verified(place)
      for (const { first, last } of ranges) set.addRange(first, last)
      this.#put(place, set)
    })
  }

  /** These and no others: what is not stored any more does not count when it is stored again. */
  setVerified(place: VerifiedPlace, segments: SegmentSet): void {
    this.access.write(() => this.#put(place, segments))
  }

  /** What was found to be bad in a repository, in the order of names. */
  badSegments(repository: string, cluster: string): readonly BadWal[] {
    return this.access.read(() =>
      this.db
        .prepare(
          'select * from wal_bad where repository = ? and cluster = ? and identity = ? order by system, name, hash',
        )
        .all(repository, cluster, this.identityOf(repository, cluster) ?? '')
        .map((row) => ({
          systemIdentifier: text(row.system),
          name: text(row.name),
          hash: row.hash === '' ? null : text(row.hash),
          problem: text(row.problem),
          detail: text(row.detail),
          foundAt: new Date(text(row.found_at)),
        })),
    )
  }

  noteBad(repository: string, cluster: string, bad: BadWal): void {
    this.access.write(() => {
      const identity = this.identityOf(repository, cluster)
      if (identity === null) return
      const { systemIdentifier, name, hash, problem, detail, foundAt } = bad
      this.db
        .prepare('insert or replace into wal_bad values (?, ?, ?, ?, ?, ?, ?, ?, ?)')
        .run(repository, cluster, systemIdentifier, name, hash ?? '', identity, problem, detail, foundAt.toISOString())
    })
  }

  /** It was read again and is whole, or it is not there any more. */
  forgetBad(repository: string, cluster: string, bad: Pick<BadWal, 'systemIdentifier' | 'name' | 'hash'>): void {
    this.access.write(() =>
      this.db
        .prepare('delete from wal_bad where repository = ? and cluster = ? and system = ? and name = ? and hash = ?')
        .run(repository, cluster, bad.systemIdentifier, bad.name, bad.hash ?? ''),
    )
  }

  #put({ repository, cluster, systemIdentifier, timeline }: VerifiedPlace, set: SegmentSet): void {
    const identity = this.identityOf(repository, cluster)
    if (identity === null) return
    this.db
      .prepare('insert or replace into wal_verified values (?, ?, ?, ?, ?, ?)')
      .run(repository, cluster, systemIdentifier, timeline, identity, rangesText(set.ranges()))
  }

  #verified({ repository, cluster, systemIdentifier, timeline }: VerifiedPlace): SegmentSet {
    const row = this.db
      .prepare(
        `select ranges from wal_verified
           where repository = ? and cluster = ? and system = ? and timeline = ? and identity = ?`,
      )
      .get(repository, cluster, systemIdentifier, timeline, this.identityOf(repository, cluster) ?? '')
    return row === undefined ? new SegmentSet() : parseRanges(text(row.ranges))
  }
}
