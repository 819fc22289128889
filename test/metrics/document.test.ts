import { spawnSync } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import t from 'tap'
import { renderMetricsDocument } from '../../src/metrics/document.ts'
import { type MetricDefinition, metricDefinitions } from '../../src/metrics/names.ts'
import { conditions, figures } from '../../src/metrics/queries.ts'

const definitions: [string, MetricDefinition][] = Object.entries(metricDefinitions)

await t.test('docs/metrics.md is as the code says', async (t) => {
  const stored = await readFile(new URL('../../docs/metrics.md', import.meta.url), 'utf8')
  t.equal(stored, renderMetricsDocument(), 'run `node docs/generate.ts`')
  for (const [name] of definitions) t.equal(stored.split(`| \`${name}\` |`).length, 2, `${name} has one row`)
})

await t.test('names follow the rules of Prometheus', async (t) => {
  for (const [name, { type, unit, help }] of definitions) {
    t.match(name, /^lifeboat_[a-z]+3?(_[a-z]+)*$/)
    t.equal(name.endsWith('_total'), type === 'counter', name)
    t.equal(name.endsWith('_timestamp_seconds'), unit === 'seconds since 1970', name)
    t.equal(name.endsWith('_seconds'), unit.startsWith('seconds'), name)
    t.equal(name.endsWith('_bytes'), unit === 'bytes', name)
    t.match(help, /^[A-Z].*\.$/)
    t.notMatch(help, /\||\n/, 'fits into a cell of the table')
  }
})

await t.test('every query of the document is valid PromQL over metrics that exist', async (t) => {
  const queries = [...conditions, ...figures].map(({ query }) => query)
  t.ok(queries.length > 8)
  for (const query of queries) {
    for (const [name] of query.matchAll(/lifeboat_\w+/g)) t.ok(name in metricDefinitions, name)
  }
  const rules = {
    groups: [{ name: 'examples', rules: queries.map((expr, index) => ({ record: `r:${index}`, expr })) }],
  }
  const file = `${t.testdir({ 'rules.json': JSON.stringify(rules) })}/rules.json`
  const { status, stderr, error } = spawnSync('promtool', ['check', 'rules', file], { encoding: 'utf8' })
  t.notOk(error)
  t.equal(status, 0, stderr)
})
