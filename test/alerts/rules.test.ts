import t from 'tap'
import { ruleGroups } from '../../src/alerts/render.ts'
import { cases } from './cases.ts'
import { tryAll } from './promtool.ts'
import { build } from './scenario.ts'

const rules = ruleGroups().flatMap((group) => group.rules)
const recordings = rules.filter((rule) => 'record' in rule)

await t.test('every alert fires when it should, and only then', async (t) => {
  const trials = cases.map((one) => {
    const rule = rules.find((rule) => 'alert' in rule && rule.alert === one.alert)
    if (rule === undefined || !('alert' in rule)) throw new Error(`no alert is called ${one.alert}`)
    const { step, test } = build(one, rule)
    return { name: one.alert, rules: [...recordings, rule], tests: [test], step }
  })
  for (const [name, said] of await tryAll(t.testdir(), trials)) t.equal(said, '', name)
})
