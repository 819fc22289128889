import type { Rule } from '../../src/alerts/render.ts'

/** A rule with one thing wrong in it. */
export interface Mutant {
  readonly what: string
  readonly rule: Rule
}

/** Where it is text in PromQL: what stands in quotes is none. */
function places(expr: string, pattern: RegExp): readonly RegExpExecArray[] {
  const blank = expr.replaceAll(/"[^"]*"/g, (quoted) => `"${'_'.repeat(quoted.length - 2)}"`)
  return [...blank.matchAll(pattern)]
}

const flipped: Readonly<Record<string, string>> = { '>': '<', '<': '>', '>=': '<', '<=': '>', '==': '!=', '!=': '==' }
const turned: Readonly<Record<string, string>> = { '=': '!=', '!=': '=', '=~': '!~', '!~': '=~' }
const loosened: Readonly<Record<string, string>> = { '>': '>=', '<': '<=', '>=': '>' }

/** Every mistake that the tests have to notice in a rule. */
export function mutantsOf(rule: Rule): readonly Mutant[] {
  const { expr } = rule
  const found: Mutant[] = []
  const replace = (what: string, at: number, length: number, by: string) => {
    const mutated = expr.slice(0, at) + by + expr.slice(at + length)
    found.push({ what: `${what}: ${mutated}`, rule: { ...rule, expr: mutated } })
  }
  if ('for' in rule && rule.for !== undefined) {
    const { for: _, ...without } = rule
    found.push({ what: 'no `for`', rule: without })
  }
  for (const { 0: sign, index } of places(expr, /(?<= )(?:>=|<=|==|!=|>|<)(?= )/g)) {
    const other = flipped[sign]
    if (other !== undefined) replace(`${sign} is ${other}`, index, sign.length, other)
    // Averages do not meet a limit exactly.
    const looser = /avg_over_time|predict_linear/.test(expr) ? undefined : loosened[sign]
    if (looser !== undefined) replace(`${sign} is ${looser}`, index, sign.length, looser)
  }
  for (const { 0: sign, index } of places(expr, /(?<=[{,]\w+)(?:=~|!~|!=|=)(?=")/g)) {
    const other = turned[sign]
    if (other !== undefined) replace(`${sign} is ${other}`, index, sign.length, other)
  }
  for (const { 0: clause, 1: word = '', 2: inside = '', index } of places(expr, /\b(by|on) \(([\w, ]*)\)/g)) {
    const labels = inside.split(', ')
    for (const label of labels) {
      const rest = labels.filter((one) => one !== label).join(', ')
      replace(`${word} without ${label}`, index, clause.length, `${word} (${rest})`)
    }
  }
  // What aggregates the series themselves; others only see what is left of them.
  const [first] = places(expr, /\bby \(([\w, ]*)\) \((?!\w+ by )/g)
  if (first !== undefined && !first[1]?.includes('instance')) {
    replace('by instance', first.index, first[0].length, first[0].replace(')', ', instance)'))
  }
  for (const { 0: name, index } of places(expr, /\b(?:lifeboat_\w+|up(?=\{)|cluster\w*:\w+:\w+)/g)) {
    replace(`no ${name}`, index, name.length, `${name}_renamed`)
  }
  return found
}
