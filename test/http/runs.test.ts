import t from 'tap'
import type { Run } from '../../src/runner/job.ts'
import { newer, proven, secrets, startHttp, tokens } from './harness.ts'

const headers = { authorization: `Bearer ${secrets.operator}` }

await t.test('a trigger answers 202 with the run and its place', async (t) => {
  const { call, dump, verify } = await startHttp(t, { tokens })
  const post = (url: string, payload?: object) =>
    call({ method: 'POST', url, headers, ...(payload ? { payload } : {}) })

  await t.test('what is left out is written out', async (t) => {
    const cases: [url: string, payload: object | undefined, params: object][] = [
      ['/api/admin/backup', undefined, { database: null }],
      ['/api/admin/backup', { type: 'dump', database: '--"; drop\ndatabase' }, { database: '--"; drop\ndatabase' }],
      ['/api/admin/backup', { type: 'full' }, {}],
      ['/api/admin/verify', {}, { level: 'data', repository: null, backup: null, database: null, rehash: false }],
      [
        '/api/admin/verify',
        { level: 'artifact', repository: 'local', backup: proven.id, database: 'app', rehash: true },
        { level: 'artifact', repository: 'local', backup: proven.id, database: 'app', rehash: true },
      ],
      [
        '/api/admin/verify',
        { level: 'restore', at: '2026-11-26 03:10:00.123456+01' },
        {
          ...{ level: 'restore', repository: null, backup: null, database: null, rehash: false },
          at: '2026-11-26 02:10:00.123456+00',
        },
      ],
    ]
    for (const [url, payload, params] of cases) {
      const answer = await post(url, payload)
      t.equal(answer.status, 202)
      const run = answer.json<Run>()
      t.match(run, { state: 'queued', requestedBy: 'the operator', trigger: 'api' })
      t.same(run.params, params)
      t.equal(answer.headers.location, `/api/runs/${run.id}`)
      t.equal((await call({ url: String(answer.headers.location), headers })).json<Run>().id, run.id)
    }
  })

  await t.test('an empty body is no body, also when its type is named', async (t) => {
    const json = { ...headers, 'content-type': 'application/json' }
    const answer = await call({ method: 'POST', url: '/api/admin/backup', headers: json, payload: '' })
    t.equal(answer.status, 409, 'so it is the run that was asked for before')
  })

  await t.test('the same run again is 409 naming it, until it has ended', async (t) => {
    const first = await dump.at(0)
    const again = await post('/api/admin/backup', { type: 'dump' })
    t.equal(again.status, 409)
    t.match(again.json(), { code: 'conflict', runId: first.context.runId })
    t.equal(again.headers.location, `/api/runs/${first.context.runId}`)
    const rehash = await post('/api/admin/verify', { level: 'data' })
    t.equal(rehash.status, 409, 'a default that is named is the same run')
    const next = dump.at(1)
    first.finish()
    await next
    t.equal((await post('/api/admin/backup')).status, 202)
  })

  await t.test('what is not there is not verified', async (t) => {
    const cases: [payload: object, status: number, detail: RegExp][] = [
      [{ repository: 'elsewhere' }, 404, /no repository "elsewhere"/],
      [{ backup: '20260301T000000Z-dump-ffffff' }, 404, /no backup/],
      [{ repository: 'offsite', backup: proven.id }, 404, /in offsite/],
      [{ backup: '20260301T060000Z-dump-cccccc' }, 404, /no backup/],
    ]
    const before = verify.started.length
    for (const [payload, status, detail] of cases) {
      const answer = await post('/api/admin/verify', payload)
      t.equal(answer.status, status, JSON.stringify(payload))
      t.match(answer.json(), { detail })
    }
    t.equal(verify.started.length, before)
  })
})

await t.test('before the repositories were read nobody knows what is there', async (t) => {
  const { smallCatalog } = await import('./harness.ts')
  let catalog = { ...smallCatalog(), repositories: [], complete: false }
  const { call } = await startHttp(t, { tokens, catalog: () => catalog })
  const verify = (payload: object) => call({ method: 'POST', url: '/api/admin/verify', headers, payload })
  const early = await verify({ backup: newer.id })
  t.match([early.status, early.headers['retry-after'], early.json().code], [503, '5', 'not-ready'])
  t.equal((await verify({ repository: 'elsewhere' })).status, 404, 'its collectors tell which repositories there are')
  catalog = { ...catalog, collectors: [] }
  t.equal((await verify({ repository: 'local' })).status, 503)
  t.equal((await verify({})).status, 202, 'what names nothing needs no look')
})

