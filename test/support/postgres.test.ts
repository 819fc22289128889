import { access } from 'node:fs/promises'
import t from 'tap'
import { withSession } from '../../src/postgres/connection.ts'
import { cannotHave, startCluster } from './postgres.ts'

for (const major of [15, 17, 18] as const) {
  t.test(`PostgreSQL ${major} runs for one test`, { skip: await cannotHave(major) }, async (t) => {
    let data = ''
    await t.test('the test', async (t) => {
      const cluster = await startCluster(t, { major, tcp: major === 15, settings: { work_mem: '5MB' } })
      data = cluster.server.dataDirectory
      await cluster.createDatabase('a "b"\nc', 'create table x (i int); insert into x values (1)')
      t.same(await cluster.sql('select i from x', 'a "b"\nc'), [{ i: 1 }])
      t.match(await cluster.sql(`select current_setting('work_mem') m, current_setting('wal_level') w`), [
        { m: '5MB', w: 'replica' },
      ])
      if (major !== 15) return
      await cluster.sql(`create role r login password 'p'`)
      const right = withSession(cluster.as('r', 'p'), { database: 'postgres' }, (session) => session.query('select 1'))
      await t.resolves(right)
      const wrong = withSession(cluster.as('r', 'q'), { database: 'postgres' }, (session) => session.query('select 1'))
      await t.rejects(wrong, { code: 'server-authentication' })
    })
    await t.rejects(access(data), { code: 'ENOENT' })
  })
}
