import type { DatabaseSync } from 'node:sqlite'
import { LsnClockRows } from './lsn-clock-rows.ts'
import { WalIndexRows } from './wal-index-rows.ts'
import { WalVerifiedRows } from './wal-verified-rows.ts'

/** How the history reads and writes its file: with its own errors, and each write a transaction. */
export interface Access {
  read<T>(work: () => T): T
  write<T>(work: () => T): T
}

/** What is kept about the WAL over restarts; each kind of record in a file of its own. */
export class WalRecords {
  readonly lsnClock: LsnClockRows
  /** What repositories hold. */
  readonly index: WalIndexRows
  /** What of it was read and found whole. */
  readonly verified: WalVerifiedRows

  constructor(db: DatabaseSync, access: Access) {
    this.lsnClock = new LsnClockRows(db, access)
    this.index = new WalIndexRows(db, access)
    this.verified = new WalVerifiedRows(db, access)
  }
}
