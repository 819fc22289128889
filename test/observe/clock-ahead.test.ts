import t from 'tap'
import type { BackupSummary } from '../../src/observe/catalog.ts'
import { createClockAheadReport } from '../../src/observe/clock-ahead.ts'
import {
  compareBackups,
  inventories,
  isClockAhead,
  latestVerifications,
  newestBackups,
  newestProvenBackups,
  newestUsableDumps,
  recoveryPoints,
} from '../../src/observe/questions.ts'
import { at, backup, catalogOf, proof, repositoryState, serverState } from '../support/catalog.ts'
import { keptLog } from '../support/log.ts'

const former = '6000000000000000001'

await t.test('a backup of the future stands for nothing until that has come', async (t) => {
  const [now, ahead] = [backup(590), backup(5_000)]
  const proofs = [now, ahead].map((one) => proof(one, 595, { artifact: 'pass', restore: 'pass' }))
  const repositories = [repositoryState('a', [now, ahead], proofs)]
  const catalog = catalogOf({ repositories })
  t.same(newestBackups(catalog), [{ repository: 'a', backup: now }])
  t.same(newestProvenBackups(catalog), [{ repository: 'a', backup: now }])
  t.same(recoveryPoints(catalog, newestUsableDumps(catalog), 0), [{ repository: 'a', at: at(590) }])
  t.equal(inventories(catalog)[0]?.count, 2, 'it is there')
  t.same(newestBackups(catalogOf({ at: at(5_000), repositories })), [{ repository: 'a', backup: ahead }])

  const alone = catalogOf({ repositories: [repositoryState('a', [ahead], proofs)] })
  t.same(newestBackups(alone), [], 'none is better than one that hides it')
  t.same(recoveryPoints(alone, newestUsableDumps(alone), 0), [])
})

await t.test('five minutes are no future', async (t) => {
  const catalog = catalogOf({ at: at(600) })
  const dated = (start: number, end: number) =>
    isClockAhead(catalog, backup(600, { startedAt: at(start), finishedAt: at(end) }))
  t.notOk(dated(605, 605))
  t.ok(dated(605.01, 605.01))
  t.ok(dated(599, 700), 'a clock that was put on while the backup was taken')
})

await t.test('a verification of the future says nothing either', async (t) => {
  const one = backup(10)
  const proofs = [proof(one, 20, { artifact: 'fail' }), proof(one, 9_000, { artifact: 'pass' })]
  const catalog = catalogOf({ repositories: [repositoryState('a', [one], proofs)] })
  t.match(latestVerifications(catalog), [{ verdict: 'fail', finishedAt: at(20), lastPassAt: null }])
})

await t.test('the newest is the one furthest in the WAL, whatever the clocks said', async (t) => {
  const first = backup(500, { lsn: '1/FF', id: 'z' })
  const second = backup(100, { lsn: '2/0', id: 'a' })
  const promoted = backup(50, { lsn: '1/0', timeline: 2 })
  const newestOf = (backups: readonly BackupSummary[]) =>
    newestBackups(catalogOf({ repositories: [repositoryState('a', backups)] })).map(({ backup: one }) => one)
  t.same(newestOf([first, second]), [second])
  t.same(newestOf([second, first]), [second])
  t.same(newestOf([second, promoted, first]), [promoted], 'a new timeline begins with every recovery')
  t.ok(compareBackups(first, { ...first, consistentAt: at(501) }) < 0, 'at one place, the clock')
  t.ok(compareBackups(first, { ...second, systemIdentifier: former }) > 0, 'of two clusters, the clock')
})

await t.test(
  'while nobody knows the cluster, it is that of the last backup, in whatever order they come',
  async (t) => {
    // By pairs these go in a circle: of two of one cluster the WAL decides, of two clusters the clock.
    const one = backup(10, { lsn: '0/1' })
    const two = backup(5, { lsn: '0/2', id: '20260301T000500Z-dump-bbbbbb' })
    const other = backup(7, { systemIdentifier: former })
    for (const backups of [
      [one, two, other],
      [other, two, one],
      [two, other, one],
    ]) {
      const repositories = [repositoryState('a', [...backups, backup(9_000, { systemIdentifier: former })])]
      for (const server of [null, serverState(['app'], { systemIdentifier: null })])
        t.same(newestBackups(catalogOf({ server, repositories })), [{ repository: 'a', backup: two }])
    }
  },
)

await t.test('told of once', async (t) => {
  const { log, lines } = keptLog()
  const report = createClockAheadReport(log)
  const ahead = backup(5_000)
  const catalog = catalogOf({ repositories: [repositoryState('a', [backup(10), ahead]), repositoryState('b', [])] })
  for (let again = 0; again < 3; again++) report(catalog)
  t.match(lines, [{ level: 40, repository: 'a', backup: ahead.id, note: 'clock-ahead' }])
  t.equal(lines.length, 1)
  report(catalogOf({ repositories: [repositoryState('a', []), repositoryState('b', [ahead])] }))
  t.equal(lines.length, 2, 'in another repository it is another one')
})
