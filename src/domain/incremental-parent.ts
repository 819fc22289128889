import type { Manifest } from './backup.ts'
import { compareLsn } from './lsn.ts'

export interface ParentQuestion {
  /** Of the cluster as it is now. */
  readonly systemIdentifier: string
  readonly timeline: number
  readonly summarizesWal: boolean
  /** The physical backups that every repository holds which is written to, in any order. */
  readonly backups: readonly Manifest[]
  /** Of those, the ones that a verification has refuted. */
  readonly refuted: ReadonlySet<string>
  /** So many backups a chain may have. */
  readonly chainLimit: number
}

/** What an incremental backup builds on, the full one first and the parent last; or why it has to be a full one: `tooLong` is a chain that is
 * sound, and has reached its limit. */
export type ParentChoice =
  | { readonly chain: readonly [Manifest, ...Manifest[]] }
  | { readonly chain: null; readonly reason: string; readonly tooLong?: readonly Manifest[] }

/**
 * Chooses the newest backup of the cluster as it is: of its system identifier and timeline, by its place in the WAL. When
 * its chain cannot be used, a full backup is the safe way on, rather than another branch of the same chain.
 */
export function chooseParent(question: ParentQuestion): ParentChoice {
  const { systemIdentifier, timeline, backups, refuted, chainLimit } = question
  const full = (reason: string) => ({ chain: null, reason })
  if (!question.summarizesWal) return full('summarize_wal is off, so the server cannot tell what has changed')
  const ours = backups.filter((one) => one.systemIdentifier === systemIdentifier)
  const here = ours.filter((one) => one.timeline === timeline)
  // Of two at one place the full one was put together from the chain of the other.
  const newest = here.toSorted(
    (a, b) => compareLsn(b.start.lsn, a.start.lsn) || Number(a.parent !== null) - Number(b.parent !== null),
  )[0]
  if (newest === undefined) {
    if (ours.length > 0) return full(`the server is on timeline ${timeline}, and no backup is`)
    const [other] = backups
    const newCluster = `the system identifier was ${other?.systemIdentifier} and is ${systemIdentifier}, as after pg_upgrade or initdb`
    return full(other === undefined ? 'there is no backup of this cluster to build on' : newCluster)
  }
  const byId = new Map(ours.map((one) => [one.backupId, one]))
  const chain: [Manifest, ...Manifest[]] = [newest]
  for (let first = newest; first.parent !== null; ) {
    const parent = byId.get(first.parent)
    if (parent === undefined)
      return full(`the chain is broken: ${first.backupId} builds on ${first.parent}, which is not there`)
    if (chain.includes(parent)) return full(`the chain is broken: ${parent.backupId} builds on itself`)
    chain.unshift(parent)
    first = parent
  }
  const bad = chain.find(({ backupId }) => refuted.has(backupId))
  if (bad !== undefined) return full(`a verification has refuted ${bad.backupId}, which it would build on`)
  if (chain.length >= chainLimit)
    return {
      ...full(`the chain has ${chain.length} backups, and physical.chainLimit is ${chainLimit}`),
      tooLong: chain,
    }
  return { chain }
}
