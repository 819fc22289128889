import type { RetentionDecision, RetentionPlan } from './retention.ts'
import { type PlanInput, planRetention } from './retention-plan.ts'

/**
 * A plan for files of which it is not known whether they could be restored, since nobody has read them: each such file
 * counts for itself and against itself. What goes is what would go if all of them were sound, and if none of them were.
 *
 * @param isUncertain by the id; what is sound or broken for certain is `usable` or not
 */
export function planUncertain(input: PlanInput, isUncertain: (id: string) => boolean): RetentionPlan {
  const assume = (usable: boolean) =>
    planRetention({
      ...input,
      backups: input.backups.map((backup) => (isUncertain(backup.id) ? { ...backup, usable } : backup)),
    })
  const sound = assume(true)
  if (!input.backups.some(({ id }) => isUncertain(id))) return sound
  const broken = assume(false)
  const decisions = new Map<string, RetentionDecision>()
  for (const [id, decision] of sound.decisions)
    decisions.set(id, either(decision, broken.decisions.get(id) ?? decision))
  const needs = new Map(broken.removals.map((removal) => [removal.id, removal.needs]))
  const removals = sound.removals.flatMap(({ id, needs: own }) => {
    const others = needs.get(id)
    return others === undefined ? [] : [{ id, needs: [...new Set([...own, ...others])] }]
  })
  return { ...sound, decisions, removals }
}

function either(a: RetentionDecision, b: RetentionDecision): RetentionDecision {
  const keeping = [a, b].filter(({ keep }) => keep)
  if (keeping.length === 0) return a
  const ends = keeping.map(({ until }) => until)
  const until = ends.includes(null) ? null : new Date(Math.max(...ends.map((end) => end?.getTime() ?? 0)))
  return { keep: true, reasons: [...new Set(keeping.flatMap(({ reasons }) => reasons))], until }
}
