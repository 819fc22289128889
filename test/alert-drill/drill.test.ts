import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { fetch } from 'undici'
import { createAsker } from '../../src/alert-drill/ask.ts'
import { passHop } from '../../src/alert-drill/hop.ts'
import { prometheusHop, whyNotSent } from '../../src/alert-drill/prometheus.ts'
import { createApp } from '../../src/app.ts'
import { systemClock } from '../../src/clock.ts'
import { loadConfig } from '../../src/config/load.ts'
import type { DrillResult } from '../../src/domain/alert-drill.ts'
import { hashToken } from '../../src/http/tokens.ts'
import type { Run } from '../../src/runner/job.ts'
import { amtool, startAlertmanager, startWebhookReceiver } from '../support/alertmanager.ts'
import { type CliResult, cli } from '../support/cli.ts'
import { parseExposition } from '../support/exposition.ts'
import { keptLog } from '../support/log.ts'
import { freePort } from '../support/postgres.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { untilAnswer } from '../support/until.ts'
import { startRelay, startScraping, startStubborn } from './stack.ts'

const tokens = { echo: 'lb_echo', ops: 'lb_ops' }

t.test('the way of an alert, with a real Prometheus and a real Alertmanager', { timeout: 60_000 }, async (t) => {
  const directory = await scratchDirectory(t)
  const place = async (name: string) => {
    await mkdir(join(directory, name))
    return join(directory, name)
  }
  const watched = await place('watched')
  const sidecar = `http://127.0.0.1:${await freePort()}`
  const person = await startWebhookReceiver()
  t.teardown(() => person.stop())
  const relay = await startRelay(t, sidecar)
  const headers = join(directory, 'headers')
  await writeFile(headers, 'Authorization: Bearer abc\nX-Scope-OrgID: spavix\n', { mode: 0o600 })
  const alertmanagerFile = join(directory, 'alertmanager.yml')
  await writeFile(
    alertmanagerFile,
    JSON.stringify({
      route: { receiver: 'on-call', group_by: ['alertname', 'cluster_name'], group_wait: '0s', group_interval: '1s' },
      receivers: [
        {
          name: 'on-call',
          webhook_configs: [
            { url: person.url },
            {
              url: `${relay.url}/api/alerts/echo`,
              http_config: { authorization: { credentials: tokens.echo } },
            },
          ],
        },
      ],
    }),
  )
  const alertmanager = await startAlertmanager(await place('am'), alertmanagerFile)
  t.teardown(() => alertmanager.stop())
  const prometheus = await startScraping(t, await place('prometheus'), {
    target: sidecar,
    alertmanager: alertmanager.url,
  })
  const yaml = (alertDrill: object) =>
    JSON.stringify({
      cluster: 'spavix',
      listen: new URL(sidecar).host,
      stateDir: join(directory, 'state'),
      watch: [{ directory: watched, name: 'nightly' }],
      schedule: { alertDrill: '0 9 * * 1' },
      auth: {
        tokens: [
          { name: 'alertmanager', role: 'viewer', sha256: hashToken(tokens.echo) },
          { name: 'ops', role: 'operator', sha256: hashToken(tokens.ops) },
        ],
      },
      alertDrill: {
        alertmanagers: [{ url: `${alertmanager.url}/`, headersFile: headers }],
        prometheus: { url: prometheus.url },
        receiver: 'on-call',
        timeouts: { prometheus: '20s', alertmanager: '20s', receiver: '20s', resolved: '20s' },
        ...alertDrill,
      },
    })
  const file = async (name: string, alertDrill: object = {}) => {
    const path = join(directory, name)
    await writeFile(path, yaml(alertDrill))
    return path
  }
  const plain = await file('lifeboat.yaml')
  const short = { prometheus: '20s', alertmanager: '1s', receiver: '1s', resolved: '20s', request: '200ms' }
  const { log, lines } = keptLog()
  const app = await createApp(await loadConfig({ path: plain, env: {} }), {
    clock: systemClock,
    log,
    version: { version: '0.0.0-test', revision: 'abc' },
  })
  t.teardown(() => app.stop())
  await app.start()
  const request = async (path: string, body?: object, token = tokens.ops) => {
    const response = await fetch(`${sidecar}${path}`, {
      method: body === undefined ? 'GET' : 'POST',
      headers: {
        authorization: `Bearer ${token}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    return { status: response.status, text: await response.text() }
  }
  const metrics = async () => parseExposition((await request('/metrics')).text)
  const shown = async (name: string) => (await metrics()).find((one) => one.name === name)?.value
  const drill = async (body: object): Promise<Run> => {
    const started = await request('/api/admin/drill/alert', body)
    t.equal(started.status, 202, started.text)
    const { id } = JSON.parse(started.text) as Run
    return untilAnswer(`run ${id} ends`, async () => {
      const run = JSON.parse((await request(`/api/runs/${id}`)).text) as Run
      return run.finishedAt !== null && run
    })
  }
  const told = ({ out }: CliResult) => JSON.parse(out) as Run & { readonly drill: DrillResult }

  await t.test('it comes through, and ends', async (t) => {
    await untilAnswer('there are metrics', async () => (await request('/metrics')).status === 200)
    t.equal(await shown('lifeboat_alert_drill_started_timestamp_seconds'), 0)
    t.equal(await shown('lifeboat_alert_path_last_proven_timestamp_seconds'), undefined, 'never')
    t.equal(await shown('lifeboat_policy_alert_path_max_age_seconds'), 7 * 86_400 + 12 * 3600)
    const run = await drill({})
    t.match(run, { job: 'alert-drill', state: 'succeeded', failure: null, params: { from: 'rule', echo: true } })
    const { notification } = await person.until('the person hears of it', () => true, 5000)
    t.match(notification.alerts, [
      {
        status: 'firing',
        labels: { alertname: 'LifeboatAlertDrill', cluster_name: 'spavix', severity: 'critical', drill: /^\d{10}$/ },
        annotations: { summary: 'DRILL, nothing is wrong: an alert of spavix has arrived' },
      },
    ])
    const proven = (await untilAnswer('it is told', () =>
      shown('lifeboat_alert_path_last_proven_timestamp_seconds'),
    )) as number
    t.ok(Math.abs(proven - Date.now() / 1000) < 60)
    t.equal(await shown('lifeboat_alert_drill_started_timestamp_seconds'), 0)
    t.match(
      lines.filter(({ msg }) => msg === 'the alert drill came through').map(({ hop }) => hop),
      ['sidecar', 'prometheus', 'alertmanager', 'receiver', 'resolved'],
    )
    const checked = await cli(['check', '--config', plain])
    t.match(checked.out, /^ok {7}alerts {7}an alert last reached its receiver at /m, 'check knows of it')
  })

  await t.test('a command drills by way of the sidecar beside it, straight after another one', async (t) => {
    relay.handedOn = 0
    const { code, out, err } = await cli(['drill', 'alert', '--from', 'alertmanager', '--config', plain])
    t.equal(code, 0, `${out}${err}`)
    t.match(out, /^drill \d{10}\n {2}passed {2}alertmanager .* has it, for on-call\n {2}passed {2}receiver .*\n/)
    t.match(out, /The way to the receiver is not proven\.\n$/, 'it was not the whole way')
    t.match(err, /^(waiting for .*\n)*the alert came through, and has ended\n$/)
    t.ok(relay.handedOn > 0)
  })

  await t.test('a silence', async (t) => {
    const silence = (
      await amtool([
        ...[`--alertmanager.url=${alertmanager.url}`, 'silence', 'add', '--author=test', '--comment=test'],
        'alertname=~"Lifeboat.*"',
      ])
    ).trim()
    const run = await drill({})
    t.match(run, {
      state: 'failed',
      failure: {
        code: 'alert-drill-failed',
        message: `the alert drill ended at Alertmanager: Alertmanager at ${alertmanager.url} keeps it silent, by silence ${silence}`,
        hint: new RegExp(`amtool silence expire ${silence}`),
      },
    })
    await amtool([`--alertmanager.url=${alertmanager.url}`, 'silence', 'expire', silence])
  })

  await t.test('a receiver that does not send it back, or another one', async (t) => {
    relay.isOpen = false
    const muted = await cli([
      'drill',
      'alert',
      '--json',
      '--from',
      'alertmanager',
      '--config',
      await file('short', { timeouts: short }),
    ])
    t.equal(muted.code, 1)
    t.match(told(muted), {
      failure: { message: /ended at the receiver: Alertmanager has it for on-call, and no echo came, after 1 s/ },
      drill: { proven: false, hops: [{ outcome: 'passed' }, { hop: 'receiver', outcome: 'failed' }] },
    })
    relay.isOpen = true
    const other = await file('other', { receiver: 'the-boss', timeouts: { ...short, receiver: '3s' } })
    const wrong = await cli(['drill', 'alert', '--json', '--from', 'alertmanager', '--config', other])
    t.match(told(wrong).failure, { message: /ended at the receiver: the-boss has not sent it back: only on-call did/ })
    const unheard = await cli(['drill', 'alert', '--json', '--from', 'alertmanager', '--no-echo', '--config', other])
    t.match(told(unheard), { state: 'succeeded', drill: { proven: false } }, 'nobody was waited for')
  })

  await t.test('an Alertmanager that hangs, refuses, or is not there', async (t) => {
    const [hung, refusing] = await Promise.all([startStubborn(t, null), startStubborn(t, 401)])
    const gone = `http://127.0.0.1:${await freePort()}`
    const cases: readonly (readonly [url: string, message: RegExp, hint: RegExp])[] = [
      [hung, /at Alertmanager: .*:\d+ cannot be asked: it does not answer within 0\.2 s, after 1 s$/, /hangs/],
      [refusing, /cannot be asked: it answers with 401$/, /Authorization.*headersFile/],
      [gone, /cannot be asked: it cannot be reached \(ECONNREFUSED\), after 1 s$/, /whether it runs/],
    ]
    for (const [index, [url, message, hint]] of cases.entries()) {
      const pair = { alertmanagers: [{ url: alertmanager.url }, { url }], timeouts: short }
      const told = await cli(['drill', 'alert', '--from', 'alertmanager', '--config', await file(`pair${index}`, pair)])
      t.equal(told.code, 1)
      const [what = '', advice = ''] = told.err.split('\n').slice(-3)
      t.match(what, message)
      t.match(what, url)
      t.match(advice, hint)
    }
  })

  await t.test('what Prometheus lacks', async (t) => {
    const server = { url: prometheus.url, headers: async () => ({}), authorities: async () => null }
    const asker = await createAsker(server, { clock: systemClock, requestMs: 10_000, userAgent: 'test' })
    const { signal } = new AbortController()
    const ask = (cluster: string) =>
      passHop(prometheusHop(asker, { drill: '1', cluster }, 0), { clock: systemClock, signal })
    await t.rejects(ask('other "one"'), { message: /does not scrape this sidecar: it has no lifeboat_alert_drill/ })
    await t.rejects(ask('spavix'), { message: /has not scraped the drill yet/ })
    t.match(await whyNotSent(asker, signal), {
      why: `Prometheus at ${prometheus.url} sends alerts to ${alertmanager.url}`,
    })
    await asker.close()
    await prometheus.rules('groups: []\n')
    const run = await drill({})
    t.match(run.failure, {
      message: `the alert drill ended at Prometheus: Prometheus at ${prometheus.url} has not loaded the rule LifeboatAlertDrill`,
      hint: /rule_files/,
    })
  })

  await t.test('afterwards nothing is left', async (t) => {
    t.equal(await shown('lifeboat_alert_drill_started_timestamp_seconds'), 0)
    await untilAnswer('all alerts have ended', async () => {
      const response = await fetch(`${alertmanager.url}/api/v2/alerts?filter=alertname%3D%22LifeboatAlertDrill%22`)
      return ((await response.json()) as unknown[]).length === 0
    })
    const text = 'an echo of no drill'
    const echo = {
      receiver: 'x',
      alerts: [{ status: 'firing', labels: { alertname: 'LifeboatAlertDrill', cluster_name: 'spavix', drill: '1' } }],
    }
    t.same(JSON.parse((await request('/api/alerts/echo', echo)).text), { heard: false }, text)
    t.equal((await request('/api/alerts/echo', echo, 'lb_wrong')).status, 401)
    t.equal((await request('/api/admin/drill/alert', {}, tokens.echo)).status, 403, 'that token cannot do more')
    t.match(await request('/api/alerts/echo', { alerts: 'x' }), { status: 400 })
  })
})
