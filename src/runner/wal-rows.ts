import type { DatabaseSync } from 'node:sqlite'
import { text } from './history-rows.ts'
import type { Access } from './wal-records.ts'

/** A kind of record that is kept of the WAL in repositories, and counts for one repository, not for every one of its name. */
export class WalRows {
  protected readonly db: DatabaseSync
  protected readonly access: Access

  constructor(db: DatabaseSync, access: Access) {
    this.db = db
    this.access = access
  }

  /** Which repository a name stands for; null while nothing was ever written there. */
  identity(repository: string, cluster: string): string | null {
    return this.access.read(() => this.identityOf(repository, cluster))
  }

  /** The same, within a transaction. */
  protected identityOf(repository: string, cluster: string): string | null {
    const row = this.db
      .prepare('select id from repositories where repository = ? and cluster = ?')
      .get(repository, cluster)
    return row === undefined ? null : text(row.id)
  }
}
