import { cp } from 'node:fs/promises'
import t, { type Test } from 'tap'
import { systemClock } from '../../src/clock.ts'
import type { Manifest } from '../../src/domain/backup.ts'
import { startCluster } from '../support/postgres.ts'
import { type SidecarOptions, startSidecar } from '../support/sidecar.ts'
import { copyRepository, folderIn, writeManifest } from '../support/tamper.ts'

const foreign = '7000000000000000001'
const inAnHour = new Date(systemClock.now().getTime() + 3_600_000)

t.test('whose backup it is, and which is the newest', { timeout: 200_000 }, async (t) => {
  const cluster = await startCluster(t, { settings: { wal_level: 'logical' } })
  await cluster.createDatabase('app', `create table people as select 'first' as v`)
  const source = await startSidecar(t, cluster, { databases: ['app'] })
  t.match(await source.run('dump'), { state: 'succeeded' })
  await cluster.sql(`insert into people values ('second')`, 'app')
  t.match(await source.run('dump'), { state: 'succeeded' })
  const [older, newest] = (await source.manifests()) as readonly [Manifest, Manifest]
  const databases = async () =>
    (await cluster.sql<{ n: string }>('select datname as n from pg_database order by 1')).map(({ n }) => n)
  const drop = (name: string) => cluster.sql(`drop database if exists "${name}" with (force)`)

  /** A sidecar on a copy of the repository, in which a backup is there again with another manifest. */
  async function withCopy(t: Test, of: Manifest, changes: Partial<Manifest>, more: SidecarOptions = {}) {
    const repository = await copyRepository(t, source)
    const forged = await copyBackup(repository, of, changes)
    const sidecar = await startSidecar(t, cluster, { databases: ['app'], repositories: { local: repository }, ...more })
    return { sidecar, repository, forged }
  }

  t.test('a newer one of another cluster is left alone, unless it is named', async (t) => {
    const { sidecar, forged } = await withCopy(t, newest, {
      systemIdentifier: foreign,
      start: { lsn: 'FF/0', time: newest.stop.time },
    })
    t.match((await sidecar.run('verify', { level: 'artifact' })).items, [{ backupId: newest.backupId }])
    t.match((await sidecar.run('verify', { level: 'artifact', backup: forged.backupId })).items, [{ verdict: 'pass' }])
    t.teardown(() => Promise.all(['one', 'two'].map(drop)))
    t.match((await sidecar.run('restore', { database: 'app', target: 'one' })).items, [{ backupId: newest.backupId }])
    t.match((await sidecar.run('restore', { backup: forged.backupId, target: 'two' })).items, [
      { backupId: forged.backupId, warnings: [`the backup is of another cluster, ${foreign}`] },
    ])
    const before = await databases()
    const refused = await sidecar.run('restore', { backup: forged.backupId, replace: true })
    t.match(refused, {
      state: 'failed',
      failure: { code: 'usage-invalid', message: /7000000000000000001/, hint: /--force-foreign/ },
    })
    t.same(await databases(), before)
    const replaced = await sidecar.run('restore', { backup: forged.backupId, replace: true, foreign: true })
    t.match(replaced, { state: 'succeeded', items: [{ warnings: [/another cluster/] }] })
    for (const name of await databases()) if (name.startsWith('app_before_')) await drop(name)
  })

  t.test('only ones of another cluster', async (t) => {
    const { sidecar, repository } = await withCopy(t, newest, {})
    for (const manifest of await sidecar.manifests()) {
      await writeManifest(folderIn(repository, manifest), { ...manifest, systemIdentifier: foreign })
    }
    const hint = new RegExp(`other clusters, .*-ffffff \\("app" of cluster ${foreign}\\)`)
    for (const run of [await sidecar.run('verify'), await sidecar.run('restore', { database: 'app', target: 'x' })]) {
      t.match(run, { failure: { code: 'not-found', hint } })
    }
    t.match(await sidecar.run('verify', { database: 'gone' }), {
      failure: { code: 'not-found', hint: /take one first/ },
    })
  })

  t.test('the server cannot be asked', async (t) => {
    const nobody = { ...cluster.source, host: '/nonexistent' }
    const one = await withCopy(t, older, {}, { source: nobody })
    t.match((await one.sidecar.run('verify', { level: 'artifact' })).state, 'succeeded', 'all are of one cluster')
    const two = await withCopy(
      t,
      older,
      { systemIdentifier: foreign },
      { source: nobody, restoreTarget: cluster.source },
    )
    for (const run of [
      await two.sidecar.run('verify'),
      await two.sidecar.run('restore', { database: 'app', target: 'x' }),
    ]) {
      t.match(run, { state: 'failed', failure: { code: 'server-unreachable', message: /several clusters/ } })
      for (const id of [newest.backupId, two.forged.backupId]) t.match(run.failure?.hint, id)
    }
  })

  t.test('the place in the WAL tells the newest, whatever the clocks said', async (t) => {
    const late = new Date(Date.parse(newest.start.time) + 60_000).toISOString()
    const { sidecar } = await withCopy(t, older, {
      start: { ...older.start, time: late },
      stop: { ...older.stop, time: late },
    })
    t.match((await sidecar.run('verify', { level: 'artifact' })).items, [{ backupId: newest.backupId }])
  })

  t.test('one of the future is left out, and the log says so', async (t) => {
    const time = inAnHour.toISOString()
    const { sidecar, forged } = await withCopy(t, newest, { start: { lsn: 'FF/0', time }, stop: { lsn: 'FF/8', time } })
    t.match((await sidecar.run('verify', { level: 'artifact' })).items, [{ backupId: newest.backupId }])
    t.match(
      sidecar.lines.filter(({ note }) => note === 'clock-ahead'),
      [{ level: 40, backups: [forged.backupId] }],
    )
    t.match((await sidecar.run('verify', { level: 'artifact', backup: forged.backupId })).state, 'succeeded')
  })

  t.test('a dump says that the last one was of another cluster, and that clocks differ', async (t) => {
    const { sidecar } = await withCopy(t, newest, { systemIdentifier: foreign })
    const told = /repository local, \S+, is of another cluster, 7000000000000000001/
    t.match(await sidecar.run('dump'), { state: 'succeeded' })
    t.match((await sidecar.manifests()).at(-1)?.warnings, [told])
    t.ok(sidecar.lines.some(({ level, msg }) => level === 40 && told.test(String(msg))))
    t.same(newest.warnings, [], 'not without a reason')

    const slow = { ...systemClock, now: () => new Date(systemClock.now().getTime() - 400_000) }
    const behind = await startSidecar(t, cluster, { databases: ['app'], clock: slow })
    t.match(await behind.run('dump'), { state: 'succeeded' }, 'a backup with a doubt is worth more than none')
    t.match((await behind.manifests())[0]?.warnings, [/^the server's clock is (399|40\d) s ahead of that of lifeboat/])
  })

  t.test('what a replacement leaves behind', async (t) => {
    await cluster.sql('create role owner; create role guest')
    await cluster.sql(`select pg_create_logical_replication_slot('a_slot', 'pgoutput')`, 'app')
    await cluster.sql(
      `create subscription "a sub" connection 'host=/nonexistent' publication p with (connect = false)`,
      'app',
    )
    await cluster.sql(`alter database app owner to owner; alter database app connection limit 9;
      grant create on database app to guest; alter database app set "app.token" = 'very secret';
      alter role guest in database app set work_mem = '7MB'`)
    const run = await source.run('restore', { backup: newest.backupId, replace: true })
    t.match(run, { state: 'succeeded' }, JSON.stringify(run.failure))
    const [{ warnings }] = run.items as unknown as [{ warnings: string[] }]
    t.match(warnings, [
      'the logical replication slot "a_slot" stays with the former database',
      'the subscription "a sub" stays with the former database and goes on there',
      'the owner is "postgres", was "owner"',
      'the connection limit is -1, was 9',
      /the restored one has not: .*guest=C\/owner/,
      /the former one has not: .*postgres=/,
      'settings that are not as in the former database: app.token, guest: work_mem',
    ])
    t.notMatch(JSON.stringify(run) + JSON.stringify(source.lines), /very secret/)
    t.equal(source.lines.filter(({ level, msg }) => level === 40 && warnings.includes(String(msg))).length, 7)

    const all = await startSidecar(t, cluster)
    const dumped = await all.run('dump')
    t.same(
      dumped.items.map(({ database }) => database).sort(),
      ['app', 'postgres'],
      'what was set aside is not backed up',
    )
    const [kept = ''] = (await databases()).filter((name) => name.startsWith('app_before_'))
    t.match((await all.run('dump', { database: kept })).items, [{ database: kept }], 'unless it is named')
  })
})

/** The backup once more under a new id, with another manifest. */
async function copyBackup(repository: string, of: Manifest, changes: Partial<Manifest>): Promise<Manifest> {
  const backupId = of.backupId.replace(/.{6}$/, 'ffffff')
  await cp(folderIn(repository, of), folderIn(repository, { ...of, backupId }), { recursive: true })
  return writeManifest(folderIn(repository, { ...of, backupId }), { ...of, backupId, ...changes })
}
