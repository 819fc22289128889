import type { Manifest } from './backup.ts'
import { LifeboatError } from './errors.ts'
import { compareLsn } from './lsn.ts'

/** PostgreSQL's major version that a backup is of. */
export function majorOf({ serverVersionNum }: Pick<Manifest, 'serverVersionNum'>): number {
  return Math.floor(serverVersionNum / 10_000)
}

/**
 * True if an incremental backup can be put together with this one as the one before it. What counts is where that one
 * starts in the WAL, of the same cluster; the id is that of the backup which was there when the child was taken.
 */
export function buildsOn(child: Manifest, parent: Manifest): boolean {
  if (child.systemIdentifier !== parent.systemIdentifier || majorOf(child) !== majorOf(parent)) return false
  if (child.parent === parent.backupId) return true
  const basis = child.physical?.basis
  return basis !== undefined && basis.timeline === parent.timeline && compareLsn(basis.lsn, parent.start.lsn) === 0
}

/**
 * The last backup of a chain that begins with a full one and of which each builds on the one before.
 *
 * @throws LifeboatError `not-recoverable`
 */
export function assertChain(chain: readonly Manifest[]): Manifest {
  let before: Manifest | null = null
  for (const member of chain) {
    if (member.physical === undefined) throw broken(`${member.backupId} is not a physical backup`)
    if (before === null && member.type !== 'full')
      throw broken(`${member.backupId} builds on ${member.parent}, which is not there`)
    if (before !== null && (member.type !== 'incremental' || !buildsOn(member, before)))
      throw broken(`${member.backupId} does not build on ${before.backupId}${why(member, before)}`)
    before = member
  }
  if (before === null) throw broken('it has no backup')
  return before
}

function why(child: Manifest, parent: Manifest): string {
  if (child.systemIdentifier !== parent.systemIdentifier) return ', which is of another cluster'
  return majorOf(child) === majorOf(parent) ? '' : ', which is of another major version of PostgreSQL'
}

function broken(why: string): LifeboatError {
  return new LifeboatError('not-recoverable', `the chain is broken: ${why}`, {
    hint: 'choose another backup, or look for what is missing in another repository: lifeboat list',
  })
}
