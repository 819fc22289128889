import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { startAlertmanager, startWebhookReceiver } from '../support/alertmanager.ts'
import { exampleFile } from './example.ts'

const receiver = await startWebhookReceiver()
t.teardown(() => receiver.stop())
const text = await readFile(exampleFile, 'utf8')

const labels = { alertname: 'LifeboatBackupTooOld', severity: 'critical', cluster_name: 'harbour', repository: 'local' }
const annotations = {
  summary: 'harbour: local has no recent dump backup of ledger',
  description: 'The newest one is 3d old. First: `lifeboat backup`.',
  runbook_url: 'https://git.example.org/docs/runbooks/LifeboatBackupTooOld.md',
  dashboard_url: 'https://grafana.example.org/d/lifeboat-backups',
}

/** A message to one of them, as its API gets it. */
async function sentTo(path: string): Promise<unknown> {
  return (await receiver.until(path, (one) => one.path === path)).notification
}

await t.test('Slack and PagerDuty get the texts of the example', async (t) => {
  const directory = t.testdir({
    'slack-url': `${receiver.url}/slack`,
    'pagerduty-routing-key': 'a key\n',
    'webhook-token': 'a token\n',
  })
  const config = join(directory, 'alertmanager.yml')
  const here = text
    .replaceAll('/etc/alertmanager/secrets', directory)
    .replace('https://alerts.example.org', receiver.url)
    .replaceAll('group_wait: 10s', 'group_wait: 10ms')
    .replace('routing_key_file', `url: ${receiver.url}/pagerduty\n        routing_key_file`)
  await writeFile(config, here)
  const alertmanager = await startAlertmanager(directory, config)
  t.teardown(() => alertmanager.stop())
  await fetch(`${alertmanager.url}/api/v2/alerts`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify([{ labels, annotations }]),
  })
  t.match(await sentTo('/slack'), {
    channel: '#databases',
    attachments: [
      {
        title: `critical: ${annotations.summary}`,
        title_link: annotations.runbook_url,
        text: `*${annotations.summary}*: ${annotations.description} <${annotations.dashboard_url}|Dashboard>`,
      },
    ],
  })
  t.match(await sentTo('/pagerduty'), {
    routing_key: 'a key',
    event_action: 'trigger',
    payload: {
      summary: annotations.summary,
      severity: 'critical',
      custom_details: { what: `${annotations.summary}. ${annotations.description}` },
    },
    links: [
      { text: 'Runbook', href: annotations.runbook_url },
      { text: 'Dashboard', href: annotations.dashboard_url },
    ],
  })
})
