import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { mkdirOwned, physicalCluster } from '../support/archiving-cluster.ts'
import { openDirectory } from '../support/scratch.ts'
import { until } from '../support/stall.ts'

t.test('PostgreSQL 17', { timeout: 100_000 }, async (t) => {
  const { cluster, sidecar } = await physicalCluster(t, { major: 17 })
  await cluster.createDatabase('app', 'create table t as select generate_series(1, 200000) as i')

  t.test('a chain: each builds on the newest, up to its limit', async (t) => {
    const { sidecar: one } = await sidecar(t, { yaml: { physical: { chainLimit: 3 } } })
    const began = await one.run('incremental')
    t.match(began, {
      state: 'succeeded',
      items: [{ backupType: 'full', outcome: 'succeeded', warnings: [/no backup of this cluster to build on$/] }],
    })
    for (let count = 0; count < 2; count += 1) {
      await cluster.sql('update t set i = i + 1 where i <= 100', 'app')
      t.match(await one.run('incremental'), { state: 'succeeded', items: [{ backupType: 'incremental' }] })
    }
    const [full, first, second] = await one.manifests()
    if (full === undefined || first === undefined || second === undefined) return t.fail('there are not three backups')
    t.match(full.warnings, [/^a full backup instead of an incremental one/])
    t.same([full.parent, first.parent, second.parent], [null, full.backupId, first.backupId])
    const size = (manifest: typeof full) =>
      manifest.artifacts.find(({ name }) => name === 'base.tar.zst')?.plain.bytes ?? 0
    t.ok(size(second) < size(full) / 4, `${size(second)} of ${size(full)} bytes`)
    const third = await one.run('incremental')
    t.match(third, {
      state: 'succeeded',
      items: [{ backupType: 'full', warnings: [/chain has 3 backups.*chainLimit is 3$/] }],
    })
    t.same(await one.leftovers(), [])
  })

  t.test('a parent that is gone, here or in one of two places', async (t) => {
    const directory = await openDirectory(t)
    const [a, b] = [join(directory, 'a'), join(directory, 'b')]
    const { sidecar: one } = await sidecar(t, { repositories: { a, b } })
    t.match(await one.run('full'), { state: 'succeeded' })
    t.match(await one.run('incremental'), { items: [{ backupType: 'incremental' }, { backupType: 'incremental' }] })
    const [full, child] = await one.manifests()
    if (full === undefined || child === undefined) return t.fail('there are not two backups')
    // Only in b: it has not got the newest one, and both build on the one before.
    await rm(one.folder(child, 'b'), { recursive: true })
    t.match(await one.run('incremental'), { items: [{ backupType: 'incremental' }, { backupType: 'incremental' }] })
    t.equal((await one.manifests()).at(-1)?.parent, full.backupId)
    await rm(one.folder(full, 'a'), { recursive: true })
    const run = await one.run('incremental')
    t.match(run.items, [
      { backupType: 'full', repository: 'a', warnings: [/the chain is broken: .* builds on .*, which is not there/] },
      { backupType: 'full', repository: 'b' },
    ])
  })

  t.test('summaries that are missing, and a summarizer that is off', async (t) => {
    const { sidecar: one } = await sidecar(t)
    t.match(await one.run('full'), { state: 'succeeded' })
    const [full] = await one.manifests()
    await cluster.sql('checkpoint')
    await until(cluster, `select 1 from pg_available_wal_summaries() where end_lsn >= '${full?.stop.lsn}'`)
    // Whoever removes them by hand: the server finds out only when it is asked.
    await rm(join(cluster.server.dataDirectory, 'pg_wal', 'summaries'), { recursive: true })
    await mkdirOwned(join(cluster.server.dataDirectory, 'pg_wal', 'summaries'))
    const run = await one.run('incremental')
    t.match(run, { state: 'succeeded', items: [{ backupType: 'full', warnings: [/summar/] }] })
    t.equal(run.items.length, 1)
    t.same(await one.leftovers(), [])
  })
})

t.test('PostgreSQL 17 without summaries', { timeout: 60_000 }, async (t) => {
  const { sidecar } = await physicalCluster(t, { major: 17, settings: { summarize_wal: 'off' } })
  const { sidecar: one } = await sidecar(t)
  t.match(await one.run('incremental'), {
    state: 'succeeded',
    items: [{ backupType: 'full', warnings: [/summarize_wal is off/] }],
  })
})
