import { createHash } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { createApp } from '../src/app.ts'
import { systemClock } from '../src/clock.ts'
import { loadConfig } from '../src/config/load.ts'
import type { Run } from '../src/runner/job.ts'
import { keptLog } from './support/log.ts'
import { freePort, startCluster } from './support/postgres.ts'
import { scratchDirectory } from './support/scratch.ts'

const token = 'lb_test'
const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }

t.test('a table that was emptied is named', { timeout: 90_000 }, async (t) => {
  const cluster = await startCluster(t)
  await cluster.createDatabase(
    'app',
    `create table users as select i as id from generate_series(1, 10) i;
     create table "it's ""odd""\nhere" as select md5(i::text) as v from generate_series(1, 20000) i`,
  )
  const directory = await scratchDirectory(t)
  const repository = join(directory, 'repository')
  await mkdir(repository)
  const { log, lines } = keptLog()
  const config = await loadConfig({
    env: {},
    text: JSON.stringify({
      cluster: 'spavix',
      listen: `127.0.0.1:${await freePort()}`,
      stateDir: join(directory, 'state'),
      postgres: { host: cluster.source.host, port: cluster.source.port, user: 'postgres', databases: ['app'] },
      repositories: [{ name: 'local', url: `file://${repository}` }],
      auth: { tokens: [{ name: 'test', role: 'admin', sha256: createHash('sha256').update(token).digest('hex') }] },
    }),
  })
  const app = await createApp(config, { clock: systemClock, log, version: { version: '0', revision: 'x' } })
  t.teardown(() => app.stop())
  await app.start()
  const backup = async () => {
    const answer = await fetch(`${app.url}/api/admin/backup`, { method: 'POST', headers, body: '{}' })
    const { id } = (await answer.json()) as Run
    for (;;) {
      const run = (await (await fetch(`${app.url}/api/runs/${id}`, { headers })).json()) as Run
      if (run.finishedAt !== null) return run
      await delay(50)
    }
  }
  for (let number = 0; number < 3; number += 1) t.match(await backup(), { state: 'succeeded' })
  t.notMatch(lines.map(({ msg }) => msg).join('\n'), 'unusually')
  await cluster.sql(`delete from "it's ""odd""\nhere"`, 'app')
  t.match(await backup(), { state: 'succeeded' })

  const told = () => lines.find(({ msg }) => /unusually/.test(String(msg)))
  for (let look = 0; told() === undefined && look < 300; look += 1) await delay(50)
  t.match(told(), {
    msg: /^backup of app in local is unusually small: .*% of its usual size \(.* bytes\), 0\.05% of its usual rows; changed since .*-dump-.*: public\."it's \\"odd\\"\\nhere" \(20,000 to 0 rows/,
    rowsRatio: 10 / 20_010,
    tables: [{ table: 'public."it\'s \\"odd\\"\\nhere"', rowsBefore: 20_000, rowsAfter: 0, change: 'changed' }],
  })
  const { backups } = (await (await fetch(`${app.url}/api/backups`, { headers })).json()) as {
    backups: { deviation: object | null }[]
  }
  t.match(backups[0]?.deviation, { unusual: true, baselineOf: 3, tables: [{ rowsBefore: 20_000, rowsAfter: 0 }] })
  t.same(
    backups.slice(1).map(({ deviation }) => deviation),
    [null, null, null],
    'of the newest alone',
  )
  const metrics = await (await fetch(`${app.url}/metrics`)).text()
  const metric = /lifeboat_backup_deviation_ratio\{.*database="app"\} (\S+)/.exec(metrics)
  t.ok(Number(metric?.[1]) < 0.7, `the metric says ${metric?.[1]}`)
  t.match(metrics, /lifeboat_backup_unusual\{.*database="app"\} 1\n/)
  t.match(metrics, /lifeboat_policy_backup_shrink_below_ratio\{.*\} 0.7\n/)
  t.equal(lines.filter(({ msg }) => /unusually/.test(String(msg))).length, 1, 'once')
})
