import { rulesIn } from '../alert-drill/prometheus.ts'
import { textOf } from '../alert-drill/shapes.ts'
import type { RuleGroup } from '../alerts/render.ts'
import { type Finding, ok, warning } from './finding.ts'

/** So many names say what is missing. */
const mostNames = 5

/**
 * Whether a Prometheus has loaded the rules of this version, by their names: a copy of another version lacks some. Not by what stands in
 * them: it shows a rule in words of its own.
 *
 * @param body what it answers to `/api/v1/rules`
 */
export function judgeRules(url: string, body: unknown, groups: readonly RuleGroup[]): readonly Finding[] {
  const at = `Prometheus at ${url}`
  const loaded = rulesIn(body)
  const names = new Set(loaded.map(({ name }) => textOf(name)))
  const lacking = groups.map(({ name, rules }) => {
    const missing = rules.map(nameOf).filter((one) => !names.has(one))
    return { name, missing, isWhole: missing.length === rules.length }
  })
  // An alert called Watchdog is in the rules of others, too.
  if (!groups.some(({ rules }) => rules.map(nameOf).some((name) => isOurs(name) && names.has(name))))
    return [
      warning(
        'alerts',
        `${at} has loaded none of the alerts of Lifeboat`,
        'name alerts/lifeboat.rules.yml in rule_files of Prometheus (docs/alerts.md), and have it reload its configuration',
      ),
    ]
  const missing = lacking.flatMap((group) => (group.isWhole ? [`all of ${group.name}`] : group.missing))
  const all = new Set(groups.flatMap(({ rules }) => rules.map(nameOf)))
  const broken = loaded.find(({ name, health }) => health === 'err' && all.has(textOf(name)))
  return [
    ...(missing.length === 0
      ? [ok('alerts', `${at} has loaded every alert of this version`)]
      : [
          warning(
            'alerts',
            `${at} has not loaded every rule of this version: ${inShort(missing)}`,
            'load alerts/lifeboat.rules.yml of this version into Prometheus, and have it reload its configuration',
          ),
        ]),
    ...(broken === undefined
      ? []
      : [
          warning(
            'alerts',
            `${at} cannot evaluate the rule ${textOf(broken.name)}: ${textOf(broken.lastError)}`,
            'load alerts/lifeboat.rules.yml of this version',
          ),
        ]),
  ]
}

type Rule = RuleGroup['rules'][number]

const nameOf = (rule: Rule): string => ('alert' in rule ? rule.alert : rule.record)
const isOurs = (name: string): boolean => name !== 'Watchdog'

function inShort(names: readonly string[]): string {
  const more = names.length - mostNames
  return `${names.slice(0, mostNames).join(', ')} ${more > 0 ? `and ${more} more are` : names.length === 1 ? 'is' : 'are'} missing`
}
