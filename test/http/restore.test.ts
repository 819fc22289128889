import t from 'tap'
import type { Run } from '../../src/runner/job.ts'
import { secrets, startHttp, tokens } from './harness.ts'

await t.test('a restore is asked for by an admin', async (t) => {
  const { call, runner } = await startHttp(t, { tokens })
  const post = (payload: object, token: string = secrets.admin) =>
    call({ method: 'POST', url: '/api/admin/restore', headers: { authorization: `Bearer ${token}` }, payload })
  t.equal((await post({ to: '/srv/restored' }, secrets.operator)).status, 403)
  for (const payload of [
    {},
    { to: 'restored' },
    { to: '/srv/a\nb' },
    { to: '/srv/a', at: '2026-01-01T00:00:00Z', lsn: '0/1' },
    { to: '/srv/a', at: 'yesterday' },
    { to: '/srv/a', latest: true, action: 'pause' },
    { to: '/srv/a', immediate: true, missingIsEnd: true },
    { to: '/srv/a', tablespaceMap: { '16385': 'relative' } },
    { to: '/srv/a', database: 'app' },
    { to: '/srv/link/../a' },
    { to: ['/srv/a', '/srv/b'] },
    { to: { toString: '/srv/a' } },
    { to: '/srv/a', name: 'ü'.repeat(32) },
    { to: '/srv/a', name: 'a\u0000b' },
    { to: '/srv/a', name: '' },
    { to: '/srv/a', start: 'maybe' },
    { to: '/srv/a', timeline: 1.5 },
    { to: '/srv/a', tablespaceMap: ['/srv/b'] },
    { to: '/srv/a', tablespaceMap: { '16385': '/srv/b/../../var' } },
    { to: '/srv/a', backup: '../../etc' },
  ])
    t.equal((await post(payload)).status, 400, JSON.stringify(payload))
  t.equal((await post({ to: '/srv/a', repository: 'nowhere' })).status, 404)
  t.same(runner.list(), [], 'nothing was started')
  const answer = await post({
    to: '/srv/restored',
    at: '2026-11-26T03:10:00.123456+01',
    timeline: 2,
    tablespaceMap: { '/srv/old': '/srv/new' },
    start: false,
  })
  t.equal(answer.status, 202)
  const { job, params, requestedBy } = answer.json<Run>()
  t.same([job, requestedBy], ['restore', 'the admin'])
  t.match(params, {
    to: '/srv/restored',
    targetKind: 'time',
    targetValue: '2026-11-26T02:10:00.123Z',
    targetMicros: 456,
    timeline: 2,
    start: false,
    action: 'promote',
    tablespaces: '[["/srv/old","/srv/new"]]',
  })
})
