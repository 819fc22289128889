import { drillAlert, drillLabel, drillMetric } from '../domain/alert-drill.ts'
import type { Asker } from './ask.ts'
import type { Explanation, Hop, Look } from './hop.ts'
import { type Fields, fieldsOf, listOf, textOf } from './shapes.ts'

export interface Wanted {
  readonly drill: string
  readonly cluster: string
}

const rulesPath = `/api/v1/rules?type=alert&rule_name[]=${drillAlert}`

/** Prometheus has the rule, and the rule fires. */
export function prometheusHop(asker: Asker, wanted: Wanted, withinMs: number): Hop {
  const at = `Prometheus at ${asker.url}`
  return {
    hop: 'prometheus',
    waitsFor: 'Prometheus to fire the rule',
    withinMs,
    async look(signal): Promise<Look> {
      const answer = await asker.ask(rulesPath, signal)
      if (!answer.ok)
        return { state: answer.canPass ? 'waiting' : 'failed', why: `${at}: ${answer.why}`, hint: answer.hint }
      // Older ones know no selection of rules.
      const rules = rulesIn(answer.body).filter(({ name }) => name === drillAlert)
      const broken = rules.find(({ health }) => health === 'err')
      if (rules.length === 0)
        return {
          state: 'failed',
          why: `${at} has not loaded the rule ${drillAlert}`,
          hint: 'name alerts/lifeboat.rules.yml in rule_files of Prometheus, and have it reload its configuration',
        }
      if (broken !== undefined)
        return {
          state: 'waiting',
          why: `${at} cannot evaluate the rule: ${textOf(broken.lastError)}`,
          hint: 'load alerts/lifeboat.rules.yml of this version',
        }
      const firing = rules.flatMap(({ alerts }) => listOf(alerts)).find((alert) => isDrill(alert, wanted))
      if (firing?.state === 'firing') return { state: 'passed', detail: `${at}: the rule fires` }
      return {
        state: 'waiting',
        why: `${at} has the rule, and it does not fire`,
        hint: 'compare the rule with alerts/lifeboat.rules.yml: an old copy has no label `drill`, or waits by `for`',
      }
    },
    async explain(signal) {
      const values = await scrapedDrills(asker, wanted.cluster, signal)
      if (values === null) return null
      if (values.length === 0) return notScraped(asker)
      if (values.includes(Number(wanted.drill))) return null
      return {
        why: `${at} has not scraped the drill yet`,
        hint: 'look at its targets: scrapes fail, or come further apart than alertDrill.timeouts.prometheus',
      }
    },
  }
}

/** The rules of an answer to `/api/v1/rules`, alerts and recordings of all groups. */
export function rulesIn(body: unknown): readonly Fields[] {
  return listOf(fieldsOf(fieldsOf(body).data).groups).flatMap(({ rules }) => listOf(rules))
}

/** What it has of the metric of drills of a cluster, a value for each sidecar; null: it does not say. */
export async function scrapedDrills(
  asker: Asker,
  cluster: string,
  signal: AbortSignal,
): Promise<readonly number[] | null> {
  const query = `${drillMetric}{cluster_name=${JSON.stringify(cluster)}}`
  const answer = await asker.ask(`/api/v1/query?query=${encodeURIComponent(query)}`, signal)
  if (!answer.ok) return null
  return listOf(fieldsOf(fieldsOf(answer.body).data).result).map(({ value }) =>
    Array.isArray(value) ? Number(value[1]) : Number.NaN,
  )
}

export const notScraped = ({ url }: Asker): Explanation => ({
  why: `Prometheus at ${url} does not scrape this sidecar: it has no ${drillMetric} of the cluster`,
  hint: 'look at its targets: is the sidecar among them, is it up?',
})

/** The URLs of the Alertmanagers that it sends to; null: it does not say. */
export async function knownAlertmanagers(asker: Asker, signal: AbortSignal): Promise<readonly string[] | null> {
  const answer = await asker.ask('/api/v1/alertmanagers', signal)
  if (!answer.ok) return null
  return listOf(fieldsOf(fieldsOf(answer.body).data).activeAlertmanagers).map(({ url }) =>
    textOf(url).replace(/\/api\/v2\/alerts$/, ''),
  )
}

export const knowsNone = ({ url }: Asker): Explanation => ({
  why: `Prometheus at ${url} knows no Alertmanager`,
  hint: 'set alerting.alertmanagers in the configuration of Prometheus; some seconds after a reload it knows none yet',
})

/** What Prometheus knows of Alertmanagers, for an alert that did not come there; null: nothing that explains it. */
export async function whyNotSent(asker: Asker, signal: AbortSignal): Promise<Explanation | null> {
  const known = await knownAlertmanagers(asker, signal)
  if (known === null) return null
  return known.length === 0
    ? knowsNone(asker)
    : {
        why: `Prometheus at ${asker.url} sends alerts to ${known.join(' and ')}`,
        hint: 'compare that with alertDrill.alertmanagers; then look into the log of Prometheus for `Error sending alert`, and at alert_relabel_configs',
      }
}

/** True for the alert of this very drill. */
export function isDrill({ labels }: Fields, { drill, cluster }: Wanted): boolean {
  const { cluster_name: name, [drillLabel]: id } = fieldsOf(labels)
  return name === cluster && id === drill
}
