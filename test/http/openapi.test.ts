import t from 'tap'
import { type OpenApi, type Operation, startHttp } from './harness.ts'

const operations = (document: OpenApi): [name: string, operation: Operation][] =>
  Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]): [string, Operation] => [
      `${method.toUpperCase()} ${path}`,
      operation,
    ]),
  )

/** The paths in the tree that Fastify prints: each line goes on where the line it hangs on ends. */
function routedPaths(tree: string): string[] {
  const parents: string[] = []
  return tree
    .trimEnd()
    .split('\n')
    .map((line) => {
      const [, indent = '', segment = ''] = /^((?:│ {3}| {4})*)[├└]── (\S*)/.exec(line) ?? []
      const depth = indent.length / 4
      const path = (parents[depth - 1] ?? '') + segment
      parents[depth] = path
      return path
    })
    .toSorted()
}

await t.test('the description', async (t) => {
  const { app } = await startHttp(t)
  const response = await app.inject('/openapi.json')
  t.match(response.headers['content-type'], /^application\/json/)
  const document = response.json() as OpenApi
  const described = operations(document)

  await t.test('names exactly the routes that there are', async (t) => {
    t.equal(document.openapi, '3.1.0')
    t.equal(document.info.version, '1.2.3')
    const expected = [
      'DELETE /api/runs/{id}',
      'GET /',
      'GET /-/healthy',
      'GET /-/ready',
      'GET /api/backups',
      'GET /api/backups/{id}',
      'GET /api/jobs',
      'GET /api/recoverability',
      'GET /api/runs',
      'GET /api/runs/{id}',
      'GET /api/runs/{id}/events',
      'GET /api/wal',
      'GET /metrics',
      'GET /openapi.json',
      'POST /api/admin/backup',
      'POST /api/admin/drill/alert',
      'POST /api/admin/expire',
      'POST /api/admin/restore',
      'POST /api/admin/verify',
      'POST /api/alerts/echo',
    ]
    t.same(described.map(([name]) => name).toSorted(), expected)
    t.same(
      routedPaths(app.printRoutes({ commonPrefix: false, method: 'OPTIONS' })),
      [...new Set(expected.map((name) => name.replace(/^.* /, '').replace('{id}', ':id')))].toSorted(),
    )
    for (const [path, methods] of Object.entries(document.paths)) {
      for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'TRACE']) {
        if (method.toLowerCase() in methods) continue
        const url = path.replace('{id}', '20260301T000000Z-dump-ffffff')
        t.equal((await app.inject({ method: method as 'GET', url })).statusCode, 405, `${method} ${path}`)
      }
    }
  })

  await t.test('each is summed up, and each of its answers is described', async (t) => {
    for (const [name, { summary, tags, responses }] of described) {
      t.match(summary, /^[A-Z]/, name)
      t.equal(tags?.length, 1, name)
      for (const [status, { description, content }] of Object.entries(responses)) {
        t.match(description, /^(?!Default Response)./, `${name} ${status}`)
        t.ok(content, `${name} ${status} has a body`)
        if (/^[4-9]|default/.test(status) && !(name === 'GET /-/ready')) {
          t.same(Object.keys(content ?? {}), ['application/problem+json'], `${name} ${status}`)
        }
      }
    }
  })

  await t.test('who needs a token is said, and only there', async (t) => {
    t.match(document.components.securitySchemes, { bearer: { type: 'http', scheme: 'bearer' } })
    for (const [name, { security, responses }] of described) {
      const guarded = name.includes('/api/') && name !== 'GET /openapi.json'
      t.same(security, guarded ? [{ bearer: [] }] : undefined, name)
      t.equal('401' in responses && '403' in responses, guarded, name)
    }
  })

  await t.test('bodies are closed and optional, queries have their limits', async (t) => {
    for (const [name, { requestBody, parameters = [] }] of described) {
      if (name.startsWith('POST')) {
        t.equal(requestBody?.required, false, name)
        // What Alertmanager sends may get further members.
        const closed = name === 'POST /api/alerts/echo' ? {} : { additionalProperties: false }
        t.match(requestBody?.content['application/json']?.schema, { type: 'object', ...closed })
      } else t.equal(requestBody, undefined, name)
      for (const { name: parameter, schema } of parameters) {
        if (parameter === 'limit') t.match(schema, { type: 'integer', minimum: 1, maximum: 500, default: 100 })
      }
    }
  })

  await t.test('every reference leads somewhere', async (t) => {
    const references = [...response.body.matchAll(/"\$ref":"([^"]*)"/g)].map(([, target]) => target ?? '')
    t.ok(references.length > 0)
    for (const target of new Set(references)) {
      t.match(target, /^#\/components\/schemas\//)
      t.ok(document.components.schemas[target.split('/').at(-1) ?? ''], target)
    }
  })
})

await t.test('operations routes', async (t) => {
  await t.test('health is about the process alone', async (t) => {
    const { call } = await startHttp(t, {
      catalog: () => {
        throw new Error('not asked')
      },
    })
    t.same((await call({ url: '/-/healthy' })).json(), { alive: true, version: '1.2.3' })
  })

  await t.test('readiness waits for the first look of every collector', async (t) => {
    const { catalogOf, collectorState } = await import('../support/catalog.ts')
    let complete = false
    const failure = { code: 'server-unreachable', message: 'connection to 10.0.0.7 refused' } as const
    const collectors = [
      collectorState('server', { success: false, failure }),
      collectorState('repository:local', { success: null, lastSuccessAt: null }),
    ]
    const { call } = await startHttp(t, { catalog: () => catalogOf({ complete, collectors }) })
    const early = await call({ url: '/-/ready' })
    t.match([early.status, early.headers['retry-after']], [503, '5'])
    t.same(early.json(), {
      ready: false,
      collectors: [
        { collector: 'server', state: 'failing', lastSuccessAt: '2026-03-01T10:00:00.000Z' },
        { collector: 'repository:local', state: 'pending', lastSuccessAt: null },
      ],
    })
    t.notMatch(early.text, /10\.0\.0\.7/, 'messages are not for everybody')
    complete = true
    t.match(await call({ url: '/-/ready' }), { status: 200 })
  })

  await t.test('metrics are served as they were rendered, or not yet', async (t) => {
    let metrics: { contentType: string; body: string } | null = null
    const { call } = await startHttp(t, { metrics: () => metrics })
    const early = await call({ url: '/metrics' })
    t.match([early.status, early.headers['retry-after'], early.json().code], [503, '5', 'not-ready'])
    metrics = { contentType: 'text/plain; version=0.0.4; charset=utf-8', body: 'x{y="é\\n"} 1\n' }
    const answer = await call({ url: '/metrics?collect[]=x' })
    t.match(answer, { status: 200, text: metrics.body, headers: { 'content-type': metrics.contentType } })
  })
})
