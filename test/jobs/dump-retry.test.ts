import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { Run } from '../../src/runner/job.ts'
import { cli } from '../support/cli.ts'
import { type Cluster, startCluster } from '../support/postgres.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { type Sidecar, sidecarYaml, startSidecar } from '../support/sidecar.ts'
import { stall } from '../support/stall.ts'

const quick = { databases: ['a', 'b'], yaml: { runner: { retries: 20, retryDelay: '100ms' } } }

/** Resolves when the run tries something again; fails when it ends before. */
function retried(sidecar: Sidecar, id: string): Promise<Run> {
  return new Promise((resolve, reject) => {
    const stop = sidecar.core.runner.onChange((run) => {
      if (run.id !== id || (run.retries === 0 && run.finishedAt === null)) return
      stop()
      if (run.retries > 0) resolve(run)
      else reject(new Error(`it ended without: ${JSON.stringify(run)}`))
    })
  })
}

/** Breaks what a dump of `b` does just now. */
async function breakDump(cluster: Cluster, sidecar: Sidecar) {
  const held = await stall(cluster, 'b', 'pg_ts_template')
  const { id, ended } = sidecar.begin('dump')
  await held.waiting(ended, '%pg_ts_template%')
  const again = retried(sidecar, id)
  await cluster.sql(
    `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'lifeboat' and datname = 'b'`,
  )
  return { held, id, ended, again }
}

t.test('what is tried again shows', { timeout: 120_000 }, async (t) => {
  const cluster = await startCluster(t)
  await cluster.createDatabase('a', 'create table t as select 1 as x')
  await cluster.createDatabase('b', 'create table t as select 2 as x')

  await t.test('only the database that failed is dumped again, and it has one item', async (t) => {
    const sidecar = await startSidecar(t, cluster, quick)
    const { held, id, ended, again } = await breakDump(cluster, sidecar)
    t.match(await again, { id, state: 'running', retries: 1, attempts: [{ what: 'dumping b' }] }, 'while it waits')
    await held.release()
    const run = await ended
    t.match(run, {
      state: 'succeeded',
      retries: Number,
      attempts: [{ what: 'dumping b', failedAt: String, failure: { code: 'server-unreachable' }, reason: /./ }],
      items: [
        { database: 'a', outcome: 'succeeded' },
        { database: 'b', outcome: 'succeeded' },
      ],
    })
    t.equal(run.attempts.length, run.retries)
    t.equal(run.items.length, 2)
    t.equal((await sidecar.manifests()).length, 2, 'a was dumped once')
    t.same(sidecar.core.runner.get(id), run, 'and it is kept')
    t.same(sidecar.core.runner.backupFailures(), [], 'a database that was backed up in the end did not fail')
    t.same(await sidecar.leftovers(), [])
  })

  await t.test('a cancel in the wait ends it', async (t) => {
    const runner = { retries: 20, retryDelay: '5m' }
    const sidecar = await startSidecar(t, cluster, { ...quick, yaml: { runner } })
    const { held, id, ended, again } = await breakDump(cluster, sidecar)
    await again
    sidecar.core.runner.cancel(id)
    t.match(await ended, { state: 'cancelled', retries: 1, items: [{ database: 'a', outcome: 'succeeded' }] })
    await held.release()
    t.same(await sidecar.leftovers(), [])
  })

  await t.test('nothing of it where time does not help', async (t) => {
    const missing = await startSidecar(t, cluster, { ...quick, databases: ['a', 'nowhere'] })
    t.match(await missing.run('dump'), { state: 'failed', failure: { code: 'database-missing' }, retries: 0 })
    const nobody = await startSidecar(t, cluster, { ...quick, source: cluster.as('nobody') })
    t.match(await nobody.run('dump'), { state: 'failed', failure: { code: 'server-authentication' }, attempts: [] })
  })

  await t.test('the command tells', async (t) => {
    const directory = await scratchDirectory(t)
    await mkdir(join(directory, 'repository'))
    const file = join(directory, 'lifeboat.yaml')
    const yaml = { runner: { retries: 2, retryDelay: '100ms' } }
    await writeFile(file, sidecarYaml(cluster, directory, { databases: ['a'], yaml }), { mode: 0o600 })
    const good = await cli(['backup', '--config', file])
    t.equal(good.code, 0)
    t.notMatch(good.err, /retries/)
    await cluster.server.stop()
    const bad = await cli(['backup', '--config', file])
    t.equal(bad.code, 1)
    t.match(bad.err, /^retries: 2\n( {2}\S+Z {2}looking at the server failed, since .+; again 0 s later\n){2}/m)
    const json = await cli(['backup', '--config', file, '--json'])
    t.match(JSON.parse(json.out), { state: 'failed', retries: 2, attempts: [{}, {}] })
  })
})
