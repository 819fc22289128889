import { spawnSync } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import t from 'tap'
import { parse } from 'yaml'
import { alerts } from '../../src/alerts/groups.ts'
import { severities } from '../../src/alerts/names.ts'
import { ruleGroups } from '../../src/alerts/render.ts'
import { tryAll } from './promtool.ts'
import { secondsOf } from './seconds.ts'
import { expand } from './template.ts'
import { alertRules, sampleOf, trialOf } from './trials.ts'

const inProject = (path: string) => new URL(`../../${path}`, import.meta.url)

await t.test('both files hold the rules, and Prometheus takes them', async (t) => {
  const plain: unknown = parse(await readFile(inProject('alerts/lifeboat.rules.yml'), 'utf8'))
  t.same(plain, { groups: ruleGroups() })
  const wrapped = parse(await readFile(inProject('alerts/prometheusrule.yaml'), 'utf8')) as Readonly<
    Record<string, unknown>
  >
  t.match(wrapped, { apiVersion: 'monitoring.coreos.com/v1', kind: 'PrometheusRule', metadata: { name: 'lifeboat' } })
  t.same(wrapped.spec, plain)
  const { status, stderr } = spawnSync('promtool', ['check', 'rules', inProject('alerts/lifeboat.rules.yml').pathname])
  t.equal(status, 0, String(stderr))
})

await t.test('every alert fires when it should, and only then', async (t) => {
  const trials = alertRules.flatMap((rule) => trialOf(rule) ?? [])
  t.same(new Set(trials.map(({ name }) => name)), new Set(Object.keys(severities)), 'each has tests')
  for (const [name, said] of await tryAll(t.testdir(), trials)) t.equal(said, '', name)
})

await t.test('what is evaluated seldom is seen all the same', async (t) => {
  const all = ruleGroups()
  const recorded = all.flatMap(({ interval = '0s', rules }) =>
    rules.flatMap((rule) => ('record' in rule ? [{ record: rule.record, seconds: secondsOf(interval) }] : [])),
  )
  for (const { name, interval = '0s', rules } of all) {
    for (const rule of rules) {
      const about = 'alert' in rule ? rule.alert : rule.record
      if ('alert' in rule) {
        // Of an instant query Prometheus looks back for five minutes: at the alert itself, too.
        t.ok(secondsOf(interval) < 300, `${about}: every ${interval}`)
        t.ok(rule.for === undefined || 7 * secondsOf(interval) <= secondsOf(rule.for), `${about}: for ${rule.for}`)
      }
      for (const { record, seconds } of recorded.filter((one) => one.seconds >= 300)) {
        const after = rule.expr.split(record).slice(1)
        // In the group itself it is made just before.
        const least = name === 'lifeboat.memory' ? seconds : 2 * seconds
        for (const text of after) {
          const [, range = '0s'] = /^\[(\w+)\]/.exec(text) ?? []
          t.ok(secondsOf(range) >= least, `${about} looks at ${record} over ${range}`)
        }
      }
    }
  }
  t.same(
    all.flatMap(({ rules }) => rules.flatMap((rule) => ('alert' in rule ? [rule.alert] : []))).toSorted(),
    alerts.map(({ alert }) => alert).toSorted(),
    'each is in one group',
  )
})

await t.test('every alert has all that people need', async (t) => {
  t.same(new Set(alertRules.map(({ alert }) => alert)), new Set(Object.keys(severities)), 'those that are named')
  t.equal(new Set(alertRules.map(({ expr }) => expr)).size, alertRules.length, 'no two are the same')
  for (const { alert, labels, annotations } of alertRules) {
    // Values never stand in labels; that of a drill does not change.
    t.same(Object.keys(labels), ['severity', ...(alert === 'LifeboatAlertDrill' ? ['drill'] : [])], alert)
    t.same(Object.keys(annotations), ['summary', 'description', 'runbook_url', 'dashboard_url'], alert)
    const { summary = '', description = '', runbook_url = '' } = annotations
    t.ok(summary.length > 10 && !/[.\n]$/.test(summary), `${alert}: the summary is one line`)
    t.match(description, /^[A-Za-z{].* First: (?:.*`[^`]+`|none).*\.$/, `${alert}: it says what to do first`)
    t.equal(runbook_url, `docs/runbooks/${alert}.md`)
    t.match(await readFile(inProject(runbook_url), 'utf8'), new RegExp(`^# ${alert}\n`), `${alert} has a runbook`)
  }
})

await t.test('commands and words of the log exist', async (t) => {
  const { stdout } = spawnSync(
    'grep',
    ['-rhoE', "'[^']*'|`[^`]*`", inProject('src').pathname, '--include=*.ts', '--exclude-dir=alerts'],
    {
      encoding: 'utf8',
      maxBuffer: 2 ** 28,
    },
  )
  for (const { alert, first } of alerts) {
    for (const [, word = ''] of first.matchAll(/grep '([^']+)'/g)) {
      if (!word.includes('level')) t.ok(stdout.includes(word), `${alert}: "${word}" is logged`)
    }
    for (const [, command = ''] of first.matchAll(/`lifeboat ([a-z]+)/g)) {
      t.ok(stdout.includes(`'${command}'`), `${alert}: lifeboat ${command}`)
    }
  }
})

await t.test('texts are as they were read last', async (t) => {
  const golden = inProject('test/golden/alerts.txt')
  const texts = alertRules.map((rule) => {
    const { summary = '', description = '' } = rule.annotations
    const context = sampleOf(rule)
    return `${rule.alert} (${rule.labels.severity})\n  ${expand(summary, context)}\n  ${expand(description, context)}\n`
  })
  const text = texts.join('\n')
  if (process.env.UPDATE_GOLDEN === '1') await writeFile(golden, text)
  t.equal(text, await readFile(golden, 'utf8'), 'equals test/golden/alerts.txt (UPDATE_GOLDEN=1 writes it anew)')
})
