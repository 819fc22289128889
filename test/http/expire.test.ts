import t from 'tap'
import { LifeboatError } from '../../src/domain/errors.ts'
import { createRetentionView } from '../../src/observe/retention.ts'
import type { Run } from '../../src/runner/job.ts'
import { at, backup, catalogOf, collectorState, defaultRetention, repositoryState } from '../support/catalog.ts'
import { secrets, startHttp, tokens } from './harness.ts'

const noWal = { wal: null, walProblem: null }
const headers = { authorization: `Bearer ${secrets.admin}` }
const old = backup(0, { id: '20260301T000000Z-dump-aaaaaa' })
const held = backup(10, { id: '20260301T001000Z-dump-bbbbbb' })
const last = backup(20, { id: '20260301T002000Z-dump-cccccc' })

function catalog() {
  const local = {
    ...repositoryState('local', [old, held, last]),
    holds: new Map([[held.id, { backupId: held.id, reason: 'audit', until: null }]]),
  }
  return catalogOf({
    repositories: [local, repositoryState('offsite', [last])],
    collectors: [collectorState('server')],
  })
}

/** Everything but the newest one is too old. */
const policies = new Map(
  ['local', 'offsite'].map((name) => [name, { ...defaultRetention, keepForSeconds: 3600, keepAtLeast: 1 }]),
)
const retention = createRetentionView({ policies, clockDoubt: () => null })

await t.test('the list tells of each backup why it stays or goes', async (t) => {
  const { call } = await startHttp(t, { catalog, retention })
  const { backups } = (await call({ url: '/api/backups?repository=local' })).json<{ backups: object[] }>()
  t.match(backups, [
    { id: last.id, held: false, retention: { keep: true, reasons: ['last-usable', 'keep-at-least'], until: null } },
    { id: held.id, held: true, retention: { keep: true, reasons: ['held'], until: null } },
    { id: old.id, held: false, retention: { keep: false, reasons: ['expired'], until: null } },
  ])
})

await t.test('expiry is asked for by an admin', async (t) => {
  const { call, expire } = await startHttp(t, { tokens, catalog, retention })
  const post = (payload?: object, token: string = secrets.admin) =>
    call({
      method: 'POST',
      url: '/api/admin/expire',
      headers: { authorization: `Bearer ${token}` },
      ...(payload ? { payload } : {}),
    })
  t.equal((await post({}, secrets.operator)).status, 403)
  t.equal((await post({ confirmClock: true })).status, 400, 'not over the network')
  t.equal((await post({ repository: 'elsewhere' })).status, 404)
  const answer = await post()
  t.equal(answer.status, 202)
  const run = answer.json<Run>()
  t.match(run, { job: 'expire', params: { repository: null, confirmClock: false }, requestedBy: 'the admin' })
  t.equal(answer.headers.location, `/api/runs/${run.id}`)
  await expire.at(0)
  t.equal((await post({})).status, 409)
  t.equal((await post({ repository: 'local' })).status, 202)
})

await t.test('a dry run answers at once, and starts nothing', async (t) => {
  const { call, runner } = await startHttp(t, { tokens, catalog, retention })
  const post = (payload: object) => call({ method: 'POST', url: '/api/admin/expire', headers, payload })
  const answer = await post({ dryRun: true })
  t.equal(answer.status, 200)
  t.same(answer.json(), {
    at: at(600).toISOString(),
    repositories: [
      { repository: 'local', blocked: null, stay: 2, go: [old.id], ...noWal },
      { repository: 'offsite', blocked: null, stay: 1, go: [], ...noWal },
    ],
  })
  t.match((await post({ dryRun: true, repository: 'offsite' })).json(), { repositories: [{ repository: 'offsite' }] })
  t.same(runner.list(), [])
})

await t.test('a dry run tells which WAL would go, with the backups that go', async (t) => {
  const part = { timeline: 1, keep: false, reason: 'expired', backupId: null, files: 3, bytes: 900 } as const
  const { call } = await startHttp(t, {
    ...{ tokens, catalog, retention },
    previewWal: async (repository, going) => {
      if (repository === 'offsite') throw new LifeboatError('storage-failed', 'the disk is gone')
      return [{ systemIdentifier: '7500000000000000001', backups: going.size, parts: [part] }]
    },
  })
  const answer = await call({ method: 'POST', url: '/api/admin/expire', headers, payload: { dryRun: true } })
  t.equal(answer.status, 200, answer.text)
  t.match(answer.json(), {
    repositories: [
      { repository: 'local', wal: [{ systemIdentifier: '7500000000000000001', backups: 1, parts: [part] }] },
      { repository: 'offsite', wal: null, walProblem: { code: 'storage-failed' }, go: [] },
    ],
  })
})

await t.test('what blocks it is told', async (t) => {
  const refusal = { cause: 'clock-back', message: 'the clock went back', hint: 'set it right' } as const
  const blocked = createRetentionView({ policies, clockDoubt: () => refusal })
  const { call } = await startHttp(t, { tokens, catalog, retention: blocked })
  const answer = await call({ method: 'POST', url: '/api/admin/expire', headers, payload: { dryRun: true } })
  t.match(answer.json(), { repositories: [{ blocked: refusal, stay: 3, go: [] }, { blocked: refusal }] })
})
