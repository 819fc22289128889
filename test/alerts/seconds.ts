import { type Rule, type RuleGroup, ruleGroups } from '../../src/alerts/render.ts'

/** Half an hour becomes a second. */
const faster = 1800
/** Fewer samples than so many seconds hold would make a range of none. */
const shortestRange = 10

const units: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 }

/** Seconds of a duration of one unit, as all in the rules are. */
export function secondsOf(duration: string): number {
  const [, count = '', unit = ''] = /^(\d+)([smhdw])$/.exec(duration) ?? []
  const seconds = units[unit]
  if (seconds === undefined) throw new Error(`what is ${duration}?`)
  return Number(count) * seconds
}

/** As often as all others, if that is seldom enough. */
function seldom(interval: string): string {
  return `${Math.max(1, Math.ceil(secondsOf(interval) / faster))}s`
}

function inSeconds(rule: Rule): Rule {
  const expr = rule.expr.replaceAll(/\[(\w+)(:\w+)?\]/g, (_, range: string, step: string | undefined) => {
    const seconds = Math.max(shortestRange, Math.round(secondsOf(range) / faster))
    return `[${seconds}s${step === undefined ? '' : ':1s'}]`
  })
  if ('record' in rule || rule.for === undefined) return { ...rule, expr }
  return { ...rule, expr, for: `${Math.round((secondsOf(rule.for) * 1000) / faster)}ms` }
}

/**
 * The rules that are shipped, but for their times: every `for`, every range and the intervals of groups are 1800 times
 * shorter, and an interval no less than a second. What is compared, and with what, stays.
 */
export function rulesInSeconds(): readonly RuleGroup[] {
  return ruleGroups().map((group) => ({
    ...group,
    ...(group.interval === undefined ? {} : { interval: seldom(group.interval) }),
    rules: group.rules.map(inSeconds),
  }))
}
