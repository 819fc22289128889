import t from 'tap'
import type { Verdict, VerificationLevel } from '../../src/domain/proof.ts'
import type { BackupSummary, Catalog } from '../../src/observe/catalog.ts'
import {
  inventories,
  latestVerifications,
  newestBackups,
  newestProvenBackups,
  newestUsableDumps,
  recoveryPoints,
  repositoryCollector,
  repositoryOfCollector,
  standing,
} from '../../src/observe/questions.ts'
import { at, backup, catalogOf, proof, repositoryState, serverState } from '../support/catalog.ts'

const points = (catalog: Catalog, graceSeconds = 0) => recoveryPoints(catalog, newestUsableDumps(catalog), graceSeconds)

const former = '6000000000000000001'

await t.test('the newest backup is the one with the newest content, not the newest name', async (t) => {
  const late = backup(100, { id: '20200101T000000Z-dump-000000' })
  const early = backup(50, { id: '20991231T235959Z-dump-ffffff', finishedAt: at(200) })
  const crm = backup(10, { database: 'crm' })
  for (const order of [
    [late, early, crm],
    [crm, early, late],
  ]) {
    const newest = newestBackups(
      catalogOf({ repositories: [repositoryState('a', order), repositoryState('b', [crm])] }),
    )
    t.same(
      new Set(newest.map(({ repository, backup }) => `${repository} ${backup.id}`)),
      new Set([`a ${late.id}`, `a ${crm.id}`, `b ${crm.id}`]),
    )
  }
})

await t.test('after initdb a backup of the former cluster is not the newest', async (t) => {
  const own = backup(10)
  const alien = backup(500, { systemIdentifier: former })
  const passed = [proof(alien, 510, { artifact: 'pass', restore: 'pass' })]
  const repositories = [repositoryState('a', [own, alien], passed)]
  const seen = catalogOf({ repositories })
  t.same(newestBackups(seen), [{ repository: 'a', backup: own }])
  t.same(points(seen), [{ repository: 'a', at: at(10) }])
  t.same(newestProvenBackups(seen), [])
  t.same(latestVerifications(seen), [])
  t.equal(inventories(seen)[0]?.count, 2, 'but both take up space')

  const unseen = catalogOf({ server: null, repositories })
  t.same(newestBackups(unseen), [{ repository: 'a', backup: alien }], 'the server unknown, content alone decides')
  t.same(newestProvenBackups(unseen), [{ repository: 'a', backup: alien }])
})

await t.test('the latest verification of any backup counts, at each level', async (t) => {
  const [one, two] = [backup(10), backup(20)]
  const proofs = [
    proof(two, 30, { artifact: 'pass', restore: 'pass', data: 'fail' }),
    proof(one, 40, { artifact: 'pass', restore: 'inconclusive' }),
    proof(two, 50, { artifact: 'pass' }),
  ]
  const found = latestVerifications(catalogOf({ repositories: [repositoryState('a', [one, two], proofs)] }))
  t.same(
    found.map(({ level, verdict, finishedAt, lastPassAt }) => [level, verdict, finishedAt, lastPassAt]),
    [
      ['artifact', 'pass', at(50), at(50)],
      ['restore', 'inconclusive', at(40), at(30)],
      ['data', 'fail', at(30), null],
    ],
  )
})

await t.test('verifications of a database that needs no backup any more end', async (t) => {
  const [kept, dropped, physical] = [
    backup(10),
    backup(20, { database: 'dropped' }),
    backup(30, { database: '', type: 'full' }),
  ]
  const proofs = [kept, dropped, physical].map((one) => proof(one, 40, { artifact: 'pass', restore: 'pass' }))
  const repositories = [repositoryState('a', [kept, dropped, physical], proofs)]
  const databases = (server: Parameters<typeof catalogOf>[0]) => {
    const catalog = catalogOf({ ...server, repositories })
    const verified = new Set(latestVerifications(catalog).map((latest) => latest.database))
    const proven = new Set(newestProvenBackups(catalog).map((located) => located.backup.database))
    t.same(verified, proven)
    return [...verified].toSorted()
  }
  t.same(databases({}), ['', 'app'])
  t.same(databases({ server: serverState([]) }), [''])
  t.same(databases({ server: null }), ['', 'app', 'dropped'], 'the server unknown, nothing counts as dropped')
})

