import t from 'tap'
import { LifeboatError } from '../../src/domain/errors.ts'
import { recoverability } from '../../src/http/recoverability.ts'
import type { BackupSummary } from '../../src/observe/catalog.ts'
import { at, backup, catalogOf, proof, repositoryState } from '../support/catalog.ts'
import { newer, proven, startHttp } from './harness.ts'

interface Page {
  readonly backups: readonly { readonly id: string; readonly repository: string; readonly [key: string]: unknown }[]
  readonly unusable: readonly unknown[]
  readonly unusableTotal: number
  readonly next: string | null
}

await t.test('the list tells what is known of each backup', async (t) => {
  const { call } = await startHttp(t)
  const page = (await call({ url: '/api/backups' })).json<Page>()
  t.same(
    page.backups.map(({ id }) => id),
    [newer.id, proven.id],
  )
  t.same(page.backups[1], {
    repository: 'local',
    id: proven.id,
    type: 'dump',
    database: 'app',
    systemIdentifier: '7500000000000000001',
    serverVersion: '15.18',
    startedAt: '2026-03-01T00:00:00.000Z',
    finishedAt: '2026-03-01T00:01:00.000Z',
    consistentAt: '2026-03-01T00:00:00.000Z',
    durationSeconds: 60,
    storedBytes: 1000,
    encrypted: false,
    sourceBytes: 8_000_000,
    warnings: 0,
    notes: [],
    file: null,
    manifestChecksum: 'c'.repeat(64),
    verification: Object.fromEntries(
      ['artifact', 'restore', 'data'].map((level) => [
        level,
        { verdict: 'pass', finishedAt: '2026-03-01T01:00:00.000Z', durationSeconds: 2.5 },
      ]),
    ),
    standing: 'proven',
    proven: true,
    provenAt: '2026-03-01T01:00:00.000Z',
    retention: { keep: true, reasons: ['last-proven', 'keep-for', 'keep-at-least'], until: null },
    held: false,
    deviation: null,
  })
  t.match(page.backups[0], { standing: 'unproven', proven: false, provenAt: null, verification: { data: null } })
  t.same(page.unusable, [{ repository: 'local', id: '20260301T060000Z-dump-cccccc', state: 'in-progress' }])
  t.equal(page.next, null)
})

await t.test('pages fit together, also when all backups began in one second, and while new ones come', async (t) => {
  const many = (count: number, minutes: number) =>
    Array.from({ length: count }, (_, index) =>
      backup(minutes, { id: `20260301T000000Z-dump-${String(index).padStart(6, '0')}` }),
    )
  const old = many(7, 0)
  let backups: readonly BackupSummary[] = old
  const { call } = await startHttp(t, {
    catalog: () => catalogOf({ repositories: [repositoryState('b', backups), repositoryState('a', old)] }),
  })
  const seen: string[] = []
  let next: string | null = null
  do {
    const url: string = `/api/backups?limit=3${next === null ? '' : `&after=${next}`}`
    const page = (await call({ url })).json<Page>()
    t.ok(page.backups.length <= 3)
    seen.push(...page.backups.map(({ id, repository }) => `${id} ${repository}`))
    next = page.next
    backups = [...backups, backup(60 + seen.length, { id: '20260301T010000Z-dump-ffffff' })]
  } while (next !== null)
  const expected = old.toReversed().flatMap(({ id }) => [`${id} a`, `${id} b`])
  t.same(seen, expected)
  for (const cursor of ['x', Buffer.from('[1,2,3]').toString('base64url'), Buffer.from('{}').toString('base64url')]) {
    const answer = await call({ url: `/api/backups?after=${cursor}` })
    t.match([answer.status, answer.json().code], [400, 'usage-invalid'])
  }
})

await t.test('filters', async (t) => {
  const weird = 'a "b"\n&c=d'
  const bad = { id: '20260301T000000Z-dump-dddddd', state: 'invalid' } as const
  const catalog = catalogOf({
    repositories: [
      repositoryState('local', [
        backup(0, { database: weird, id: '20260301T000000Z-dump-000001' }),
        backup(1, { database: '', type: 'full', id: '20260301T000100Z-full-000002' }),
      ]),
      { ...repositoryState('offsite', []), unusable: [bad] },
    ],
  })
  const { call } = await startHttp(t, { catalog: () => catalog })
  const ids = async (query: string) => {
    const page = (await call({ url: `/api/backups?${query}` })).json<Page>()
    return [page.backups.map(({ id }) => id.slice(-6)), page.unusableTotal]
  }
  t.same(await ids(''), [['000002', '000001'], 1])
  t.same(await ids(`database=${encodeURIComponent(weird)}`), [['000001'], 1])
  t.same(await ids('type=full'), [['000002'], 0])
  t.same(await ids('repository=offsite'), [[], 1])
  t.same(await ids('repository=local'), [['000002', '000001'], 0])
  const unknown = await call({ url: '/api/backups?repository=elsewhere' })
  t.match([unknown.status, unknown.json().hint], [404, /"local", "offsite"/])
  const whole = (await call({ url: '/api/backups?type=full' })).json<Page>()
  t.equal(whole.backups[0]?.database, null, 'a physical backup has no database')
})

