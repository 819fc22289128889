import { Type } from 'typebox'
import type { Listing } from '../backup-list.ts'
import type { App } from '../instance.ts'
import { pagePolicy, renderPage } from '../page.ts'
import type { HttpDependencies } from '../ports.ts'
import { HttpError } from '../problem.ts'
import { problems } from '../schemas.ts'

const Health = Type.Object(
  { alive: Type.Literal(true), version: Type.String() },
  { description: 'The process is alive' },
)

const Readiness = Type.Object(
  {
    ready: Type.Boolean(),
    collectors: Type.Array(
      Type.Object({
        collector: Type.String(),
        state: Type.Enum(['pending', 'ok', 'failing']),
        lastSuccessAt: Type.Union([Type.String({ format: 'date-time' }), Type.Null()]),
      }),
    ),
  },
  { description: 'Whether every collector has ended its first look, and how each fares' },
)

const text = (description: string, mediaType: string) => ({
  description,
  content: { [mediaType]: { schema: Type.String() } },
})

/**
 * What people, probes and Prometheus look at. All of it is open even when tokens are configured: scrapers and probes
 * commonly have none, and nothing here says more than the metrics do (no ids, no messages of failures).
 */
export function operationsRoutes(app: App, deps: HttpDependencies, listing: Listing): void {
  const tags = ['operations']
  const policy = pagePolicy()
  app.get(
    '/',
    {
      config: { access: 'open' },
      schema: { tags, summary: 'The state of recovery, for people', response: { 200: text('A page', 'text/html') } },
    },
    async (_request, reply) => {
      reply.header('content-security-policy', policy).type('text/html; charset=utf-8')
      return reply.send(renderPage(deps, listing))
    },
  )
  app.get(
    '/metrics',
    {
      config: { access: 'open' },
      schema: {
        tags,
        summary: 'The metrics, from the latest snapshot',
        response: { 200: text('Prometheus exposition', 'text/plain'), ...problems(503) },
      },
    },
    async (_request, reply) => {
      const metrics = deps.metrics()
      if (metrics === null) throw new HttpError('not-ready', 'the first snapshot is not there yet', 'ask again soon')
      return reply.type(metrics.contentType).send(metrics.body)
    },
  )
  app.get(
    '/-/healthy',
    { config: { access: 'open' }, schema: { tags, summary: 'Liveness', response: { 200: Health } } },
    async () => ({ alive: true as const, version: deps.version }),
  )
  app.get(
    '/-/ready',
    {
      config: { access: 'open' },
      schema: { tags, summary: 'Readiness', response: { 200: Readiness, 503: Readiness } },
    },
    async (_request, reply) => {
      const { complete, collectors } = deps.catalog()
      if (!complete) reply.code(503).header('retry-after', '5')
      return {
        ready: complete,
        collectors: collectors.map(({ collector, success, lastSuccessAt }) => ({
          collector,
          state: success === null ? ('pending' as const) : success ? ('ok' as const) : ('failing' as const),
          lastSuccessAt: lastSuccessAt?.toISOString() ?? null,
        })),
      }
    },
  )
}
