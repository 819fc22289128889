import t from 'tap'
import { compilePattern } from '../../src/domain/file-pattern.ts'
import { groupNames, isDumpName } from '../../src/init/dump-names.ts'

t.test('the pattern that names fit', async (t) => {
  const cases: [names: string[], databases: string[], groups: [pattern: string, database: string | null][]][] = [
    [
      ['spavix_backup_20260101_020000.sql.gz', 'crm_backup_20260101_020000.sql.gz'],
      [],
      [['{database}_backup_{timestamp}{ext}', null]],
    ],
    [['backup_20260101.sql.gz'], ['app'], [['backup_{timestamp}{ext}', null]]],
    [['2026-01-01T02:00:00Z-my_app-x.dump'], ['my_app', 'app'], [['{timestamp}-{database}-x{ext}', null]]],
    [['pg_app-prod_backup.2026-01-01.tar.gz'], [], [['pg_{database}_backup.{timestamp}{ext}', null]]],
    [
      ['app.sql', 'crm.dump'],
      [],
      [
        ['app{ext}', 'app'],
        ['crm{ext}', 'crm'],
      ],
    ],
    [
      ['app_20260101.sql', 'app_20260102.sql', 'crm_backup_20260101.sql'],
      [],
      [
        ['app_{timestamp}{ext}', 'app'],
        ['{database}_backup_{timestamp}{ext}', null],
      ],
    ],
    [['ab\n"\u001b_backup.sql'], [], [['ab\n"\u001b_backup{ext}', 'ab\n"\u001b']]],
    [['99999999.sql'], [], [['99999999{ext}', '99999999']]],
  ]
  for (const [names, databases, expected] of cases) {
    const groups = groupNames(names, databases)
    const found = groups.map(({ pattern, database }) => [pattern, database])
    t.same(found, expected)
    for (const name of names) {
      const fits = groups.filter(({ pattern }) => compilePattern(pattern)(name) !== null)
      t.equal(fits.length, 1, `${JSON.stringify(name)} is of one group`)
      t.ok(fits[0]?.names.includes(name))
    }
  }
})

t.test('a directory of many different names takes no long time', async (t) => {
  const names = [...Array(50_000).keys()].map((number) => `app-${number.toString(36)}x-20260101.sql`)
  t.equal(groupNames(names, ['app']).length, 20)
  t.equal(groupNames(names, []).flatMap((group) => group.names).length, 50_000)
  t.equal(
    groupNames(
      names.map((name) => name.replace('-2026', '-x')),
      [],
    ).length,
    20,
  )
})

t.test('what is no name of a dump', async (t) => {
  for (const name of ['alternatives.tar.0', 'dpkg.status.1.gz', 'sql', '{a}*.sql', 'app.sql.gz.tmp', '.sql~'])
    t.notOk(isDumpName(name, false), name)
  t.ok(isDumpName('x.sql', false))
  t.ok(isDumpName('app_20260101', true))
  t.notOk(isDumpName('daily', true))
  t.notOk(isDumpName('app_20261399', true))
})
