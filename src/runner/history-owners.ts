import type { DatabaseSync } from 'node:sqlite'
import { text } from './history-rows.ts'
import { isAlive, type ProcessIdentity } from './process-identity.ts'

/** Processes other than `self` that answer for an unfinished run or hold a lane, and are dead. */
export function deadOwners(db: DatabaseSync, self: ProcessIdentity): readonly ProcessIdentity[] {
  return db
    .prepare(
      `select pid, process_start, boot_id from runs where state in ('queued', 'running')
       union select pid, process_start, boot_id from lanes`,
    )
    .all()
    .map((row) => ({ pid: Number(row.pid), startTime: text(row.process_start), bootId: text(row.boot_id) }))
    .filter((owner) => !isSame(owner, self) && !isAlive(owner))
}

/** The queued and running runs of a process, oldest first. */
export function unfinishedOf(
  db: DatabaseSync,
  { pid, startTime, bootId }: ProcessIdentity,
): readonly { id: string; state: 'queued' | 'running' }[] {
  return db
    .prepare(
      `select id, state from runs where state in ('queued', 'running')
       and pid = ? and process_start = ? and boot_id = ? order by seq`,
    )
    .all(pid, startTime, bootId)
    .map((row) => ({ id: text(row.id), state: row.state === 'queued' ? 'queued' : 'running' }))
}

/** Frees every lane that a process holds. */
export function freeLanesOf(db: DatabaseSync, { pid, startTime, bootId }: ProcessIdentity): void {
  db.prepare('delete from lanes where pid = ? and process_start = ? and boot_id = ?').run(pid, startTime, bootId)
}

function isSame(left: ProcessIdentity, right: ProcessIdentity): boolean {
  return left.pid === right.pid && left.startTime === right.startTime && left.bootId === right.bootId
}
