import type { WalCoverage, WalPosition } from './coverage.ts'
import { LifeboatError } from './errors.ts'

/** A physical backup. */
export interface PlanBackup {
  readonly id: string
  readonly type: 'full' | 'incremental'
  readonly parent: string | null
  readonly start: WalPosition
  /** Where it is consistent, and when: it restores no earlier moment. */
  readonly stop: WalPosition
  readonly finishedAt: Date
  readonly storedBytes: number
  /** What comes out of its archives, bytes. */
  readonly plainBytes: number
  /** What the server had to send, bytes: of a full backup the size of the cluster; null: not known. */
  readonly sourceBytes: number | null
  /** As `server_version` gives it. */
  readonly serverVersion: string
  /** A verification has refuted it. */
  readonly isRefuted: boolean
  /** A restore has proven it. */
  readonly isProven: boolean
  /** Of another cluster than the one that is to be restored, as before an upgrade: only named where somebody builds on it. */
  readonly otherCluster: string | null
}

/** A backup, and how far the WAL leads from it. */
export interface Candidate {
  readonly chain: readonly PlanBackup[]
  readonly backup: PlanBackup
  readonly end: WalPosition
  readonly isConsistent: boolean
}

/** From where a recovery may begin. */
export interface CandidateOptions {
  /** Of the cluster that is to be restored, all that one repository holds. */
  readonly backups: readonly PlanBackup[]
  /** The WAL that it holds. */
  readonly coverage: WalCoverage
  /** To which timeline. */
  readonly timeline: number
  /** Only from this backup on; null: from any. */
  readonly backup: string | null
}

/**
 * The usable backups on the way to the timeline, the newest first, and why the others are none.
 *
 * @throws LifeboatError `not-found` for a backup that is not there
 */
export function findCandidates({ backups, coverage, timeline, backup: wanted }: CandidateOptions): {
  readonly found: readonly Candidate[]
  readonly broken: readonly string[]
} {
  const byId = new Map(backups.map((backup) => [backup.id, backup]))
  if (wanted !== null && !byId.has(wanted))
    throw new LifeboatError('not-found', `there is no physical backup ${wanted} of this cluster`, {
      hint: 'see lifeboat list',
    })
  const broken: string[] = []
  const found = [...byId.values()]
    .filter(({ id, otherCluster }) => (wanted === null ? otherCluster === null : id === wanted))
    .flatMap((backup): Candidate[] => {
      const chain = chainOf(backup, byId)
      if (typeof chain === 'string') {
        broken.push(chain)
        return []
      }
      if (!coverage.timelines.leadsTo(backup.start, timeline)) {
        broken.push(`${backup.id} is not on the way to timeline ${timeline}`)
        return []
      }
      const end = coverage.reach({ from: backup.start, target: timeline })?.end ?? backup.start
      return [{ chain, backup, end, isConsistent: end.lsn >= backup.stop.lsn }]
    })
  // Of two that start at one place one was put together from the chain of the other: the shorter one is there sooner.
  found.sort((a, b) => Number(b.backup.start.lsn - a.backup.start.lsn) || a.chain.length - b.chain.length)
  return { found, broken }
}

/** The major version of a server, e.g. `17` of `17.2 (Debian 17.2-1)`. */
export function majorOf({ serverVersion }: Pick<PlanBackup, 'serverVersion'>): string {
  return /^\d+/.exec(serverVersion)?.[0] ?? serverVersion
}

/** The chain of a backup, oldest first, or why it is none. */
function chainOf(backup: PlanBackup, byId: ReadonlyMap<string, PlanBackup>): readonly PlanBackup[] | string {
  const chain: PlanBackup[] = []
  for (let member: PlanBackup | undefined = backup; ; member = byId.get(member.parent ?? '')) {
    const child = chain[0]
    if (member === undefined) return `${child?.parent ?? 'a backup'}, on which ${child?.id} builds, is not there`
    if (chain.includes(member)) return `${member.id} builds on itself`
    if (member.otherCluster !== null)
      return `${member.id}${child === undefined ? '' : `, on which ${child.id} builds,`} is of another cluster, ${member.otherCluster}: pg_upgrade and initdb make one`
    if (child !== undefined && majorOf(child) !== majorOf(member))
      return `${child.id} is of PostgreSQL ${majorOf(child)}, and ${member.id}, on which it builds, of ${majorOf(member)}`
    if (member.isRefuted) return `${member.id} failed its verification`
    chain.unshift(member)
    if (member.type === 'full') return chain
  }
}