await t.test('a backup with an unreadable manifest can be verified', async (t) => {
  const { smallCatalog } = await import('./harness.ts')
  const catalog = smallCatalog()
  const [local] = catalog.repositories
  if (!local) throw new Error('no repository')
  const id = '20260301T070000Z-dump-dddddd'
  const repositories = [{ ...local, unusable: [{ id, state: 'invalid' as const }] }]
  const { call } = await startHttp(t, { tokens, catalog: () => ({ ...catalog, repositories }) })
  t.equal((await call({ method: 'POST', url: '/api/admin/verify', headers, payload: { backup: id } })).status, 202)
})

await t.test('cancelling', async (t) => {
  const { call, dump, runner } = await startHttp(t, { tokens })
  const cancel = (id: string) => call({ method: 'DELETE', url: `/api/runs/${id}`, headers })
  const run = runner.trigger({ job: 'dump', params: { database: null }, trigger: 'cli', requestedBy: 'root' })
  await dump.at(0)
  const answer = await cancel(run.id)
  t.equal(answer.status, 202)
  t.equal(answer.json<Run>().id, run.id)
  t.match(await runner.wait(run.id), { state: 'cancelled', failure: { code: 'cancelled' } })
  const again = await cancel(run.id)
  t.match([again.status, again.json()], [409, { code: 'conflict', runId: run.id }])
  t.equal((await cancel('20260301T000000Z-dump-ffffff')).status, 404)
})

await t.test('runs and jobs', async (t) => {
  const { call, dump, runner } = await startHttp(t)
  const ids: string[] = []
  for (const database of ['a', 'b', 'c']) {
    const run = runner.trigger({ job: 'dump', params: { database }, trigger: 'api', requestedBy: null })
    ids.unshift(run.id)
    const { context, finish } = await dump.at(ids.length - 1)
    context.progress({ done: 1, total: 4, unit: 'steps', message: 'dumping "x"' })
    if (database === 'a') {
      context.item({
        outcome: 'failed',
        backupType: 'dump',
        database: 'a',
        failure: { code: 'server-error', message: 'no', hint: 'look' },
        finishedAt: '2026-03-01T10:00:00.000Z',
      })
      context.retried({
        what: 'dumping a',
        failedAt: '2026-03-01T10:00:00.000Z',
        failure: { code: 'server-unreachable', message: 'no', hint: 'look' },
        reason: 'the connection broke',
        waitSeconds: 1.5,
      })
      finish(new Error('broken'))
    } else if (database === 'b') finish()
    else break
    await runner.wait(run.id)
  }

  await t.test('one run is shown whole', async (t) => {
    for (const id of ids) t.same((await call({ url: `/api/runs/${id}` })).json(), runner.get(id))
    t.match((await call({ url: `/api/runs/${ids.at(-1)}` })).json(), {
      retries: 1,
      attempts: [{ what: 'dumping a', reason: 'the connection broke', waitSeconds: 1.5 }],
    })
    t.equal((await call({ url: '/api/runs/20260301T000000Z-dump-ffffff' })).status, 404)
  })

  await t.test('pages fit together', async (t) => {
    const seen: string[] = []
    let next: string | null = null
    do {
      const url: string = `/api/runs?limit=2${next === null ? '' : `&before=${next}`}`
      const page = (await call({ url })).json<{ runs: Run[]; next: string | null }>()
      seen.push(...page.runs.map(({ id }) => id))
      next = page.next
    } while (next !== null)
    t.same(seen, ids)
    t.equal((await call({ url: '/api/runs?limit=3' })).json().next, null, 'an exactly full page is the last one')
  })

  await t.test('filters', async (t) => {
    const count = async (query: string) => (await call({ url: `/api/runs?${query}` })).json<{ runs: [] }>().runs.length
    t.same([await count('job=dump'), await count('job=verify')], [3, 0])
    t.same([await count('state=failed'), await count('state=succeeded'), await count('state=running')], [1, 1, 1])
  })

  await t.test('jobs', async (t) => {
    const { jobs } = (await call({ url: '/api/jobs' })).json<{ jobs: object[] }>()
    t.match(jobs, [
      { job: 'dump', runs: 2, failures: 1, running: true, progressRatio: 0.25, lastStartAt: /^2026-03-01T10/ },
      { job: 'verify', runs: 0, running: false, lastSuccessAt: null, nextRunAt: null },
    ])
  })
})
