import type { DatabaseSync } from 'node:sqlite'
import { text } from './history-rows.ts'
import { isAlive, type ProcessIdentity } from './process-identity.ts'

/** How often a process that answers for a run or a lane must call `beat`. */
export const beatMs = 30_000

/** A process of another PID namespace that has not called for so long is dead: ten beats. */
const silenceMs = 10 * beatMs

const isOwner = 'pid = ? and process_start = ? and boot_id = ? and pid_namespace = ?'

/** The columns of an owner, in the order of the tables. */
export function ownerValues(owner: ProcessIdentity): [number, string, string, string] {
  return [owner.pid, owner.startTime, owner.bootId, owner.pidNamespace]
}

/**
 * Processes other than `self` that answer for an unfinished run or hold a lane, and are dead. Those of the own PID
 * namespace are looked up; of those of another, a container's, only the heartbeat tells.
 */
export function deadOwners(db: DatabaseSync, self: ProcessIdentity, now: Date): readonly ProcessIdentity[] {
  return db
    .prepare(
      `select owner.*, beat_at from (
         select pid, process_start, boot_id, pid_namespace from runs where state in ('queued', 'running')
         union select pid, process_start, boot_id, pid_namespace from lanes) as owner
       left join owners using (pid, process_start, boot_id, pid_namespace)`,
    )
    .all()
    .map((row) => ({
      owner: {
        pid: Number(row.pid),
        startTime: text(row.process_start),
        bootId: text(row.boot_id),
        // Written before there were namespaces here: it is taken for the own one, as it was then.
        pidNamespace: text(row.pid_namespace),
      },
      beatAt: row.beat_at === null ? 0 : Date.parse(text(row.beat_at)),
    }))
    .filter(({ owner, beatAt }) => {
      if (isSame(owner, self)) return false
      const isForeign = owner.pidNamespace !== '' && owner.pidNamespace !== self.pidNamespace
      return isForeign ? now.getTime() - beatAt > silenceMs : !isAlive(owner)
    })
    .map(({ owner }) => owner)
}

/** Shows that a process lives, and forgets those that answer for nothing any more. */
export function beat(db: DatabaseSync, self: ProcessIdentity, now: Date): void {
  db.prepare('insert or replace into owners values (?, ?, ?, ?, ?)').run(...ownerValues(self), now.toISOString())
  db.prepare(
    `delete from owners where not (${isOwner})
     and (pid, process_start, boot_id, pid_namespace) not in (
       select pid, process_start, boot_id, pid_namespace from runs where state in ('queued', 'running')
       union select pid, process_start, boot_id, pid_namespace from lanes)`,
  ).run(...ownerValues(self))
}

/** Whether a process answers for an unfinished run or holds a lane. */
export function answersForAnything(db: DatabaseSync, owner: ProcessIdentity): boolean {
  const values = ownerValues(owner)
  const row = db
    .prepare(
      `select exists (select 1 from runs where state in ('queued', 'running') and ${isOwner})
         or exists (select 1 from lanes where ${isOwner}) as answers`,
    )
    .get(...values, ...values)
  return row?.answers === 1
}

/** The queued and running runs of a process, oldest first. */
export function unfinishedOf(
  db: DatabaseSync,
  owner: ProcessIdentity,
): readonly { id: string; state: 'queued' | 'running' }[] {
  return db
    .prepare(`select id, state from runs where state in ('queued', 'running') and ${isOwner} order by seq`)
    .all(...ownerValues(owner))
    .map((row) => ({ id: text(row.id), state: row.state === 'queued' ? 'queued' : 'running' }))
}

/** Frees every lane that a process holds. */
export function freeLanesOf(db: DatabaseSync, owner: ProcessIdentity): void {
  db.prepare(`delete from lanes where ${isOwner}`).run(...ownerValues(owner))
}

function isSame(left: ProcessIdentity, right: ProcessIdentity): boolean {
  return ownerValues(left).every((value, index) => value === ownerValues(right)[index])
}
