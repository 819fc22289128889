import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { parse } from 'yaml'
import { type NotifiedAlert, startAlertmanager, startWebhookReceiver } from '../support/alertmanager.ts'
import { startConfigured } from '../support/prometheus.ts'
import { untilAnswer } from '../support/until.ts'
import { type Example, exampleFile, rewritten } from './example.ts'
import { type Fault, faultsOf } from './faults.ts'
import { startFleet } from './fleet.ts'
import { rulesInSeconds } from './seconds.ts'

/*
 * Real sidecars, a real Prometheus with the rules that are shipped, a real Alertmanager with the routes and inhibitions of
 * the example, and a receiver. Only times are shorter.
 */

const receiver = await startWebhookReceiver()
t.teardown(() => receiver.stop())
const directory = t.testdir({})
const alertmanagerFile = join(directory, 'alertmanager.yml')
const example = parse(await readFile(exampleFile, 'utf8')) as Example
await writeFile(alertmanagerFile, JSON.stringify(rewritten(example, receiver.url)))
const alertmanager = await startAlertmanager(directory, alertmanagerFile)
t.teardown(() => alertmanager.stop())
const fleet = await startFleet(t)
const [rules, home] = [join(directory, 'rules.yml'), join(directory, 'prometheus')]
await mkdir(home)
await writeFile(rules, JSON.stringify({ groups: rulesInSeconds() }))
const prometheus = await startConfigured(home, {
  global: { scrape_interval: '1s', evaluation_interval: '1s' },
  rule_files: [rules],
  alerting: { alertmanagers: [{ static_configs: [{ targets: [new URL(alertmanager.url).host] }] }] },
  scrape_configs: [{ job_name: 'lifeboat', static_configs: [{ targets: fleet.targets }] }],
})
t.teardown(() => prometheus.stop())

const now = () => Date.now() / 1000

await t.test('while all is well, the heartbeat alone is heard', async (t) => {
  await receiver.until('the Watchdog', ({ path, notification }) => {
    return path === '/heartbeat' && notification.alerts.every(({ labels }) => labels.alertname === 'Watchdog')
  })
  // Until it was evaluated with both of them there.
  const seen = 'count(up == 1) == 2 unless on () ALERTS{alertname="LifeboatAbsent"}'
  await untilAnswer('both are scraped', async () => (await prometheus.instant(seen, now())).length > 0)
  // The disks of the machine that runs this may be what they like, and no roles are saved where there is no server.
  const expected = '{alertname=~"Watchdog|LifeboatGlobalsMissing|.*(?:Filling|NearlyFull)"}'
  const others = await prometheus.instant(`ALERTS unless ALERTS${expected}`, now())
  t.same(
    others.map(({ labels }) => labels),
    [],
    'nothing is pending or firing',
  )
})

const isThat = ({ labels, severity }: Fault, alert: NotifiedAlert) =>
  Object.entries({ ...labels, severity }).every(([name, value]) => alert.labels[name] === value)

/** Resolves when a receiver of the example was told of it. */
async function told(fault: Fault, name: string, status: NotifiedAlert['status']): Promise<NotifiedAlert> {
  const fits = (alert: NotifiedAlert) => alert.status === status && isThat(fault, alert)
  const { notification } = await receiver.until(
    `${fault.what}: ${status} at ${name}`,
    ({ path, notification: { alerts } }) => path === `/${name}` && alerts.some(fits),
  )
  const alert = notification.alerts.find(fits)
  if (alert === undefined) throw new Error('it was there')
  return alert
}

await t.test('what goes wrong is told of, and so is its end', { jobs: 20 }, (t) => {
  const tried = faultsOf(fleet).map((fault) => t.test(fault.what, (t) => tryFault(t, fault)))
  return Promise.all(tried).then(() => {})
})

async function tryFault(t: Test, fault: Fault): Promise<void> {
  const { severity, labels, summary, description, dashboard } = fault
  const person = severity === 'critical' ? 'on-call' : 'team'
  await fault.breaks()
  const [alert] = await Promise.all([told(fault, 'webhook', 'firing'), told(fault, person, 'firing')])
  t.same(alert.labels, { ...labels, severity }, 'these labels and no others')
  t.equal(alert.annotations.summary, summary)
  t.match(alert.annotations.description, description)
  t.equal(alert.annotations.runbook_url, `docs/runbooks/${labels.alertname}.md`)
  t.equal(alert.annotations.dashboard_url, dashboard)
  await fault.mend()
  await Promise.all([told(fault, 'webhook', 'resolved'), told(fault, person, 'resolved')])
}
