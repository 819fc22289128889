import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { fetch } from 'undici'
import { DrillState } from '../../src/alert-drill/state.ts'
import { type RuleGroup, ruleGroups } from '../../src/alerts/render.ts'
import { createApp } from '../../src/app.ts'
import type { Finding } from '../../src/check/finding.ts'
import { systemClock } from '../../src/clock.ts'
import { loadConfig } from '../../src/config/load.ts'
import { openHistory } from '../../src/runner/history.ts'
import { startScraping, startStubborn } from '../alert-drill/stack.ts'
import { startAlertmanager } from '../support/alertmanager.ts'
import { cli } from '../support/cli.ts'
import { keptLog } from '../support/log.ts'
import { freePort } from '../support/postgres.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { untilAnswer } from '../support/until.ts'

/** A sidecar that only watches, so that a check of it takes no time. */
async function watching(t: Test) {
  const directory = await scratchDirectory(t)
  const place = async (name: string) => {
    const path = join(directory, name)
    await mkdir(path, { recursive: true })
    return path
  }
  const listen = `127.0.0.1:${await freePort()}`
  const watched = await place('watched')
  const configure = async (more: object) => {
    const path = join(directory, 'lifeboat.yaml')
    const config = { cluster: 'spavix', listen, stateDir: join(directory, 'state'), watch: [{ directory: watched }] }
    await writeFile(path, JSON.stringify({ ...config, ...more }))
    return path
  }
  return {
    place,
    configure,
    url: `http://${listen}`,
    /** What `lifeboat check` finds out about alerts, with this configuration; all else is well. */
    async check(more: object): Promise<readonly Finding[]> {
      const path = await configure(more)
      const { code, out, err } = await cli(['check', '--json', '--config', path])
      if (code !== 0) throw new Error(`${out}${err}`)
      const found = (JSON.parse(out) as Finding[]).filter(({ area }) => area === 'alerts')
      for (const { status, what, hint } of found) if (status !== 'ok') t.match(hint, /\w/, `a hint to: ${what}`)
      return found
    },
    noteProven(at: Date) {
      const history = openHistory({
        file: join(directory, 'state', 'lifeboat.db'),
        clock: systemClock,
        log: keptLog().log,
      })
      new DrillState(history).noteProven(at)
      history.close()
    },
  }
}

const inShort = (findings: readonly Finding[]) => findings.map(({ status, what }) => `${status} ${what}`)

