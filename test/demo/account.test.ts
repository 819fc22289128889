import { PassThrough } from 'node:stream'
import t from 'tap'
import { createAccount } from '../../src/demo/account.ts'
import { changes, parseSeries, valueIn } from '../../src/demo/series.ts'

const before = parseSeries(`# HELP lifeboat_backups Complete backups.
# TYPE lifeboat_backups gauge
lifeboat_backups{cluster_name="demo",repository="main",backup_type="dump"} 0
lifeboat_backups{cluster_name="demo",repository="gone",backup_type="dump"} 3
lifeboat_up{cluster_name="demo"} 1
lifeboat_plain 5
`)
const after = parseSeries(`lifeboat_backups{cluster_name="demo",repository="main",backup_type="dump"} 1
lifeboat_backups{cluster_name="demo",repository="a } \\"b\\"",backup_type="dump"} 2
lifeboat_backups_size_bytes{cluster_name="demo",repository="main",backup_type="dump"} 2500000
lifeboat_recovery_point_timestamp_seconds{cluster_name="demo",repository="main"} 1.7e9
lifeboat_up{cluster_name="demo"} 1
lifeboat_plain 6
`)

t.test('series are told apart by name and labels', (t) => {
  t.equal(before.size, 4)
  t.equal(valueIn(before, 'lifeboat_backups', { repository: 'main' }), 0)
  t.equal(valueIn(before, 'lifeboat_backups', { repository: 'mai' }), null)
  t.equal(valueIn(before, 'lifeboat_plain', {}), 5)
  t.equal(valueIn(after, 'lifeboat_backups', { repository: 'a } \\"b\\"', backup_type: 'dump' }), 2)
  t.equal(valueIn(after, 'lifeboat_back', {}), null, 'no prefixes')
  t.end()
})

t.test('changes are those of the names asked for', (t) => {
  t.same(changes(before, after, ['lifeboat_plain', 'lifeboat_backups', 'lifeboat_up']), [
    { name: 'lifeboat_plain', labels: [], before: 5, after: 6 },
    { name: 'lifeboat_backups', labels: ['main', 'dump'], before: 0, after: 1 },
    { name: 'lifeboat_backups', labels: ['gone', 'dump'], before: 3, after: null },
    { name: 'lifeboat_backups', labels: ['a } \\"b\\"', 'dump'], before: null, after: 2 },
  ])
  t.end()
})

t.test('the account is text, in colour only where a person sees it', (t) => {
  const print = (isTTY: boolean, noColor: boolean) => {
    const out = Object.assign(new PassThrough(), { isTTY })
    const account = createAccount(out, noColor)
    account.act('First')
    account.tell('something')
    account.type('lifeboat restore', '--to /tmp/before')
    account.check(true, 'as it should be')
    t.equal(account.good, true)
    account.check(false, 'as it should not be')
    account.check(true, 'again')
    t.equal(account.good, false, 'one failure is enough')
    account.act('Second')
    const names = ['lifeboat_backups', 'lifeboat_backups_size_bytes', 'lifeboat_recovery_point_timestamp_seconds']
    account.changes(changes(before, after, names))
    return String(out.read())
  }
  const plain = print(false, false)
  t.matchStrict(
    plain,
    `
1. First
   something
   $ lifeboat restore \\
       --to /tmp/before
   ok as it should be
   NOT SO: as it should not be
   ok again

2. Second
     lifeboat_backups
       main dump                            0 -> 1
       gone dump                            3 -> none
       a } \\"b\\" dump                       none -> 2
     lifeboat_backups_size_bytes
       main dump                            none -> 2.5 MB
     lifeboat_recovery_point_timestamp_seconds
       main                                 none -> 2023-11-14T22:13:20Z
`,
  )
  t.equal(print(true, true), plain)
  t.match(print(true, false), '\u001b[32m')
  t.end()
})
