import type { SegmentRange } from '../domain/segment-set.ts'
import { text } from './history-rows.ts'
import { parseRanges, rangesText } from './wal-ranges.ts'
import { WalRows } from './wal-rows.ts'

/** Segments that lie side by side in a repository, and what lies with them. */
export interface KeptShelf {
  readonly systemIdentifier: string
  readonly timeline: number
  readonly shelf: number
  readonly ranges: readonly SegmentRange[]
  /** As stored, partials included. */
  readonly bytes: number
  /** Names and contents of partials, `<name>-<12 hex>`, and their bytes. */
  readonly partials: Readonly<Record<string, number>>
  /** Numbers of segments of which two contents are stored. */
  readonly contradictions: readonly number[]
}

/** What is known of the WAL in one repository. */
export interface KeptIndex {
  /** When all of it was listed last, null: never. */
  readonly listedAt: Date | null
  /** By system identifier. */
  readonly segmentSizes: ReadonlyMap<string, number>
  readonly shelves: readonly KeptShelf[]
}

/** A part of the index that is to be written; of a shelf that is `gone` there is nothing any more. */
export interface IndexChange {
  /** Systems of which nothing counts that was kept. */
  readonly forget: readonly string[]
  readonly listedAt: Date | null
  readonly segmentSizes: ReadonlyMap<string, number>
  readonly shelves: readonly (
    | KeptShelf
    | (Pick<KeptShelf, 'systemIdentifier' | 'timeline' | 'shelf'> & { gone: true })
  )[]
}

/** The index of the WAL that repositories hold. It counts for the repository that it was made of, and no other of that name. */
export class WalIndexRows extends WalRows {
  /** Null where nothing is known of this repository. */
  load(repository: string, cluster: string): KeptIndex | null {
    return this.access.read(() => {
      const identity = this.identityOf(repository, cluster)
      const index = this.db
        .prepare('select listed_at, sizes from wal_index where repository = ? and cluster = ? and identity = ?')
        .get(repository, cluster, identity ?? '')
      if (index === undefined || identity === null) return null
      const rows = this.db.prepare('select * from wal_shelves where repository = ? and cluster = ?')
      return {
        listedAt: index.listed_at === null ? null : new Date(text(index.listed_at)),
        segmentSizes: new Map(Object.entries(JSON.parse(text(index.sizes)) as Record<string, number>)),
        shelves: rows.all(repository, cluster).map((row) => ({
          systemIdentifier: text(row.system),
          timeline: Number(row.timeline),
          shelf: Number(row.shelf),
          ranges: [...parseRanges(text(row.ranges)).ranges()],
          bytes: Number(row.bytes),
          partials: JSON.parse(text(row.partials)) as Record<string, number>,
          contradictions: JSON.parse(text(row.contradictions)) as number[],
        })),
      }
    })
  }

  /**
   * Writes what has changed, unless the repository is not the one any more that it is known of. What was kept of another
   * one goes.
   */
  save(repository: string, cluster: string, identity: string, change: IndexChange): void {
    this.access.write(() => {
      if (this.identityOf(repository, cluster) !== identity) return
      const kept = this.db
        .prepare('select identity from wal_index where repository = ? and cluster = ?')
        .get(repository, cluster)
      if (kept !== undefined && kept.identity !== identity)
        this.db.prepare('delete from wal_shelves where repository = ? and cluster = ?').run(repository, cluster)
      const forget = this.db.prepare('delete from wal_shelves where repository = ? and cluster = ? and system = ?')
      for (const system of change.forget) forget.run(repository, cluster, system)
      this.db
        .prepare('insert or replace into wal_index values (?, ?, ?, ?, ?)')
        .run(
          repository,
          cluster,
          identity,
          change.listedAt?.toISOString() ?? null,
          JSON.stringify(Object.fromEntries(change.segmentSizes)),
        )
      const put = this.db.prepare('insert or replace into wal_shelves values (?, ?, ?, ?, ?, ?, ?, ?, ?)')
      const drop = this.db.prepare(
        'delete from wal_shelves where repository = ? and cluster = ? and system = ? and timeline = ? and shelf = ?',
      )
      for (const one of change.shelves) {
        const key = [repository, cluster, one.systemIdentifier, one.timeline, one.shelf] as const
        if ('gone' in one) drop.run(...key)
        else
          put.run(
            ...key,
            rangesText(one.ranges),
            one.bytes,
            JSON.stringify(one.partials),
            JSON.stringify(one.contradictions),
          )
      }
    })
  }
}