t.test('a real Prometheus and a real Alertmanager', { timeout: 60_000 }, async (t) => {
  const sidecar = await watching(t)
  const alertmanagerFile = join(await sidecar.place('am'), 'alertmanager.yml')
  await writeFile(alertmanagerFile, JSON.stringify({ route: { receiver: 'x' }, receivers: [{ name: 'x' }] }))
  const startedAlertmanager = async (name: string) => {
    const started = await startAlertmanager(await sidecar.place(name), alertmanagerFile)
    t.teardown(() => started.stop())
    return started.url
  }
  const [alertmanager, other] = [await startedAlertmanager('am'), await startedAlertmanager('other')]
  const startedPrometheus = async (name: string, to: string) =>
    startScraping(t, await sidecar.place(name), {
      target: sidecar.url,
      alertmanager: to,
      // What is sent before Alertmanager is known is lost, and sent again after a minute otherwise.
      flags: ['--rules.alert.resend-delay=1s'],
    })
  const prometheus = await startedPrometheus('prometheus', alertmanager)
  const alertDrill = { alertmanagers: [{ url: `${alertmanager}/` }], prometheus: { url: prometheus.url } }
  const has = async (query: string) => {
    const response = await fetch(`${prometheus.url}/api/v1/query?query=${encodeURIComponent(query)}`)
    return ((await response.json()) as { data: { result: unknown[] } }).data.result.length > 0
  }
  const hasWatchdog = async () => {
    const response = await fetch(`${alertmanager}/api/v2/alerts?filter=alertname%3D%22Watchdog%22`)
    return ((await response.json()) as unknown[]).length > 0
  }
  const loaded = { status: 'ok', what: `Prometheus at ${prometheus.url} has loaded every alert of this version` }
  const arrive = {
    status: 'ok',
    what: `Alertmanager at ${alertmanager} has the alert Watchdog, which always fires: alerts come there`,
  }
  const unproven = { status: 'warning', what: /no drill has shown yet/, hint: /^lifeboat drill alert; schedule/ }
  await untilAnswer('alerts arrive', hasWatchdog)

  await t.test('nothing is scraped yet, nothing is proven', async (t) => {
    t.match(await sidecar.check({ alertDrill }), [
      loaded,
      { status: 'warning', what: /does not scrape this sidecar/, hint: /targets/ },
      arrive,
      unproven,
    ])
  })

  const app = await createApp(await loadConfig({ path: await sidecar.configure({ alertDrill }), env: {} }), {
    clock: systemClock,
    log: keptLog().log,
    version: { version: '0.0.0-test', revision: 'abc' },
  })
  t.teardown(() => app.stop())
  await app.start()
  await untilAnswer('it is scraped', () => has('lifeboat_alert_drill_started_timestamp_seconds{cluster_name="spavix"}'))

  await t.test('all is well, and then the proof is too old', async (t) => {
    sidecar.noteProven(new Date(Date.now() - 3_600_000))
    t.match(await sidecar.check({ alertDrill }), [
      loaded,
      arrive,
      { status: 'ok', what: /^an alert last reached its receiver at \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ$/ },
    ])
    sidecar.noteProven(new Date(Date.now() - 9 * 86_400_000))
    t.match(await sidecar.check({ alertDrill, schedule: { alertDrill: '0 9 * * 1' } }), [
      loaded,
      arrive,
      {
        status: 'warning',
        what: /longer ago than policy\.alertPathMaxAge or schedule\.alertDrill allows$/,
        hint: /^lifeboat drill alert$/,
      },
    ])
  })

  await t.test('an Alertmanager to which nothing is sent', async (t) => {
    const pair = { ...alertDrill, alertmanagers: [{ url: alertmanager }, { url: other }] }
    const what = `Alertmanager at ${other} is not among those to which Prometheus sends: ${alertmanager}`
    t.match((await sidecar.check({ alertDrill: pair })).slice(0, 3), [
      loaded,
      arrive,
      { status: 'warning', what, hint: /alerting\.alertmanagers/ },
    ])
    t.match((await sidecar.check({ alertDrill: { alertmanagers: [{ url: other }] } })).slice(0, 1), [
      {
        status: 'warning',
        what: `Alertmanager at ${other} does not have Watchdog, which always fires`,
        hint: /alertDrill\.prometheus/,
      },
    ])
    t.match((await sidecar.check({ alertDrill: { ...pair, from: 'alertmanager' } })).slice(0, 2), [
      { status: 'ok', what: `Alertmanager at ${alertmanager} answers` },
      { status: 'ok', what: `Alertmanager at ${other} answers` },
    ])
  })

  await t.test('a Prometheus that knows another one by another name, or none', async (t) => {
    const { port } = new URL(alertmanager)
    const named = { ...alertDrill, alertmanagers: [{ url: `http://localhost:${port}` }] }
    t.match((await sidecar.check({ alertDrill: named }))[1], { status: 'ok', what: /has the alert Watchdog/ })
    const alone = await startedPrometheus('alone', other)
    await alone.alertmanagers([])
    const found = await sidecar.check({ alertDrill: { ...alertDrill, prometheus: { url: alone.url } } })
    t.ok(inShort(found).includes(`warning Prometheus at ${alone.url} knows no Alertmanager`), inShort(found).join('\n'))
  })

  await t.test('rules of another version, or none', async (t) => {
    const old = ruleGroups()
      .filter(({ name }) => name !== 'lifeboat.memory')
      .map(
        (group): RuleGroup => ({
          ...group,
          rules: group.rules.filter((rule) => !('alert' in rule && rule.alert === 'LifeboatClockSkew')),
        }),
      )
    await prometheus.rules(JSON.stringify({ groups: old }))
    t.match((await sidecar.check({ alertDrill }))[0], {
      status: 'warning',
      what: `Prometheus at ${prometheus.url} has not loaded every rule of this version: all of lifeboat.memory, LifeboatClockSkew are missing`,
      hint: /lifeboat\.rules\.yml of this version/,
    })
    const [watchdog] = ruleGroups().filter(({ name }) => name === 'lifeboat.watchdog')
    await prometheus.rules(JSON.stringify({ groups: [{ ...watchdog, name: 'general.rules' }] }))
    t.match((await sidecar.check({ alertDrill }))[0], {
      status: 'warning',
      what: `Prometheus at ${prometheus.url} has loaded none of the alerts of Lifeboat`,
      hint: /rule_files/,
    })
  })
})

t.test('servers that hang, refuse, or are not there', async (t) => {
  const sidecar = await watching(t)
  const [hung, refusing] = await Promise.all([startStubborn(t, null), startStubborn(t, 401)])
  const gone = `http://127.0.0.1:${await freePort()}`
  const found = await sidecar.check({
    observe: { timeout: '1s' },
    alertDrill: { alertmanagers: [{ url: hung }, { url: refusing }, { url: gone }], prometheus: { url: hung } },
  })
  t.match(found, [
    { status: 'warning', what: `Prometheus at ${hung}: it does not answer within 1 s`, hint: /hangs/ },
    { status: 'warning', what: `Alertmanager at ${hung} cannot be asked: it does not answer within 1 s` },
    { status: 'warning', what: /cannot be asked: it answers with 401/, hint: /headersFile/ },
    { status: 'warning', what: /cannot be asked: it cannot be reached \(ECONNREFUSED\)/, hint: /whether it runs/ },
    { status: 'warning', what: /no drill has shown yet/ },
  ])
})

t.test('a file with headers that cannot be read', async (t) => {
  const sidecar = await watching(t)
  const server = { url: 'http://127.0.0.1:9', headersFile: '/nonexistent/headers' }
  const path = await sidecar.configure({ alertDrill: { alertmanagers: [server] } })
  const { code, out } = await cli(['check', '--config', path])
  t.equal(code, 1)
  t.match(out, /^error {4}alerts {7}.*\/nonexistent\/headers/m)
})

t.test('where nothing is configured it says what to set', async (t) => {
  const sidecar = await watching(t)
  t.match(await sidecar.check({}), [
    { status: 'unknown', what: /nobody can tell whether alerts arrive/, hint: /^set alertDrill\.alertmanagers/ },
  ])
})
