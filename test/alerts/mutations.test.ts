import t from 'tap'
import { mutantsOf } from './mutants.ts'
import { tryAll } from './promtool.ts'
import { alertRules, recordingsOf, trialOf } from './trials.ts'

await t.test('every mistake in a rule is noticed', async (t) => {
  const trials = alertRules.flatMap((rule) => {
    const trial = trialOf(rule)
    if (trial === null) return []
    const recordings = recordingsOf(rule)
    const all = [...recordings, rule]
    return all.flatMap((part, index) =>
      mutantsOf(part).map(({ what, rule: mutant }) => ({
        ...trial,
        name: `${rule.alert}: ${what}`,
        // One in a recording is noticed if it is by any alert that reads it.
        mistake: `${'record' in part ? part.record : part.alert}: ${what}`,
        rules: all.with(index, mutant),
      })),
    )
  })
  t.comment(`${trials.length} mutants`)
  const said = await tryAll(t.testdir(), trials)
  t.equal(said.size, trials.length, 'each has a name of its own')
  const noticed = new Set(trials.filter(({ name }) => said.get(name) !== '').map(({ mistake }) => mistake))
  t.same(new Set(trials.map(({ mistake }) => mistake).filter((mistake) => !noticed.has(mistake))), new Set())
  const broken = [...said].filter(([, complaint]) => /parse error/.test(complaint)).map(([name]) => name)
  t.same(broken, [], 'each is a rule that Prometheus takes')
})
