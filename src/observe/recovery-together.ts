import { WalCoverage } from '../domain/coverage.ts'
import { standing } from '../domain/proof.ts'
import type { BackupSummary, ProofSummary } from './catalog.ts'
import { planFrom, type RecoveryAnswer, type RecoveryQuestion, type RecoverySource } from './recovery.ts'
import type { StoredSystem, StoredWalState } from './wal-state.ts'

/**
 * How each repository answers, and, where that gets further, how all of them do together: a chain or the WAL may lie in several.
 * Each answer tells which repositories have the backups of its plan.
 */
export function planFromAll(sources: readonly RecoverySource[], question: RecoveryQuestion): readonly RecoveryAnswer[] {
  const answers = sources.map((source) => planFrom(source, question))
  const all = together(question.repository === null ? sources : [])
  const answer = all === null ? null : planFrom(all, question)
  const found = answer !== null && furthest([...answers, answer]) === answer ? [...answers, answer] : answers
  return found.map((one) => ({ ...one, copies: copiesOf(one, sources) }))
}

/**
 * The first that can, unless another one goes further: one that was out of reach for a while lacks what came since, and knows
 * of no later timeline. A place, or a moment that is known to be covered, is the same in all.
 */
export function furthest(answers: readonly RecoveryAnswer[]): RecoveryAnswer | undefined {
  let best: RecoveryAnswer | undefined
  for (const answer of answers) {
    const [found, other] = [answer.plan, best?.plan ?? null]
    if (found === null) continue
    const isFurther =
      other === null ||
      found.timeline > other.timeline ||
      (found.timeline === other.timeline && found.to.lsn > other.to.lsn)
    const isEnough = other?.stop.kind === 'time' && other.stop.mayEnd && other.timeline === found.timeline
    if (isFurther && !isEnough) best = answer
  }
  return best
}

function copiesOf(
  { plan }: RecoveryAnswer,
  sources: readonly RecoverySource[],
): ReadonlyMap<string, readonly string[]> {
  const holders = (id: string) =>
    sources.flatMap(({ repository }) => (repository.backups.some((one) => one.id === id) ? [repository.name] : []))
  return new Map((plan?.chain ?? []).map(({ id }) => [id, holders(id)]))
}

/** What several repositories have, as if it were in one; null where there is nothing to put together. */
function together(sources: readonly RecoverySource[]): RecoverySource | null {
  const listed = sources.filter(({ stored }) => stored !== null && stored.listedAt !== null)
  const [first] = listed
  if (first === undefined || listed.length < 2) return null
  const backups = new Map<string, BackupSummary>()
  const proofs = new Map<string, readonly ProofSummary[]>()
  for (const { repository } of listed) {
    for (const backup of repository.backups) {
      const found = repository.proofs.get(backup.id) ?? []
      // A copy that was not refuted stands for one that was.
      if (backups.has(backup.id) && (standing(proofs.get(backup.id)) !== 'refuted' || standing(found) === 'refuted'))
        continue
      backups.set(backup.id, backup)
      proofs.set(backup.id, found)
    }
  }
  const name = listed.map(({ repository }) => repository.name).join(' and ')
  const stored = listed.flatMap((one) => one.stored ?? [])
  return { ...first, repository: { name, backups: [...backups.values()], proofs }, stored: allWal(name, stored) }
}

function allWal(repository: string, all: readonly StoredWalState[]): StoredWalState {
  const systems = new Map<string, StoredSystem>()
  for (const { systems: some } of all)
    for (const [id, system] of some) {
      const known = systems.get(id)
      if (known !== undefined && known.coverage.segmentSize !== system.coverage.segmentSize) continue
      const { storedBytes: _, ...rest } = known ?? system
      systems.set(
        id,
        known === undefined ? system : { ...rest, coverage: WalCoverage.of(known.coverage, system.coverage) },
      )
    }
  return { repository, systems, revision: 0, listedAt: all[0]?.listedAt ?? null }
}
