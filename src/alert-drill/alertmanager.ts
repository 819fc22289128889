import { drillAlert } from '../domain/alert-drill.ts'
import type { Answer, Asker } from './ask.ts'
import type { Explanation, Hop, Look } from './hop.ts'
import { isDrill, type Wanted } from './prometheus.ts'
import { type Fields, fieldsOf, listOf, textOf, textsOf } from './shapes.ts'

export const unsent =
  'see whether Prometheus scrapes this sidecar, has loaded alerts/lifeboat.rules.yml and sends to this Alertmanager; with alertDrill.prometheus a drill says which'

type Unanswered = Extract<Answer, { ok: false }>

/** The alert of this drill, as an Alertmanager has it; null: it has none. */
async function askFor(
  asker: Asker,
  wanted: Wanted,
  signal: AbortSignal,
): Promise<Unanswered | { readonly ok: true; readonly alert: Fields | null }> {
  const filter = encodeURIComponent(`alertname="${drillAlert}"`)
  const answer = await asker.ask(`/api/v2/alerts?filter=${filter}`, signal)
  if (!answer.ok) return answer
  return { ok: true, alert: listOf(answer.body).find((alert) => isDrill(alert, wanted)) ?? null }
}

/**
 * All Alertmanagers have it, and none keeps it to itself.
 *
 * @param before is done before each look, where nobody else sends the alert
 */
export function alertmanagerHop(
  askers: readonly Asker[],
  wanted: Wanted,
  options: {
    readonly withinMs: number
    readonly before?: (asker: Asker, signal: AbortSignal) => Promise<Answer>
    readonly explain: (signal: AbortSignal) => Promise<Explanation | null>
  },
): Hop {
  let missing = false
  return {
    hop: 'alertmanager',
    waitsFor: askers.length === 1 ? 'Alertmanager to have it' : `all ${askers.length} Alertmanagers to have it`,
    withinMs: options.withinMs,
    async look(signal) {
      const looks = await Promise.all(askers.map((asker) => lookAt(asker, wanted, { before: options.before, signal })))
      missing = looks.some(({ isMissing }) => isMissing)
      const all = looks.map(({ look }) => look)
      const wrong = all.find(({ state }) => state === 'failed') ?? all.find(({ state }) => state === 'waiting')
      if (wrong !== undefined) return wrong
      return { state: 'passed', detail: all.map((look) => (look.state === 'passed' ? look.detail : '')).join('; ') }
    },
    async explain(signal) {
      // What is wrong with one that does not answer has been said.
      return missing ? options.explain(signal) : null
    },
  }
}

async function lookAt(
  asker: Asker,
  wanted: Wanted,
  {
    before,
    signal,
  }: {
    readonly before: ((asker: Asker, signal: AbortSignal) => Promise<Answer>) | undefined
    readonly signal: AbortSignal
  },
): Promise<{ readonly look: Look; readonly isMissing: boolean }> {
  const at = `Alertmanager at ${asker.url}`
  const of = (state: 'waiting' | 'failed', { why, hint }: Explanation, isMissing = false) => ({
    look: { state, why: `${at} ${why}`, hint },
    isMissing,
  })
  const posted = (await before?.(asker, signal)) ?? { ok: true as const }
  const found = posted.ok ? await askFor(asker, wanted, signal) : posted
  if (!found.ok)
    return of(found.canPass ? 'waiting' : 'failed', { why: `cannot be asked: ${found.why}`, hint: found.hint })
  const { alert } = found
  if (alert === null) return of('waiting', { why: 'does not know it', hint: unsent }, true)
  const muted = whyMuted(alert)
  if (muted !== null) return of('failed', muted)
  const receivers = receiversOf(alert)
  const to = receivers.length === 0 ? '' : `, for ${receivers.join(' and ')}`
  return { look: { state: 'passed', detail: `${at} has it${to}` }, isMissing: false }
}

/** Why Alertmanager tells nobody of an alert that it has; null: nothing keeps it. */
function whyMuted({ status }: Fields): Explanation | null {
  const { silencedBy, inhibitedBy, mutedBy } = fieldsOf(status)
  const [silences, inhibitors, intervals] = [textsOf(silencedBy), textsOf(inhibitedBy), textsOf(mutedBy)]
  if (silences.length > 0)
    return {
      why: `keeps it silent, by silence ${silences.join(', ')}`,
      hint: `all that this silence mutes goes unheard: amtool silence query, then amtool silence expire ${silences[0]}`,
    }
  if (inhibitors.length > 0)
    return {
      why: `inhibits it, because of alert ${inhibitors.join(', ')}`,
      hint: `another alert fires: mend that first, or leave alertname="${drillAlert}" out of inhibit_rules`,
    }
  if (intervals.length > 0)
    return {
      why: `mutes it now, by time interval ${intervals.join(', ')}`,
      hint: 'drill at another hour, or look at mute_time_intervals of the route',
    }
  return null
}

function receiversOf({ receivers }: Fields): readonly string[] {
  return listOf(receivers).map(({ name }) => textOf(name))
}

/** What the Alertmanagers say of an alert that no receiver has sent back. */
export async function whyNotHeard(
  askers: readonly Asker[],
  wanted: Wanted,
  signal: AbortSignal,
): Promise<Explanation | null> {
  for (const asker of askers) {
    const found = await askFor(asker, wanted, signal)
    if (!found.ok || found.alert === null) continue
    const muted = whyMuted(found.alert)
    if (muted !== null) return { why: `Alertmanager at ${asker.url} ${muted.why}`, hint: muted.hint }
    return {
      why: `Alertmanager has it for ${receiversOf(found.alert).join(' and ')}, and no echo came`,
      hint: 'give that receiver a webhook with the url of POST /api/alerts/echo and a token (docs/alert-drill.md), then look into the logs of Alertmanager (`Notify for alerts failed`) and of Lifeboat (`request refused`)',
    }
  }
  return null
}

/** No Alertmanager has it any more. */
export function resolvedHop(askers: readonly Asker[], wanted: Wanted, withinMs: number): Hop {
  return {
    hop: 'resolved',
    waitsFor: 'the alert to end',
    withinMs,
    async look(signal) {
      for (const asker of askers) {
        const at = `Alertmanager at ${asker.url}`
        const found = await askFor(asker, wanted, signal)
        if (!found.ok) return { state: 'waiting', why: `${at} cannot be asked: ${found.why}`, hint: found.hint }
        if (found.alert === null) continue
        return {
          state: 'waiting',
          why: `${at} still has it`,
          hint: 'look at Prometheus: does it still scrape the sidecar, does it reach that Alertmanager?',
        }
      }
      return { state: 'passed', detail: 'no Alertmanager has it any more' }
    },
  }
}
