import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { fetch } from 'undici'
import { alerts } from '../../src/alerts/groups.ts'
import { ruleOf } from '../../src/alerts/render.ts'
import { amtool, startAlertmanager, startWebhookReceiver } from '../support/alertmanager.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { startMailServer } from '../support/smtp.ts'
import { untilAnswer } from '../support/until.ts'
import { exampleFile } from './example.ts'
import { expand } from './template.ts'

const account = { username: 'alertmanager', password: 'correct horse battery' }

/** One of our alerts as Prometheus sends it, with links that were made whole as docs/alerts.md says. */
function alertOf(name: string, labels: Readonly<Record<string, string>>) {
  const found = alerts.find(({ alert }) => alert === name)
  const rule = found === undefined ? null : ruleOf(found)
  if (rule === null || !('alert' in rule)) throw new Error(`there is no ${name}`)
  const texts = Object.entries(rule.annotations).map(([key, text]) => [key, expand(text, { labels, value: 1 })])
  const {
    summary = '',
    description = '',
    runbook_url,
    dashboard_url,
  }: Record<string, string> = Object.fromEntries(texts)
  return {
    labels: { ...labels, ...rule.labels, alertname: name },
    annotations: {
      summary,
      description,
      runbook_url: `https://git.example.org/lifeboat/blob/main/${runbook_url}`,
      dashboard_url: `https://grafana.example.org${dashboard_url}`,
    },
    generatorURL: 'http://prometheus.example.org:9090/graph?g0.expr=up',
    startsAt: '2026-03-17T04:05:06Z',
  }
}

t.test('a mail of the example, by a real Alertmanager and a real SMTP server', { timeout: 60_000 }, async (t) => {
  const directory = await scratchDirectory(t)
  const mailServer = await startMailServer(directory, account)
  t.teardown(() => mailServer.stop())
  const others = await startWebhookReceiver()
  t.teardown(() => others.stop())
  const secrets = {
    'smtp-password': account.password,
    'slack-url': `${others.url}/slack`,
    'webhook-token': 'a token',
    'heartbeat-token': 'another token',
    'pagerduty-routing-key': 'a key',
  }
  for (const [name, text] of Object.entries(secrets)) await writeFile(join(directory, name), text, { mode: 0o600 })
  const config = join(directory, 'alertmanager.yml')
  const example = await readFile(exampleFile, 'utf8')
  const here = example
    .replaceAll('/etc/alertmanager/secrets', directory)
    .replace('smtp.example.org:587', `127.0.0.1:${mailServer.port}`)
    .replace('https://alerts.example.org', others.url)
    .replace('- to: databases', `- tls_config: { ca_file: ${mailServer.caFile} }\n        to: databases`)
    .replaceAll(/group_wait: \d+s/g, 'group_wait: 500ms')
    .replaceAll(/group_interval: \d+m/g, 'group_interval: 1s')
  await writeFile(config, here)
  const alertmanager = await startAlertmanager(directory, config)
  t.teardown(() => alertmanager.stop())
  const post = async (...some: object[]) => {
    const response = await fetch(`${alertmanager.url}/api/v2/alerts`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(some),
    })
    t.equal(response.status, 200)
  }
  const mail = (what: string, isIt: (subject: string) => boolean) =>
    untilAnswer(what, async () => (await mailServer.mails()).find(({ subject }) => isIt(subject)))

  const failed = (database: string) =>
    alertOf('LifeboatBackupFailed', { cluster_name: 'harbour', backup_type: 'dump', database })
  const [ledger, stock] = [failed('ledger'), failed('stock')]
  const dashboard = 'https://grafana.example.org/d/lifeboat-backups?var-cluster_name=harbour&viewPanel=11'

  await t.test('what fires', async (t) => {
    await post(ledger)
    const came = await mail('the first comes', (subject) => subject.startsWith('[firing]'))
    t.match(came, {
      from: 'alertmanager@example.org',
      to: ['databases@example.org'],
      subject: `[firing] ${ledger.annotations.summary}`,
      html: null,
    })
    t.match(ledger.annotations.description, /First: `/)
    t.equal(
      came.text,
      `${ledger.annotations.summary}

${ledger.annotations.description}

Runbook:   https://git.example.org/lifeboat/blob/main/docs/runbooks/LifeboatBackupFailed.md
Dashboard: ${dashboard}
Alert:     LifeboatBackupFailed, warning, since 2026-03-17 04:05 UTC`,
    )
  })

  await t.test('one of two is over, and then both', async (t) => {
    await post(stock)
    const both = await mail('of both', (subject) => subject.endsWith('(2 alerts)'))
    for (const { annotations } of [ledger, stock]) t.ok(both.text.includes(annotations.description))
    await post({ ...ledger, endsAt: '2026-03-17T05:06:07Z' })
    const over = `Over since 2026-03-17 05:06 UTC: ${ledger.annotations.summary}`
    const half = await mail('of the rest', (subject) => subject === `[firing] ${stock.annotations.summary}`)
    t.ok(half.text.startsWith(stock.annotations.summary), 'what still fires comes first')
    t.ok(half.text.endsWith(over), half.text)
    await post({ ...stock, endsAt: '2026-03-17T05:07:08Z' })
    const end = await mail('of the end', (subject) => subject === `[resolved] ${stock.annotations.summary}`)
    t.equal(end.text, `Over since 2026-03-17 05:07 UTC: ${stock.annotations.summary}`)
  })

  await t.test('an alert of somebody else is not lost, though it has no texts', async (t) => {
    await post({ labels: { alertname: 'SomeOther' }, startsAt: '2026-03-17T04:05:06Z' })
    const came = await mail('it comes', (subject) => subject === '[firing] SomeOther')
    t.match(came.text, /^SomeOther\n(?:.*\n)*Alert: {5}SomeOther, without a severity, since 2026-03-17 04:05 UTC$/)
    t.notMatch(came.text, /Runbook|Dashboard|<no value>/)
  })

  await t.test('no secret stands in any, and the password went encrypted', async (t) => {
    const mails = await mailServer.mails()
    t.ok(mails.length >= 4)
    t.same([...new Set(mailServer.logins)], [`${account.username}:${account.password}`])
    for (const { raw, subject } of mails)
      for (const secret of [...Object.values(secrets), directory])
        t.notOk(raw.includes(secret), `${subject}: no ${secret}`)
    t.notOk(alertmanager.log.join('\n').includes(account.password), 'nor in the log')
  })
})

t.test('a call and a message to a channel name what still fires', async (t) => {
  const text = await readFile(exampleFile, 'utf8')
  const alert = (status: string, summary: string) => ({ status, labels: {}, annotations: { summary } })
  const data = { status: 'firing', alerts: [alert('resolved', 'that is over'), alert('firing', 'this is not')] }
  const directory = t.testdir({ 'none.tmpl': '', 'data.json': JSON.stringify(data) })
  const render = ['template', 'render', `--template.glob=${directory}/*.tmpl`, `--template.data=${directory}/data.json`]
  for (const key of ['description', 'title', 'fallback', 'Subject']) {
    const template = new RegExp(`^ +${key}: '(.*)'`, 'm').exec(text)?.[1] ?? ''
    t.match((await amtool([...render, `--template.text=${template}`])).trim(), /this is not$/, key)
  }
})
