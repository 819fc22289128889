import type { RetentionRefusal } from './retention.ts'
import type { Member } from './retention-plan.ts'

/** How the backups of a repository build on one another. */
export interface Chains {
  /** Keeps what a kept backup builds on, for as long. To be called when all other reasons are known. */
  keepParents(): void
  /** A backup that builds on itself: no order of removal is right then. */
  readonly refusal: RetentionRefusal | null
}

/** Reads the chains and sets the depths; a member whose chain is broken or holds one that is not good is not good from now on. */
export function readChains(members: readonly Member[]): Chains {
  const known = new Set<Member>()
  const children = members.filter(({ backup }) => backup.parent !== null)
  const wanted = new Set(children.map(({ backup }) => backup.parent))
  const parents = wanted.size === 0 ? [] : members.filter(({ backup }) => wanted.has(backup.id))
  const byId = new Map(parents.map((one) => [one.backup.id, one]))
  const parentOf = ({ backup }: Member) => (backup.parent === null ? undefined : byId.get(backup.parent))
  let looped: Member | null = null

  for (const member of children) {
    // Upwards to what is known already; a loop, since a chain may be longer than the stack is deep.
    const path: Member[] = []
    const onPath = new Set<Member>()
    let top: Member | undefined = member
    while (top !== undefined && !known.has(top) && !onPath.has(top)) {
      path.push(top)
      onPath.add(top)
      top = parentOf(top)
    }
    if (top !== undefined && onPath.has(top)) {
      looped ??= top
      for (const one of path) {
        one.good = false
        known.add(one)
      }
      continue
    }
    for (const one of path.reverse()) {
      const parent = parentOf(one)
      known.add(one)
      one.depth = parent === undefined ? 0 : parent.depth + 1
      const isBroken = one.backup.parent !== null && parent?.good !== true
      if (isBroken && (parent !== undefined || one.backup.isParentElsewhere !== true)) one.good = false
    }
  }

  return {
    keepParents() {
      for (const one of members) {
        const { isNeededElsewhere = false, mayBeNeededElsewhere = false } = one.backup
        if (!isNeededElsewhere && !mayBeNeededElsewhere) continue
        one.reasons.push(isNeededElsewhere ? 'parent' : 'maybe-parent')
        one.untilMs = Number.POSITIVE_INFINITY
      }
      for (const child of children.toSorted((a, b) => b.depth - a.depth)) {
        const parent = parentOf(child)
        if (parent === undefined || child.reasons.length === 0) continue
        if (!parent.reasons.includes('parent')) parent.reasons.push('parent')
        parent.untilMs = Math.max(parent.untilMs, child.untilMs)
      }
    },
    refusal:
      looped === null
        ? null
        : {
            cause: 'parent-cycle',
            message: `the backup ${looped.backup.id} builds on itself`,
            hint: 'its manifest was edited or is damaged: verify it and look for a good copy in another repository',
          },
  }
}
