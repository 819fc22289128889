import { createHash } from 'node:crypto'
import t from 'tap'
import { findToken } from '../../src/http/auth.ts'
import { makeToken } from '../../src/http/tokens.ts'
import { secrets, startHttp, tokens } from './harness.ts'

const bearer = (token: string) => ({ authorization: `Bearer ${token}` })
const unknownRun = '/api/runs/20260301T000000Z-dump-ffffff'

await t.test('a token is a prefix and 32 random bytes, and known by its hash', async (t) => {
  const { token, sha256 } = makeToken((size) => new Uint8Array(size).fill(0xff))
  t.equal(token, `lb_${'_'.repeat(42)}8`)
  t.equal(sha256, createHash('sha256').update(token).digest('hex'))
})

await t.test('every configured token is found, in whatever place it stands', async (t) => {
  for (const token of tokens) t.equal(findToken(tokens, secrets[token.role])?.name, token.name)
  t.equal(findToken(tokens, 'lb_viewer-secre'), null)
  t.equal(findToken(tokens, tokens[0]?.sha256 ?? ''), null, 'the hash is not the token')
  t.equal(
    findToken([{ name: 'short', role: 'admin', sha256: 'abcd' }], 'x'),
    null,
    'a hash of another length fits nothing',
  )
})

await t.test('without tokens the reads are open and what changes something is off', async (t) => {
  const { call, dump } = await startHttp(t)
  for (const url of ['/api/backups', '/api/jobs', '/api/runs']) t.equal((await call({ url })).status, 200, url)
  for (const request of [
    { method: 'POST', url: '/api/admin/backup' },
    { method: 'POST', url: '/api/admin/verify', headers: bearer(secrets.admin) },
    { method: 'DELETE', url: unknownRun },
  ] as const) {
    const { status, json } = await call(request)
    t.equal(status, 403, request.url)
    t.match(json(), { code: 'forbidden', hint: /lifeboat token/ })
  }
  t.equal(dump.started.length, 0)
})

await t.test('with tokens the operations routes stay open, the reads need one', async (t) => {
  const { call } = await startHttp(t, { tokens })
  for (const url of ['/', '/metrics', '/-/healthy', '/-/ready', '/openapi.json']) {
    t.equal((await call({ url })).status, 200, url)
  }
  for (const url of [
    '/api/backups',
    '/api/backups/20260301T000000Z-dump-aaaaaa',
    '/api/jobs',
    '/api/runs',
    unknownRun,
  ]) {
    const { status, headers, json } = await call({ url })
    t.equal(status, 401, url)
    t.equal(headers['www-authenticate'], 'Bearer realm="lifeboat"')
    t.match(json(), { code: 'unauthenticated', hint: /viewer/ })
    t.not((await call({ url, headers: bearer(secrets.viewer) })).status, 401, `${url} with a token`)
  }
})

await t.test('roles: viewer reads, operator and admin act too', async (t) => {
  const { call, runner } = await startHttp(t, { tokens })
  const post = (token: string, url: string) => call({ method: 'POST', url, headers: bearer(token) })
  for (const url of ['/api/admin/backup', '/api/admin/verify']) {
    const refused = await post(secrets.viewer, url)
    t.equal(refused.status, 403)
    t.match(refused.headers['www-authenticate'], /insufficient_scope/)
    t.match(refused.json(), { detail: /viewer/, hint: /operator/ })
  }
  t.same(runner.list(), [])
  const accepted = await post(secrets.operator, '/api/admin/backup')
  t.equal(accepted.status, 202)
  t.match(accepted.json(), { requestedBy: 'the operator', trigger: 'api' })
  const { id } = accepted.json<{ id: string }>()
  t.equal((await call({ method: 'DELETE', url: `/api/runs/${id}`, headers: bearer(secrets.viewer) })).status, 403)
  t.equal((await call({ method: 'DELETE', url: `/api/runs/${id}`, headers: bearer(secrets.admin) })).status, 202)
})

await t.test('only a bearer token in the Authorization header counts', async (t) => {
  const { call, log } = await startHttp(t, { tokens })
  const good = secrets.admin
  const basic = Buffer.from(`admin:${good}`).toString('base64')
  for (const authorization of [
    '',
    good,
    'Bearer',
    'Bearer ',
    `Basic ${basic}`,
    `Bearer ${good} ${good}`,
    `Bearer ${good},`,
    `Bearer ${good}x`,
    `Bearer ${'a'.repeat(600)}`,
    `Token ${good}`,
  ]) {
    t.equal((await call({ url: '/api/jobs', headers: { authorization } })).status, 401, authorization)
  }
  for (const url of [`/api/jobs?token=${good}`, `/api/jobs?access_token=${good}`]) {
    const answer = await call({ url })
    t.equal(answer.status, 401)
    t.notMatch(answer.text, good)
  }
  t.equal((await call({ url: '/api/jobs', headers: { authorization: `bearer ${good}` } })).status, 200, 'any case')
  const wrong = await call({ url: '/api/jobs', headers: bearer('lb_not-one-of-them') })
  t.match(wrong.headers['www-authenticate'], /invalid_token/)
  t.match(log.join(''), /request refused/)
  t.notMatch(log.join(''), /lb_/, 'neither a good token nor a wrong one is logged')
  t.notMatch(log.join(''), basic)
})

await t.test('who may do it is looked at before what was sent', async (t) => {
  const { call } = await startHttp(t, { tokens })
  const answer = await call({
    method: 'POST',
    url: '/api/admin/backup',
    headers: { 'content-type': 'application/json' },
    payload: '{"nonsense',
  })
  t.equal(answer.status, 401)
})
