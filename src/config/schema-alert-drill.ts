import { Type } from 'typebox'
import { drillOrigins } from '../domain/alert-drill.ts'
import { choice, duration, section, text } from './schema-keys.ts'

const server = (name: string, port: number) => ({
  url: text({
    kind: 'serverUrl',
    description: `Where ${name} is, with the path before \`/api\` if it has one.`,
    example: `http://127.0.0.1:${port}`,
  }),
  headersFile: Type.Optional(
    text({
      kind: 'path',
      description:
        'File with headers that each request carries, one a line, read at each drill: `Authorization: Bearer …`, `X-Scope-OrgID: …`.',
      absent: 'none',
      example: '/etc/lifeboat/headers',
    }),
  ),
  caFile: Type.Optional(
    text({
      kind: 'path',
      description: 'File with the certificate authorities that its certificate may be of (PEM).',
      absent: "Node's own",
      example: '/etc/ssl/certs/own-ca.pem',
    }),
  ),
})

const limit = (description: string, byDefault: string) =>
  duration({ description, default: byDefault, atLeast: '1s', atMost: '1h' })

/** The key `alertDrill`. */
export const alertDrill = section(
  {
    alertmanagers: Type.Array(section(server('Alertmanager', 9093)), {
      description: 'All Alertmanagers that get the alerts: of a pair both. None: there are no drills.',
      default: [],
    }),
    prometheus: Type.Optional(
      section(server('Prometheus', 9090), {
        description: 'Asked whether it has the rule, the metric and the alert.',
        absent: 'it is not asked',
      }),
    ),
    from: choice(drillOrigins, {
      description:
        'Where a drill begins: `rule` shows a metric of which the rule `LifeboatAlertDrill` makes an alert, `alertmanager` posts the alert there, where no Prometheus is.',
      default: 'rule',
    }),
    receiver: Type.Optional(
      text({
        kind: 'receiverName',
        description: 'Name of the receiver of Alertmanager that must have it.',
        absent: 'whichever sends it back',
        example: 'on-call',
      }),
    ),
    timeouts: section(
      {
        prometheus: limit('From the metric to an alert that fires: a scrape and an evaluation.', '3m'),
        alertmanager: limit('From there until all Alertmanagers have it.', '1m'),
        receiver: limit(
          'From there until a receiver has sent it back: `group_wait` of Alertmanager, or its `group_interval`.',
          '6m',
        ),
        resolved: limit('From its end until no Alertmanager has it any more.', '10m'),
        request: duration({ description: 'For one request.', default: '10s', atLeast: '100ms', atMost: '1m' }),
      },
      { description: 'How long a drill waits at each place.' },
    ),
  },
  { description: 'Whether alerts arrive, tried with one that says that it is a drill.' },
)
