import { unsent } from '../alert-drill/alertmanager.ts'
import { type Answer, type Asker, createAsker } from '../alert-drill/ask.ts'
import { knownAlertmanagers, knowsNone, notScraped, rulesIn, scrapedDrills } from '../alert-drill/prometheus.ts'
import { listOf } from '../alert-drill/shapes.ts'
import type { Clock } from '../clock.ts'
import type { AlertServer } from '../config/alert-servers.ts'
import type { ValidatedConfig } from '../config/validated.ts'
import { judgeRules } from './alert-rules.ts'
import { type Finding, looked, ok, unknown, warning } from './finding.ts'

interface Looking {
  /** When a drill last proved the whole way; null: none has. */
  readonly provenAt: () => Date | null
  readonly clock: Clock
  /** Of Lifeboat, for the servers' logs. */
  readonly version: string
  readonly signal: AbortSignal
}

type Configured = Pick<ValidatedConfig, 'alertDrill' | 'cluster' | 'observe' | 'policy' | 'schedule'>

/** It always fires, so whoever is sent alerts has it. */
const heartbeat = 'Watchdog'

/**
 * Whether Prometheus and Alertmanager answer, whether the one has our rules and sends to the other, and when a drill last came through.
 * Sends no alert. No request takes longer than `observe.timeout`.
 */
export async function checkAlertPath(config: Configured, looking: Looking): Promise<readonly Finding[]> {
  const { alertmanagers, prometheus, from } = config.alertDrill
  // Where a drill begins at Alertmanager, the rules are those of somebody else.
  const asked = prometheus !== null && from === 'rule' ? await lookAtPrometheus(prometheus, config, looking) : null
  const looks = alertmanagers.map((server) =>
    looked('alerts', async () => {
      const path = `/api/v2/alerts?filter=${encodeURIComponent(`alertname="${heartbeat}"`)}`
      return withAsker(server, config, looking, async (asker) =>
        judgeAlertmanager(asker, await asker.ask(path, looking.signal), { from, sender: asked?.sender ?? null }),
      )
    }),
  )
  return [
    ...(asked?.findings ?? []),
    ...(await Promise.all(looks)).flat(),
    ...(alertmanagers.length === 0
      ? [
          unknown(
            'alerts',
            'nobody can tell whether alerts arrive: no Alertmanager is configured',
            'set alertDrill.alertmanagers and alertDrill.prometheus (docs/alert-drill.md), e.g. [{ url: "http://127.0.0.1:9093" }] and { url: "http://127.0.0.1:9090" }',
          ),
        ]
      : await looked('alerts', async () => [judgeProof(config, looking)])),
  ]
}

async function withAsker<T>(
  server: AlertServer,
  { alertDrill, observe }: Configured,
  { clock, version }: Looking,
  use: (asker: Asker) => Promise<T>,
): Promise<T> {
  const requestMs = Math.min(alertDrill.requestMs, 1000 * observe.timeoutSeconds)
  const asker = await createAsker(server, { clock, requestMs, userAgent: `lifeboat/${version}` })
  try {
    return await use(asker)
  } finally {
    await asker.close()
  }
}

/** What Prometheus tells of the Alertmanagers that it sends to. */
interface Sender {
  readonly known: readonly string[]
  /** The alert that always fires is among its rules. */
  readonly hasHeartbeat: boolean
}

async function lookAtPrometheus(
  server: AlertServer,
  config: Configured,
  looking: Looking,
): Promise<{ readonly findings: readonly Finding[]; readonly sender: Sender | null }> {
  const { signal } = looking
  const told: { sender: Sender | null } = { sender: null }
  const findings = await looked('alerts', () =>
    withAsker(server, config, looking, async (asker) => {
      // All at once: one that hangs is waited for once.
      const [rules, known, drills] = await Promise.all([
        asker.ask('/api/v1/rules?exclude_alerts=true', signal),
        knownAlertmanagers(asker, signal),
        scrapedDrills(asker, config.cluster, signal),
      ])
      if (!rules.ok) return [warning('alerts', `Prometheus at ${asker.url}: ${rules.why}`, rules.hint)]
      if (known !== null)
        told.sender = { known, hasHeartbeat: rulesIn(rules.body).some(({ name }) => name === heartbeat) }
      // Here, not above: the sidecar has no use for the rules.
      const { ruleGroups } = await import('../alerts/render.ts')
      const [none, silent] = [knowsNone(asker), notScraped(asker)]
      return [
        ...judgeRules(asker.url, rules.body, ruleGroups()),
        ...(drills?.length === 0 ? [warning('alerts', silent.why, silent.hint)] : []),
        ...(known?.length === 0 ? [warning('alerts', none.why, none.hint)] : []),
      ]
    }),
  )
  return { findings, ...told }
}

function judgeAlertmanager(
  { url }: Asker,
  answer: Answer,
  { from, sender }: { readonly from: Configured['alertDrill']['from']; readonly sender: Sender | null },
): readonly Finding[] {
  const at = `Alertmanager at ${url}`
  if (!answer.ok) return [warning('alerts', `${at} cannot be asked: ${answer.why}`, answer.hint)]
  if (from === 'alertmanager') return [ok('alerts', `${at} answers`)]
  if (listOf(answer.body).length > 0)
    return [ok('alerts', `${at} has the alert ${heartbeat}, which always fires: alerts come there`)]
  if (sender === null) return [warning('alerts', `${at} does not have ${heartbeat}, which always fires`, unsent)]
  if (sender.known.length === 0) return [ok('alerts', `${at} answers`)] // that it gets nothing has been said
  // By another name it may still be the same: the alert that always fires would be there.
  if (!sender.known.includes(url))
    return [
      warning(
        'alerts',
        `${at} is not among those to which Prometheus sends: ${sender.known.join(', ')}`,
        'add it to alerting.alertmanagers in the configuration of Prometheus, or correct alertDrill.alertmanagers',
      ),
    ]
  if (!sender.hasHeartbeat) return [ok('alerts', `${at} is among those to which Prometheus sends`)]
  return [
    warning(
      'alerts',
      `${at} does not have ${heartbeat}, though Prometheus has the rule and knows this Alertmanager`,
      'after a restart of either wait for a minute; else look into the log of Prometheus for `Error sending alert`, and at alert_relabel_configs',
    ),
  ]
}

function judgeProof({ policy, schedule }: Configured, { provenAt, clock }: Looking): Finding {
  const again = schedule.alertDrill === null ? '; schedule.alertDrill has it done again and again' : ''
  const at = provenAt()
  if (at === null)
    return warning(
      'alerts',
      'no drill has shown yet that an alert reaches its receiver',
      `lifeboat drill alert${again}`,
    )
  const limit = policy.alertPathMaxAgeSeconds
  const when = `${at.toISOString().slice(0, 19).replace('T', ' ')}Z`
  if (limit === null || clock.now().getTime() - at.getTime() <= 1000 * limit)
    return ok('alerts', `an alert last reached its receiver at ${when}`)
  return warning(
    'alerts',
    `an alert last reached its receiver at ${when}, longer ago than policy.alertPathMaxAge or schedule.alertDrill allows`,
    `lifeboat drill alert${again}`,
  )
}
