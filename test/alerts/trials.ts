import { type Rule, ruleGroups } from '../../src/alerts/render.ts'
import { byHand } from './by-hand.ts'
import { cases } from './cases.ts'
import type { Trial } from './promtool.ts'
import { build } from './scenario.ts'
import type { Context } from './template.ts'

export type AlertRule = Extract<Rule, { alert: string }>
export type RecordingRule = Extract<Rule, { record: string }>

const rules = ruleGroups().flatMap((group) => group.rules)

export const alertRules: readonly AlertRule[] = rules.filter((rule) => 'alert' in rule)

/** The recordings that a rule looks at, and those that these are made of, first. */
export function recordingsOf({ expr }: { readonly expr: string }): readonly RecordingRule[] {
  const read = rules.filter((rule) => 'record' in rule).filter(({ record }) => expr.includes(record))
  return [...new Set(read.flatMap((recording) => [...recordingsOf(recording), recording]))]
}

/** Everything that is tested of an alert; null where nobody has written a test. */
export function trialOf(rule: AlertRule): Trial | null {
  const own = { name: rule.alert, rules: [...recordingsOf(rule), rule] }
  const hand = byHand[rule.alert]
  if (hand !== undefined) return { ...own, step: 60, tests: hand(rule) }
  const found = cases.find(({ alert }) => alert === rule.alert)
  if (found === undefined) return null
  const { step, test } = build(found, rule)
  return { ...own, step, tests: [test] }
}

/** Labels and a value with which the texts of an alert can be read. */
export function sampleOf({ alert, annotations }: AlertRule): Context {
  const labels = cases.find((one) => one.alert === alert)?.labels ?? { job: 'lifeboat', instance: 'db1:10187' }
  const isShare = JSON.stringify(annotations).includes('humanizePercentage')
  return {
    labels: { cluster_name: 'spavix', ...labels },
    value: isShare ? 0.45 : annotations.description?.includes('{{ $value }}') ? 3 : 12_345,
  }
}