await t.test('one of the future is shown, with a note, and stands for nothing', async (t) => {
  const [now, ahead] = [backup(600), backup(606)]
  const { call } = await startHttp(t, {
    catalog: () => catalogOf({ repositories: [repositoryState('local', [now, ahead])] }),
  })
  t.match((await call({ url: '/api/backups' })).json<Page>().backups, [
    { id: ahead.id, notes: ['clock-ahead'] },
    { id: now.id, notes: [] },
  ])
  t.match((await call({ url: '/' })).text, /clock-ahead/)
  const policy = { rpoSeconds: 1, rtoSeconds: 1, dumpMaxAgeSeconds: null, verificationMaxAgeSeconds: null }
  const catalog = catalogOf({ repositories: [repositoryState('local', [now, ahead])] })
  t.match(recoverability(catalog, policy, at(600)), [{ recoveries: [{ newest: { id: now.id } }] }])
})

await t.test('a failure after a proof takes the proof away', async (t) => {
  const one = backup(0)
  const proofs = [
    proof(one, 10, { artifact: 'pass', restore: 'pass', data: 'pass' }),
    proof(one, 20, { artifact: 'fail' }),
    proof(one, 30, { artifact: 'pass', restore: 'inconclusive' }),
  ]
  const { call } = await startHttp(t, {
    catalog: () => catalogOf({ repositories: [repositoryState('local', [one], proofs)] }),
  })
  t.match((await call({ url: '/api/backups' })).json<Page>().backups[0], {
    standing: 'refuted',
    proven: false,
    provenAt: null,
    verification: { artifact: { verdict: 'pass' }, restore: { verdict: 'inconclusive' }, data: { verdict: 'pass' } },
  })
})

await t.test('the details come from the repositories, as they are', async (t) => {
  const asked: unknown[] = []
  const copy = {
    repository: 'local',
    manifest: { backupId: newer.id, unheardOf: 1 },
    proofs: [{ level: 'data', x: [] }],
    problems: [],
  }
  const damaged = {
    repository: 'offsite',
    manifest: null,
    proofs: [],
    problems: [{ code: 'manifest-invalid', message: 'torn', hint: 'look elsewhere' }],
  }
  const { call } = await startHttp(t, {
    backupDetails: async (id, repository) => {
      asked.push([id, repository])
      if (id !== newer.id) throw new LifeboatError('not-found', `there is no backup ${id}`)
      return [copy as never, damaged as never]
    },
  })
  t.same((await call({ url: `/api/backups/${newer.id}` })).json(), { id: newer.id, copies: [copy, damaged] })
  t.equal((await call({ url: `/api/backups/${newer.id}?repository=offsite` })).status, 200)
  t.same(asked, [
    [newer.id, null],
    [newer.id, 'offsite'],
  ])
  t.equal((await call({ url: `/api/backups/${newer.id}?repository=elsewhere` })).status, 404)
  t.equal(asked.length, 2, 'an unknown repository is not looked into')
  const gone = await call({ url: '/api/backups/20260301T000000Z-dump-ffffff' })
  t.match([gone.status, gone.json()], [404, { code: 'not-found', detail: /no backup/ }])
})

await t.test('ten thousand backups are listed at once', async (t) => {
  const backups = Array.from({ length: 10_000 }, (_, index) =>
    backup(index, { id: `20260301T000000Z-dump-${index.toString(16).padStart(6, '0')}` }),
  )
  const catalog = catalogOf({ at: at(0), repositories: [repositoryState('local', backups)] })
  const { call } = await startHttp(t, { catalog: () => catalog })
  const page = (await call({ url: '/api/backups?limit=2' })).json<Page>()
  t.same(
    page.backups.map(({ id }) => id),
    [backups[9999]?.id, backups[9998]?.id],
  )
})
