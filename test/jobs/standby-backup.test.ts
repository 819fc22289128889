import { symlink, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { withSession } from '../../src/postgres/connection.ts'
import { physicalCluster } from '../support/archiving-cluster.ts'
import { allShipped, followInstructions } from '../support/follow.ts'
import { openDirectory } from '../support/scratch.ts'
import { startStandby } from '../support/standby.ts'

const count = 'select count(*)::text as count from t'

for (const major of [15, 17] as const) {
  t.test(`of a standby, and RESTORE.md followed, on PostgreSQL ${major}`, { timeout: 120_000 }, async (t) => {
    const { cluster, sidecar } = await physicalCluster(t, { major })
    await cluster.createDatabase('app', 'create table t as select generate_series(1, 1000) as i')
    const standby = await startStandby(t, cluster, {
      // The older one archives as well, and ends a backup only when it has.
      settings: major === 15 ? { archive_mode: 'always', archive_command: 'true' } : { summarize_wal: 'on' },
    })
    const host = join(await openDirectory(t), 'standby')
    await symlink(standby.source.host, host)
    const { sidecar: one, systemIdentifier } = await sidecar(t, {
      yaml: { physical: { walTimeout: '30s', standby: { host } } },
    })
    const jobs = major === 15 ? (['full'] as const) : (['full', 'incremental', 'incremental'] as const)
    for (const [index, job] of jobs.entries()) {
      // The one in the middle is of the primary, and the last one follows upon nothing at all: also an idle cluster has its chain.
      if (index === 1) await unlink(host)
      if (index === 2) await symlink(standby.source.host, host)
      else await cluster.sql('insert into t select 1', 'app')
      t.match(await one.run(job), { state: 'succeeded', items: [{ backupType: job }] })
    }
    const read = (await one.manifests()).map(({ physical }) => physical?.fromStandby)
    t.same(read, major === 15 ? [true] : [true, false, true])
    const manifest = (await one.manifests()).at(-1)
    if (manifest === undefined) return t.fail('there is no backup')
    t.match(manifest, {
      systemIdentifier,
      timeline: 1,
      warnings: [],
      physical: { fromStandby: true, configSaved: true },
    })
    t.same(await one.leftovers(), [])

    await cluster.sql('insert into t select 2', 'app')
    await allShipped(cluster, one)
    const { source } = await followInstructions(t, one.folder(manifest), cluster.installation.directory)
    const restored = await withSession(source, { database: 'app' }, (session) => session.query(count))
    t.same(restored, await cluster.sql(count, 'app'))
  })
}

t.test('what goes wrong with a standby', { timeout: 120_000 }, async (t) => {
  const { cluster, sidecar } = await physicalCluster(t, { major: 17 })
  const standby = await startStandby(t, cluster)
  const { host } = standby.source
  const of = (standby: object, physical: object = {}) => ({
    yaml: { physical: { walTimeout: '30s', ...physical, standby } },
  })
  const instead = (why: RegExp) => [
    new RegExp(`^a backup of the primary instead of the standby: the standby .*${why.source}`),
  ]

  await t.test('it is away', async (t) => {
    const nowhere = join(await openDirectory(t), 'nowhere')
    const { sidecar: one } = await sidecar(t, of({ host: nowhere }))
    t.match(await one.run('full'), {
      state: 'succeeded',
      items: [{ outcome: 'succeeded', warnings: instead(/nowhere:5432: connect ENOENT/) }],
    })
    t.match(await one.manifests(), [{ warnings: instead(/ENOENT/), physical: { fromStandby: false } }])
    const { sidecar: strict } = await sidecar(t, of({ host: nowhere, required: true }))
    const run = await strict.run('full')
    t.match(run, { state: 'failed', failure: { code: 'server-unreachable', message: /^the standby .*nowhere/ } })
    t.same(await strict.manifests(), [])
    t.same(await strict.leftovers(), [])
  })

  await t.test('it is the primary, by another way', async (t) => {
    const link = join(await openDirectory(t), 'link')
    await symlink(cluster.source.host, link)
    const { sidecar: one } = await sidecar(t, of({ host: link, required: true }))
    t.match(await one.run('full'), { failure: { code: 'server-error', message: /it is no standby/ } })
  })

  await t.test('postgres.host is the standby', async (t) => {
    const { sidecar: one } = await sidecar(t, { source: standby.source })
    t.match(await one.run('full'), { failure: { code: 'config-invalid', hint: /physical\.standby/ } })
  })

  await t.test('it is too far behind', async (t) => {
    await standby.sql('select pg_wal_replay_pause()')
    await cluster.sql('create table behind (i int)')
    const { sidecar: one } = await sidecar(t, of({ host, maxLag: '1s' }))
    const run = await one.run('full')
    await standby.sql('select pg_wal_replay_resume()')
    t.match(run, {
      state: 'succeeded',
      items: [{ warnings: instead(/too far behind: after 1 s it has replayed up to .*, \d+ bytes short of/) }],
    })
    t.same(await one.leftovers(), [])
  })

  await t.test('its summarizer is off, and that of the primary is not', async (t) => {
    const { sidecar: one } = await sidecar(t, of({ host }))
    t.match(await one.run('full'), { state: 'succeeded' })
    t.match(await one.run('incremental'), { items: [{ backupType: 'full', warnings: [/summarize_wal is off/] }] })
  })

  await t.test('it goes down amid', async (t) => {
    const other = await startStandby(t, cluster)
    const { sidecar: one } = await sidecar(t, of({ host: other.source.host }, { maxRate: '12MiB' }))
    const { id, ended } = one.begin('full')
    await one.progress(id, /reading the standby/)
    await other.stop()
    t.match(await ended, { state: 'succeeded', items: [{ warnings: instead(/./) }] })
    t.match(await one.manifests(), [{ physical: { fromStandby: false } }])
    t.same(await one.leftovers(), [])
  })

  await t.test('it is promoted amid', async (t) => {
    const { sidecar: one, systemIdentifier } = await sidecar(t, of({ host }, { maxRate: '12MiB' }))
    const { id, ended } = one.begin('full')
    await one.progress(id, /reading the standby/)
    await standby.sql('select pg_promote()')
    t.match(await ended, {
      state: 'succeeded',
      items: [{ warnings: instead(/standby was promoted during online backup/) }],
    })
    t.match(await one.manifests(), [{ systemIdentifier, timeline: 1, physical: { fromStandby: false } }])
    t.same(await one.leftovers(), [])
  })
})
