import t from 'tap'
import { secrets, startHttp, tokens } from './harness.ts'

const headers = { authorization: `Bearer ${secrets.operator}`, 'content-type': 'application/json' }

await t.test('errors are problem details, and nothing refused starts anything', async (t) => {
  const { call, runner } = await startHttp(t, { tokens }, { bodyBytes: 1000 })
  const post = (url: string, payload: string, more: Record<string, string> = {}) =>
    call({ method: 'POST', url, headers: { ...headers, ...more }, payload })

  await t.test('the members of a problem', async (t) => {
    const { status, headers, json } = await call({ url: '/nowhere?token=secret' })
    t.equal(status, 404)
    t.match(headers['content-type'], /^application\/problem\+json/)
    t.same(json(), {
      type: 'urn:problem-type:lifeboat:not-found',
      title: 'Not Found',
      status: 404,
      detail: 'there is nothing at this path',
      instance: '/nowhere',
      code: 'not-found',
      hint: 'see /openapi.json',
    })
  })

  await t.test('bodies', async (t) => {
    const cases: [url: string, body: string, status: number, code: string, problem?: object][] = [
      ['backup', '{"type":', 400, 'body-malformed'],
      ['backup', '{"__proto__":{"type":"dump"}}', 400, 'body-malformed'],
      ['backup', '{"constructor":{"prototype":{}}}', 400, 'body-malformed'],
      ['backup', '{"database":"app","databse":"b"}', 400, 'usage-invalid', { in: 'body', pointer: '/databse' }],
      ['backup', '{"a/b~c":1}', 400, 'usage-invalid', { pointer: '/a~1b~0c', detail: 'is not known' }],
      ['backup', '[]', 400, 'usage-invalid', { pointer: '', detail: 'must be object' }],
      ['backup', 'null', 400, 'usage-invalid', { detail: 'must be object' }],
      ['backup', '"dump"', 400, 'usage-invalid', { detail: 'must be object' }],
      ['backup', '{"database":7}', 400, 'usage-invalid', { pointer: '/database', detail: 'must be string' }],
      ['backup', '{"database":null}', 400, 'usage-invalid', { pointer: '/database' }],
      ['backup', '{"database":""}', 400, 'usage-invalid', { pointer: '/database' }],
      ['backup', '{"database":"a\\u0000b"}', 400, 'usage-invalid', { pointer: '/database' }],
      ['backup', `{"database":"${'x'.repeat(256)}"}`, 400, 'usage-invalid', { pointer: '/database' }],
      [
        'backup',
        '{"type":"everything"}',
        400,
        'usage-invalid',
        { pointer: '/type', detail: /dump, full, incremental/ },
      ],
      ['verify', '{"rehash":"true"}', 400, 'usage-invalid', { pointer: '/rehash', detail: 'must be boolean' }],
      ['verify', '{"rehash":1}', 400, 'usage-invalid', { pointer: '/rehash' }],
      ['verify', '{"level":"deep"}', 400, 'usage-invalid', { pointer: '/level', detail: /artifact, restore, data/ }],
      ['verify', '{"backup":"../../etc/passwd"}', 400, 'usage-invalid', { pointer: '/backup' }],
      ['verify', '{"backup":"20260301T000000Z-dump-AAAAAA"}', 400, 'usage-invalid', { pointer: '/backup' }],
      ['verify', '{"backup":"20260301T000000Z-dump-aaaaaa\\n"}', 400, 'usage-invalid', { pointer: '/backup' }],
      ['verify', '{"repository":["local"]}', 400, 'usage-invalid', { pointer: '/repository' }],
    ]
    for (const [url, body, status, code, problem] of cases) {
      const answer = await post(`/api/admin/${url}`, body)
      t.equal(answer.status, status, body)
      t.match(answer.json(), { code, ...(problem ? { problems: [problem] } : {}) }, body)
    }
  })

  await t.test('every fault is told at once, but not thousands of them', async (t) => {
    const two = await post('/api/admin/verify', '{"level":1,"rehash":2,"x":3}')
    t.same(
      two
        .json<{ problems: { pointer: string }[] }>()
        .problems.map(({ pointer }) => pointer)
        .toSorted(),
      ['/level', '/rehash', '/x'],
    )
    const many = Object.fromEntries(Array.from({ length: 100 }, (_, index) => [`k${index}`, 1]))
    t.equal((await post('/api/admin/backup', JSON.stringify(many))).json<{ problems: unknown[] }>().problems.length, 20)
  })

  await t.test('a body that is too large, or not JSON', async (t) => {
    const large = await post('/api/admin/backup', JSON.stringify({ database: 'x'.repeat(2000) }))
    t.match([large.status, large.json().code], [413, 'body-too-large'])
    for (const type of [
      'text/plain',
      'application/x-www-form-urlencoded',
      'multipart/form-data; boundary=x',
      'nonsense',
    ]) {
      const answer = await post('/api/admin/backup', '{}', { 'content-type': type })
      t.match([answer.status, answer.json().code], [415, 'media-type-unsupported'], type)
    }
  })

  await t.test('a physical backup of one database is refused in words', async (t) => {
    for (const type of ['full', 'incremental']) {
      const answer = await post('/api/admin/backup', JSON.stringify({ type, database: 'app' }))
      t.equal(answer.status, 400)
      t.match(answer.json(), { code: 'usage-invalid', detail: /is of the whole cluster/ })
    }
  })

  t.same(runner.list(), [])
})

