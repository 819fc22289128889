import { Type } from 'typebox'
import { drillAlert, drillLabel, drillOrigins } from '../../domain/alert-drill.ts'
import { LifeboatError } from '../../domain/errors.ts'
import type { App } from '../instance.ts'
import type { HttpDependencies } from '../ports.ts'
import { problems, RunRef } from '../schemas.ts'
import type { RunAnswer } from './runs.ts'

/** A receiver's message may hold many alerts, each with long texts. */
const messageBytes = 4 * 1024 * 1024

const texts = Type.Record(Type.String(), Type.Unknown())

/** What Alertmanager sends to a webhook, as far as it matters here; https://prometheus.io/docs/alerting/latest/configuration/#webhook_config */
const Message = Type.Object(
  {
    receiver: Type.Optional(Type.String({ maxLength: 1024 })),
    alerts: Type.Optional(Type.Array(Type.Object({ status: Type.Optional(Type.String()), labels: texts }))),
  },
  { description: 'A message of Alertmanager to a webhook (version 4); further members are passed over' },
)

const Heard = Type.Object(
  { heard: Type.Boolean() },
  { description: 'Whether the drill that goes on was among the alerts' },
)

const DrillBody = Type.Object(
  {
    from: Type.Optional(
      Type.Enum([...drillOrigins], {
        description: 'A rule of Prometheus, or the door of Alertmanager. Default: alertDrill.from',
      }),
    ),
    echo: Type.Optional(Type.Boolean({ description: 'Wait for a receiver that sends it back. Default: true' })),
  },
  { additionalProperties: false },
)

/** Tries whether alerts arrive, and hears of those that did. */
export function alertRoutes(app: App, { runner, alertDrill, cluster }: HttpDependencies): void {
  app.post(
    '/api/alerts/echo',
    {
      // Alertmanager changes nothing by it but what becomes of a drill.
      config: { access: 'viewer' },
      bodyLimit: messageBytes,
      schema: {
        tags: ['alerts'],
        security: [{ bearer: [] }],
        summary: 'For a webhook of Alertmanager: tells of a drill that its receiver has got it',
        body: Message,
        response: { 200: Heard, ...problems(400, 401, 403, 413, 415, 503) },
      },
    },
    async (request) => {
      const { receiver = '', alerts = [] } = request.body
      const drills = alerts.flatMap(({ status, labels }) => {
        const drill = labels[drillLabel]
        const isOurs = labels.alertname === drillAlert && labels.cluster_name === cluster && status !== 'resolved'
        return isOurs && typeof drill === 'string' ? [drill] : []
      })
      const heard = drills.map((drill) => alertDrill?.hear({ drill, receiver }) ?? false)
      return { heard: heard.includes(true) }
    },
  )
  app.post(
    '/api/admin/drill/alert',
    {
      config: { access: 'operator' },
      schema: {
        tags: ['admin'],
        security: [{ bearer: [] }],
        summary: 'Try whether alerts arrive',
        body: DrillBody,
        response: {
          202: {
            description: 'Accepted; Location names the run',
            headers: { location: { type: 'string', description: '/api/runs/:id' } },
            content: { 'application/json': { schema: RunRef } },
          },
          ...problems(400, 401, 403, 409, 413, 415, 429, 503),
        },
      },
    },
    async (request, reply) => {
      if (alertDrill === null) throw noAlertmanager()
      const { from = alertDrill.from, echo = true } = request.body
      const { requestedBy } = request
      const run = runner.trigger({ job: 'alert-drill', params: { from, echo }, trigger: 'api', requestedBy })
      return reply
        .code(202)
        .header('location', `/api/runs/${run.id}`)
        .send(run as RunAnswer)
    },
  )
}

function noAlertmanager(): LifeboatError {
  return new LifeboatError('conflict', 'no Alertmanager is configured, so there are no drills of alerts', {
    hint: 'set alertDrill.alertmanagers',
  })
}