await t.test('what all proofs of a backup together say', async (t) => {
  type Levels = Readonly<Partial<Record<VerificationLevel, Verdict>>>
  const of = (...newestFirst: Levels[]) =>
    standing(newestFirst.map((levels, index) => proof(backup(0), 100 - index, levels)))
  const whole: Levels = { artifact: 'pass', restore: 'pass', data: 'pass' }
  const restored: Levels = { artifact: 'pass', restore: 'pass' }
  t.equal(standing(undefined), 'unproven')
  t.equal(of({ artifact: 'pass' }), 'unproven')
  t.equal(of(restored), 'proven')
  t.equal(of({ artifact: 'pass' }, whole), 'proven', 'a shallower pass takes nothing back')
  t.equal(of({ artifact: 'pass', restore: 'inconclusive' }, whole), 'proven', 'nor does not knowing')
  t.equal(of({ artifact: 'pass', restore: 'inconclusive' }), 'unproven', 'not knowing proves nothing')
  t.equal(of({ artifact: 'fail' }, whole), 'refuted')
  t.equal(of({ artifact: 'pass' }, { artifact: 'fail' }, whole), 'proven', 'the bytes are whole again')
  t.equal(of({ artifact: 'pass' }, { artifact: 'pass', restore: 'fail' }), 'refuted', 'not looked at so deep again')
  t.equal(of({ artifact: 'pass', restore: 'inconclusive' }, { ...restored, data: 'fail' }), 'refuted')
  t.equal(of(whole, { ...restored, data: 'fail' }), 'proven')
})

await t.test('proven is the finish time of the backup, not of the test', async (t) => {
  const [old, recent] = [backup(10), backup(20)]
  const proofs = [
    proof(old, 300, { artifact: 'pass', restore: 'pass' }),
    proof(recent, 200, { artifact: 'pass', restore: 'pass' }),
  ]
  const catalog = (more: typeof proofs) =>
    catalogOf({ repositories: [repositoryState('a', [old, recent], [...proofs, ...more])] })
  t.same(newestProvenBackups(catalog([])), [{ repository: 'a', backup: recent }])
  t.same(
    newestProvenBackups(catalog([proof(recent, 400, { artifact: 'fail' })])),
    [{ repository: 'a', backup: old }],
    'falls back when it is refuted',
  )
})

await t.test('the recovery point is the oldest of the newest dumps', async (t) => {
  const backups = [backup(10), backup(90), backup(50, { database: 'crm' })]
  const pointsOf = (list: readonly BackupSummary[], databases: readonly string[] | null) =>
    points(
      catalogOf({
        server: databases === null ? null : serverState(databases),
        repositories: [repositoryState('a', list)],
      }),
    )
  t.same(pointsOf(backups, ['app', 'crm']), [{ repository: 'a', at: at(50) }])
  t.same(
    pointsOf(backups, ['app']),
    [{ repository: 'a', at: at(90) }],
    'a database that is not required holds nothing back',
  )
  t.same(pointsOf(backups, ['app', 'crm', 'new']), [], 'one without any dump: no point, not an old one')
  t.same(pointsOf(backups, []), [])
  t.same(pointsOf(backups, null), [], 'nothing is known of the server')
  t.same(pointsOf([backup(10, { type: 'full' })], ['app']), [], 'dumps alone count')

  const last = backup(90)
  const refuted = repositoryState('a', [backup(10), last], [proof(last, 95, { artifact: 'fail' })])
  t.same(
    points(catalogOf({ repositories: [refuted] })),
    [{ repository: 'a', at: at(10) }],
    'a refuted dump does not count',
  )
})

await t.test('a new database holds back no recovery point until it is due', async (t) => {
  const repositories = [repositoryState('a', [backup(10), backup(30, { database: 'crm' })])]
  const grace = (minutes: number, appearedAt: readonly (readonly [string, Date])[], list = repositories) => {
    const server = serverState(['app', 'crm', 'new'], { appearedAt: new Map(appearedAt) })
    return points(catalogOf({ server, repositories: list }), minutes * 60)
  }
  const appeared = [['new', at(500)]] as const
  t.same(grace(101, appeared), [{ repository: 'a', at: at(10) }], 'not due: the others count')
  t.same(grace(100, appeared), [], 'due')
  t.same(grace(0, appeared), [], 'no grace')
  t.same(grace(101, []), [], 'there from the first look on: it may be years old')
  t.same(grace(101, [...appeared, ['app', at(590)]]), [{ repository: 'a', at: at(10) }], 'its dump counts, due or not')
  const early = [repositoryState('a', [backup(10), backup(30, { database: 'crm' }), backup(5, { database: 'new' })])]
  t.same(grace(101, appeared, early), [{ repository: 'a', at: at(5) }])
  t.same(grace(101, appeared, [repositoryState('a', [])]), [], 'nothing there, nothing to come back to')
})

await t.test('the inventory of each repository and type', async (t) => {
  const backups = [backup(10), backup(5), backup(20, { type: 'full', storedBytes: 7 })]
  t.same(inventories(catalogOf({ repositories: [repositoryState('a', backups)] })), [
    { repository: 'a', type: 'dump', count: 2, storedBytes: 2_000, oldestAt: at(6) },
    { repository: 'a', type: 'full', count: 1, storedBytes: 7, oldestAt: at(21) },
    { repository: 'a', type: 'incremental', count: 0, storedBytes: 0, oldestAt: null },
  ])
})

await t.test('repositories and their collectors', async (t) => {
  t.equal(repositoryOfCollector(repositoryCollector('a:b')), 'a:b')
  t.equal(repositoryOfCollector('server'), null)
})