await t.test('paths and queries', async (t) => {
  const asked: string[] = []
  const { call } = await startHttp(t, {
    backupDetails: async (id) => {
      asked.push(id)
      return []
    },
  })

  await t.test('ids must fit their pattern', async (t) => {
    for (const id of [
      'x',
      '..%2f..%2fetc',
      '%2e%2e',
      '%00',
      'a%0ab',
      '20260301T000000Z-dump-aaaaa',
      "'%20or%201=1--",
    ]) {
      for (const root of ['/api/backups/', '/api/runs/']) {
        const { status } = await call({ url: `${root}${id}` })
        t.ok(status === 400 || status === 404, `${root}${id}: ${status}`)
      }
    }
    t.equal((await call({ url: '/api/backups/..%2F20260301T000000Z-dump-aaaaaa' })).status, 400)
    t.equal((await call({ url: '/api/runs/20260301T000000Z-dump-aaaaaa%2Fevents' })).status, 400)
    const long = await call({ url: `/api/backups/${'a'.repeat(5000)}` })
    t.match([long.status, long.json().detail], [400, /longer than any id/])
    const broken = await call({ url: '/api/backups/%zz' })
    t.match([broken.status, broken.headers['content-type']], [400, /^application\/problem\+json/])
    t.equal(broken.headers['x-content-type-options'], 'nosniff')
    t.same(asked, [])
  })

  await t.test('queries are closed, and strict about numbers', async (t) => {
    for (const query of [
      'limit=0',
      'limit=-1',
      'limit=501',
      'limit=1.5',
      'limit=1e2',
      'limit=0x10',
      'limit=',
      'limit=ten',
      'limit=1&limit=2',
      'limit=%201',
      'page=2',
      '__proto__=1',
      'constructor=1',
    ]) {
      for (const path of ['/api/backups', '/api/runs']) {
        const answer = await call({ url: `${path}?${query}` })
        t.equal(answer.status, 400, `${path}?${query}`)
        t.match(answer.json(), { problems: [{ in: 'query' }] })
      }
    }
    for (const url of ['/api/runs?state=done', '/api/runs?job=drop', '/api/runs?before=1', '/api/backups?type=all']) {
      t.equal((await call({ url })).status, 400, url)
    }
  })

  await t.test('a trailing slash, another case, a doubled slash are other paths', async (t) => {
    for (const url of ['/api/jobs/', '/API/jobs', '//api/jobs', '/metrics/'])
      t.equal((await call({ url })).status, 404, url)
  })
})

await t.test('methods', async (t) => {
  const { app, call } = await startHttp(t, { tokens })

  await t.test('HEAD answers like GET without the body', async (t) => {
    for (const url of ['/', '/metrics', '/-/healthy', '/-/ready']) {
      const head = await call({ method: 'HEAD', url })
      t.match([head.status, head.text], [200, ''], url)
      t.equal(head.headers['content-length'], String((await app.inject(url)).rawPayload.length))
    }
  })

  await t.test('another method is 405 with Allow, whatever its body', async (t) => {
    const cases: [method: 'POST' | 'PUT' | 'GET' | 'DELETE' | 'PATCH' | 'HEAD', url: string, allow: string][] = [
      ['POST', '/metrics', 'GET, HEAD, OPTIONS'],
      ['DELETE', '/api/backups', 'GET, HEAD, OPTIONS'],
      ['DELETE', '/api/backups/20260301T000000Z-dump-aaaaaa', 'GET, HEAD, OPTIONS'],
      ['GET', '/api/admin/backup', 'OPTIONS, POST'],
      ['PUT', '/api/admin/verify', 'OPTIONS, POST'],
      ['PATCH', '/api/runs/20260301T000000Z-dump-ffffff', 'DELETE, GET, HEAD, OPTIONS'],
      ['HEAD', '/api/runs/20260301T000000Z-dump-ffffff/events', 'GET, OPTIONS'],
    ]
    for (const [method, url, allow] of cases) {
      const answer = await call({ method, url, headers: { 'content-type': 'text/weird' }, payload: 'x' })
      t.match([answer.status, answer.headers.allow], [405, allow], `${method} ${url}`)
      if (method !== 'HEAD') t.match(answer.json(), { code: 'method-not-allowed' })
    }
  })

  await t.test('OPTIONS tells the methods, and nothing lets other sites in', async (t) => {
    const origin = { origin: 'https://evil.example', 'access-control-request-method': 'POST' }
    const answer = await call({ method: 'OPTIONS', url: '/api/admin/backup', headers: origin })
    t.match([answer.status, answer.headers.allow], [204, 'OPTIONS, POST'])
    for (const name of Object.keys(answer.headers)) t.notMatch(name, /^access-control/)
    t.equal((await call({ method: 'OPTIONS', url: '/nowhere' })).status, 404)
  })
})

await t.test('every answer carries the security headers and sets no cookie', async (t) => {
  const { call } = await startHttp(t)
  for (const url of ['/', '/metrics', '/api/backups', '/nowhere', '/api/runs/x', '/api/backups/%zz']) {
    const { headers } = await call({ url })
    t.match(headers, {
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer',
      'cache-control': 'no-store',
      'content-security-policy': /frame-ancestors 'none'/,
    })
    t.notOk('set-cookie' in headers, url)
  }
})

await t.test('an unexpected error is logged, not shown', async (t) => {
  const { call, log } = await startHttp(t, {
    backupDetails: async () => {
      throw new Error('password=hunter2')
    },
  })
  const answer = await call({ url: '/api/backups/20260301T000000Z-dump-aaaaaa' })
  t.equal(answer.status, 500)
  t.match(answer.json(), { code: 'unexpected', hint: /req-/ })
  t.notMatch(answer.text, /hunter2/)
  t.match(log.join(''), /hunter2/)
})
