import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parse } from 'yaml'
import { type Example, exampleFile, rewritten } from '../alerts/example.ts'
import { rulesInSeconds } from '../alerts/seconds.ts'
import { startAlertmanager, startWebhookReceiver } from '../support/alertmanager.ts'
import { freePort } from '../support/postgres.ts'
import { startConfigured } from '../support/prometheus.ts'
import { type Served, serve } from '../support/serve.ts'
import { untilAnswer } from '../support/until.ts'
import { type Figure, median } from './table.ts'

const rounds = 20
const alertname = 'LifeboatClusterVanished'
/**
 * What Prometheus and Alertmanager take at most, seconds: until the scrape that fails, until the rules are evaluated, the
 * `for`, which is some part of a second and so over at the next evaluation, and the group_wait.
 */
const allowed = 1 + 1 + 1 + 0.1

/** From the death of a sidecar to the message at a receiver, with the rules and routes that are shipped, in short times. */
export async function benchAlerting(base: string): Promise<readonly Figure[]> {
  const directory = join(base, 'alerting')
  const [watched, home] = [join(directory, 'watched'), join(directory, 'prometheus')]
  for (const made of [watched, home]) await mkdir(made, { recursive: true })
  const port = await freePort()
  // One of its own for each round: a group of Alertmanager that was there before waits for group_interval.
  const yamlOf = (cluster: string) =>
    JSON.stringify({
      cluster,
      listen: `127.0.0.1:${port}`,
      stateDir: join(directory, cluster),
      watch: [{ directory: watched }],
    })
  const receiver = await startWebhookReceiver()
  const configFile = join(directory, 'alertmanager.yml')
  const example = parse(await readFile(exampleFile, 'utf8')) as Example
  await writeFile(configFile, JSON.stringify(rewritten(example, receiver.url)))
  const alertmanager = await startAlertmanager(directory, configFile)
  const rules = join(directory, 'rules.yml')
  await writeFile(rules, JSON.stringify({ groups: rulesInSeconds() }))
  const prometheus = await startConfigured(home, {
    global: { scrape_interval: '1s', evaluation_interval: '1s' },
    rule_files: [rules],
    alerting: { alertmanagers: [{ static_configs: [{ targets: [new URL(alertmanager.url).host] }] }] },
    scrape_configs: [{ job_name: 'lifeboat', static_configs: [{ targets: [`127.0.0.1:${port}`] }] }],
  })
  let served: Served | null = null
  try {
    const told = (cluster: string) =>
      receiver.until(`${cluster} has vanished`, ({ path, notification: { groupLabels } }) => {
        return path === '/on-call' && groupLabels.alertname === alertname && groupLabels.cluster_name === cluster
      })
    const took: number[] = []
    for (let round = 0; round < rounds; round++) {
      const cluster = `bench${round}`
      served = await serve(directory, yamlOf(cluster))
      const its = `lifeboat_policy_rpo_seconds{cluster_name="${cluster}"}`
      await untilAnswer('it is scraped', async () => (await prometheus.instant(its, Date.now() / 1000)).length > 0)
      // Scrapes and evaluations have their moments in each second; it dies at all kinds of moments between them.
      await delay(1000 + (round * 1000) / rounds)
      const killed = performance.now()
      await served.end('SIGKILL')
      took.push(((await told(cluster)).at - killed) / 1000)
    }
    const worst = Math.max(...took)
    return [
      {
        what: `killed sidecar to webhook, worst of ${rounds} (median ${median(took).toFixed(2)} s): ${alertname} with its \`for\` of a third of a second, scrapes and evaluations each second, group_wait 100 ms`,
        measured: `${worst.toFixed(2)} s`,
        goal: `${allowed.toFixed(1)} s, what these allow`,
        met: worst <= allowed,
      },
    ]
  } finally {
    await served?.end('SIGKILL')
    await prometheus.stop()
    await alertmanager.stop()
    await receiver.stop()
  }
}
