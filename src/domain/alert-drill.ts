/**
 * A drill of the way from an alert to a person: an alert that says that it is a drill goes the way that all of them go, and
 * is looked for at each place that it comes through.
 */

/** The alert; its rule is in src/alerts/drills.ts. */
export const drillAlert = 'LifeboatAlertDrill'

/** Its value is the id of the drill that goes on. */
export const drillMetric = 'lifeboat_alert_drill_started_timestamp_seconds'

/** The way that matters is that of the alerts that wake somebody. */
export const drillSeverity = 'critical'

/**
 * Label with the id of the drill, digits alone: each drill is another alert. Alertmanager tells a receiver of an alert once, and would
 * not again of the same one before it has told of its end, minutes later.
 */
export const drillLabel = 'drill'

/** Its texts, as templates of Prometheus; nobody must take it for something else. */
export const drillTexts = {
  summary: 'DRILL, nothing is wrong: an alert of {{ $labels.cluster_name }} has arrived',
  description:
    'Somebody, or the schedule, tries whether alerts of Lifeboat arrive: this one did. It ends by itself within minutes.',
  first: 'none',
} as const

/** The places that it comes through, in their order. */
export const drillHops = ['sidecar', 'prometheus', 'alertmanager', 'receiver', 'resolved'] as const
export type DrillHopName = (typeof drillHops)[number]

/** Where it begins: as a metric that a rule makes an alert of, or at Alertmanager's door. */
export const drillOrigins = ['rule', 'alertmanager'] as const
export type DrillOrigin = (typeof drillOrigins)[number]

/** What became of a drill at one of its places. */
export interface DrillHop {
  readonly hop: DrillHopName
  readonly outcome: 'passed' | 'failed'
  readonly seconds: number
  /** What was seen there; of a failure, what is wrong. */
  readonly detail: string
}

/** What came of a drill. */
export interface DrillResult {
  readonly drill: string
  readonly runId: string
  readonly from: DrillOrigin
  readonly hops: readonly DrillHop[]
  /** The whole way, as it is configured, up to the receiver. */
  readonly proven: boolean
}
