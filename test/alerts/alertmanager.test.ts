import { readFile } from 'node:fs/promises'
import t from 'tap'
import { parse } from 'yaml'
import { severities } from '../../src/alerts/names.ts'
import { amtool, startAlertmanager, startWebhookReceiver } from '../support/alertmanager.ts'
import { untilAnswer } from '../support/until.ts'
import { cases } from './cases.ts'
import { type Example, exampleFile, rewritten } from './example.ts'

const example = parse(await readFile(exampleFile, 'utf8')) as Example

await t.test('amtool takes the example', async (t) => {
  t.match(await amtool(['check-config', exampleFile]), /SUCCESS/)
})

await t.test('alerts go where their severity sends them', async (t) => {
  const routes: Readonly<Record<string, string>> = { critical: 'webhook,on-call', warning: 'webhook,team' }
  const tried = Object.entries(severities).map(async ([alertname, severity]) => {
    const labels = [`alertname=${alertname}`, `severity=${severity}`, 'cluster_name=harbour']
    const wanted = routes[severity] ?? 'heartbeat'
    await amtool([
      'config',
      'routes',
      'test',
      `--config.file=${exampleFile}`,
      `--verify.receivers=${wanted}`,
      ...labels,
    ])
  })
  await Promise.all(tried)
  const of = async (...labels: string[]) =>
    (await amtool(['config', 'routes', 'test', `--config.file=${exampleFile}`, ...labels])).trim()
  t.equal(await of('alertname=SomeOther'), 'mail', 'nothing is lost')
  t.equal(await of('alertname=Watchdog', 'severity=none'), 'heartbeat')
})

await t.test('no secret stands in it, and what ends is told of', async (t) => {
  const told = example.receivers.flatMap(({ name, ...kinds }) =>
    Object.values(kinds).flatMap((configs) => configs.map((config) => ({ name, config }))),
  )
  t.ok(told.length >= 6)
  for (const { name, config } of told) t.equal(config.send_resolved, name !== 'heartbeat', name)
  const keys = (value: unknown): string[] =>
    typeof value === 'object' && value !== null
      ? Object.entries(value).flatMap(([key, inner]) => [key, ...keys(inner)])
      : []
  for (const key of keys(example))
    t.notMatch(key, /^(?:routing_key|service_key|api_url|credentials|smtp_auth_password)$/)
})

/** The labels of an alert, those of the matchers among them. */
function labelsOf(alertname: string, matchers: readonly string[]): Record<string, string> {
  const found = cases.find(({ alert }) => alert === alertname)
  if (found === undefined) throw new Error(`${alertname} has no case`)
  const given = matchers.flatMap((matcher) => {
    const [, name = '', value = ''] = /^(\w+)="(.*)"$/.exec(matcher) ?? []
    return name === '' ? [] : [[name, value]]
  })
  return { ...found.labels, ...Object.fromEntries(given), alertname, severity: severities[alertname as 'Watchdog'] }
}

function matching(matchers: readonly string[]): readonly string[] {
  const tests = matchers.map((matcher) => {
    const [, name = '', sign = '', value = ''] = /^(\w+)(=~|=)"(.*)"$/.exec(matcher) ?? []
    if (name === '') throw new Error(`what is ${matcher}?`)
    return {
      name,
      fits: sign === '=' ? (is: string) => is === value : (is: string) => new RegExp(`^(?:${value})$`).test(is),
    }
  })
  return Object.entries(severities).flatMap(([alertname, severity]) => {
    const labels: Readonly<Record<string, string>> = { alertname, severity }
    return tests.every(({ name, fits }) => !(name in labels) || fits(labels[name] ?? '')) ? [alertname] : []
  })
}

await t.test('a critical alert holds back the warnings of its family, and nothing else', async (t) => {
  const posted: { labels: Record<string, string>; silenced: boolean; about: string }[] = []
  for (const { source_matchers, target_matchers, equal } of example.inhibit_rules) {
    const named = [source_matchers, target_matchers].flatMap((matchers) =>
      matchers.flatMap((matcher) => /^alertname=~?"(.*)"$/.exec(matcher)?.[1]?.split('|') ?? []),
    )
    for (const name of named) t.ok(matching([`alertname=~"${name}"`]).length > 0, `${name} exists`)
    for (const source of matching(source_matchers)) {
      t.equal(severities[source as 'Watchdog'], 'critical', `${source} is critical`)
      for (const target of matching(target_matchers)) {
        const about = `${target} under ${source}`
        t.equal(severities[target as 'Watchdog'], 'warning', `${about}: a warning`)
        const [high, low] = [labelsOf(source, source_matchers), labelsOf(target, target_matchers)]
        const same = equal.filter((name) => name !== 'cluster_name')
        for (const name of same) t.ok(name in high && name in low, `${about}: both have ${name}`)
        const shared = Object.fromEntries(same.map((name) => [name, low[name] ?? '']))
        const cluster_name = `cluster ${posted.length}`
        posted.push(
          { about: source, silenced: false, labels: { ...high, ...shared, cluster_name } },
          { about, silenced: true, labels: { ...low, cluster_name } },
          {
            about: `${about} of another cluster`,
            silenced: false,
            labels: { ...low, cluster_name: `not ${cluster_name}` },
          },
          ...same.map((name) => ({
            about: `${about} of another ${name}`,
            silenced: false,
            labels: { ...low, cluster_name, [name]: 'another' },
          })),
        )
      }
    }
  }
  t.ok(posted.filter(({ silenced }) => silenced).length > 20)
  const receiver = await startWebhookReceiver()
  t.teardown(() => receiver.stop())
  const directory = t.testdir({ 'alertmanager.yml': JSON.stringify(rewritten(example, receiver.url)) })
  const alertmanager = await startAlertmanager(directory, `${directory}/alertmanager.yml`)
  t.teardown(() => alertmanager.stop())
  const post = await fetch(`${alertmanager.url}/api/v2/alerts`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(posted.toReversed().map(({ labels }) => ({ labels }))),
  })
  t.equal(post.status, 200)
  const key = (labels: Readonly<Record<string, string>>) =>
    Object.keys(labels)
      .toSorted()
      .map((name) => `${name}=${labels[name]}`)
      .join()
  const states = await untilAnswer('all are judged', async () => {
    const answer = (await (await fetch(`${alertmanager.url}/api/v2/alerts`)).json()) as {
      labels: Record<string, string>
      status: { state: string }
    }[]
    const found = new Map(answer.map(({ labels, status }) => [key(labels), status.state]))
    const suppressed = answer.filter(({ status }) => status.state === 'suppressed').length
    return suppressed >= posted.filter(({ silenced }) => silenced).length && found
  })
  for (const { about, silenced, labels } of posted)
    t.equal(states.get(key(labels)), silenced ? 'suppressed' : 'active', about)
})
