import type { DatabaseSync } from 'node:sqlite'
import { LsnClockRows } from './lsn-clock-rows.ts'

/** How the history reads and writes its file: with its own errors, and each write a transaction. */
export interface Access {
  read<T>(work: () => T): T
  write<T>(work: () => T): T
}

/** What is kept about the WAL over restarts; each kind of record in a file of its own. */
export class WalRecords {
  readonly lsnClock: LsnClockRows
  protected readonly db: DatabaseSync
  protected readonly access: Access

  constructor(db: DatabaseSync, access: Access) {
    this.db = db
    this.access = access
    this.lsnClock = new LsnClockRows(db, access)
  }
}
