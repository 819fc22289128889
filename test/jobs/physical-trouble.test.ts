import { readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import t from 'tap'
import { checkHistory } from '../../src/check/history.ts'
import { systemClock } from '../../src/clock.ts'
import { stopTime } from '../../src/jobs/stop-time.ts'
import { connect } from '../../src/postgres/connection.ts'
import { killOrphans } from '../../src/postgres/orphans.ts'
import { physicalCluster } from '../support/archiving-cluster.ts'
import { copyWal, startCopier } from '../support/copier.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { until } from '../support/stall.ts'
import { untilAnswer } from '../support/until.ts'

t.test('while a backup is taken, on PostgreSQL 17', { timeout: 150_000 }, async (t) => {
  const { cluster, archive, sidecar } = await physicalCluster(t, {
    major: 17,
    hba: ['local replication refused reject'],
    settings: { max_wal_senders: '2' },
  })
  await cluster.createDatabase('app', 'create table t as select generate_series(1, 1000) as i')
  const slow = { physical: { maxRate: '12MiB' } }
  const again = { runner: { retries: 5, retryDelay: '100ms' } }

  await t.test('the server is restarted, and killed', async (t) => {
    for (const way of ['restarted', 'killed'] as const) {
      const { sidecar: one } = await sidecar(t, { yaml: { ...slow, ...again } })
      const { id, ended } = one.begin('full')
      await one.progress(id, /reading the cluster/)
      if (way === 'restarted') await cluster.server.stop('fast')
      else await killOrphans(cluster.server.dataDirectory)
      await cluster.server.start()
      const run = await ended
      t.match(run, { state: 'succeeded', attempts: [{ failure: { code: 'server-unreachable' } }] }, way)
      t.equal((await one.manifests()).length, 1)
      t.same(await one.leftovers(), [])
    }
  })

  await t.test('pg_hba.conf does not let the role in, or no WAL sender is free', async (t) => {
    await cluster.sql('create role refused login replication in role pg_monitor')
    const { sidecar: refused } = await sidecar(t, { source: cluster.as('refused') })
    t.match(await refused.run('full'), { failure: { code: 'server-authentication', hint: /line for .*pg_hba\.conf/ } })
    t.same(await refused.leftovers(), [])
    const taken = await Promise.all(
      [1, 2].map(() => connect(cluster.source, { database: 'replication', replication: true })),
    )
    const { sidecar: one } = await sidecar(t)
    t.match(await one.run('full'), { failure: { code: 'server-unreachable', hint: /raise max_wal_senders/ } })
    for (const session of taken) await session.close()
    await until(cluster, `select 1 where not exists (select from pg_stat_activity where backend_type = 'walsender')`)
  })

  await t.test('the summarizer is behind, and is waited for', async (t) => {
    const { sidecar: one } = await sidecar(t)
    t.match(await one.run('full'), { state: 'succeeded' })
    const [row] = await cluster.sql<{ pid: number }>(
      `select pid from pg_stat_activity where backend_type = 'walsummarizer'`,
    )
    const pid = row?.pid ?? 0
    process.kill(pid, 'SIGSTOP')
    t.teardown(() => process.kill(pid, 'SIGCONT'))
    const { ended } = one.begin('incremental')
    await until(cluster, `select from pg_stat_activity where wait_event = 'WalSummaryReady'`)
    process.kill(pid, 'SIGCONT')
    t.match(await ended, { state: 'succeeded', items: [{ backupType: 'incremental' }] })
  })

  await t.test('the parent is removed between its choice and the publishing', async (t) => {
    const { sidecar: one, systemIdentifier } = await sidecar(t, { ships: false })
    const copier = { archive, repositories: [one.repository], systemIdentifier }
    const stop = copyWal(copier)
    t.match(await one.run('full'), { state: 'succeeded' })
    await stop()
    const [full] = await one.manifests()
    if (full === undefined) return t.fail('there is no full backup')
    const { id, ended } = one.begin('incremental')
    await one.progress(id, /waiting for the WAL of the backup/)
    await rm(one.folder(full), { recursive: true })
    startCopier(t, copier)
    t.match(await ended, {
      state: 'succeeded',
      items: [{ backupType: 'full', warnings: [/full backup instead .* was removed from repository local meanwhile/] }],
    })
    t.match(await one.manifests(), [{ type: 'full', parent: null }])
    t.same(await one.leftovers(), [])
  })

  await t.test('our clock is set back by an hour', async (t) => {
    let shift = 0
    const clock = { ...systemClock, now: () => new Date(Date.now() + shift) }
    const { sidecar: one } = await sidecar(t, { clock, yaml: slow })
    const before = Date.now()
    const { id, ended } = one.begin('full')
    await one.progress(id, /reading the cluster/)
    shift = -3_600_000
    t.match(await ended, { state: 'succeeded' })
    const [manifest] = await one.manifests()
    const [start, stop] = [Date.parse(manifest?.start.time ?? ''), Date.parse(manifest?.stop.time ?? '')]
    t.ok(before <= start && start < stop && stop <= Date.now(), 'the times are of the clock that dates commits')
    t.same(manifest?.warnings, [])
  })

  await t.test("the server's clock is set", async (t) => {
    const primary = { ...cluster.source, maintenanceDatabase: 'postgres' }
    const { signal } = new AbortController()
    // As it would have been: an hour behind what it is, or ahead.
    const found = (ahead: number) => {
      const stoppedAt = new Date(Date.now() + ahead)
      return stopTime(primary, { serverNow: () => stoppedAt }, { stoppedAt, signal })
    }
    const [forward, back] = [await found(-3_600_000), await found(3_600_000)]
    t.match([forward.warnings, back.warnings], [[/set forward by 3600 s/], [/set back by 3600 s/]])
    t.ok(Math.abs(forward.stoppedAt.getTime() - Date.now()) < 60_000)
    t.ok(back.stoppedAt.getTime() > Date.now() + 3_000_000, 'what was committed before has a later time')
  })

  await t.test('two sidecars at once', async (t) => {
    const repositories = { local: join(await scratchDirectory(t), 'repository') }
    const { sidecar: one } = await sidecar(t, { repositories, yaml: slow })
    const { sidecar: other } = await sidecar(t, { repositories, ships: false })
    const { id, ended } = one.begin('full')
    await one.progress(id, /reading the cluster/)
    t.match(await other.run('full'), {
      failure: { code: 'conflict', message: /lease on the repository local is held/ },
    })
    t.match(await ended, { state: 'succeeded' })
    t.equal((await one.manifests()).length, 1)
    t.same(await one.leftovers(), [])
  })

  await t.test('another timeline, and another cluster', async (t) => {
    const { sidecar: one, systemIdentifier: before } = await sidecar(t, { ships: false })
    const { directory } = one
    const stop = copyWal({
      ...{ archive, repositories: [one.repository], systemIdentifier: before },
      histories: false,
    })
    t.match(await one.run('full'), { state: 'succeeded' })
    await cluster.sql(`alter system set restore_command = 'false'`)
    await cluster.server.stop()
    const { dataDirectory } = cluster.server
    await writeFile(join(dataDirectory, 'recovery.signal'), '')
    await cluster.server.start()
    await until(cluster, 'select 1 where not pg_is_in_recovery()')
    await cluster.sql('checkpoint')
    // As of a restored server: one that archives nothing while it is promoted never archives the history of its timeline.
    const history = '00000002.history'
    await untilAnswer('it is archived', async () => (await readdir(archive)).includes(history))
    await rm(join(archive, history))
    const findings = () => checkHistory(one.config, [one.repository], AbortSignal.timeout(30_000))
    t.match(await findings(), [{ status: 'warning', what: /timeline 2.*00000002\.history/, hint: /history\.ready$/ }])
    const next = await one.run('incremental')
    t.match(
      next,
      {
        state: 'succeeded',
        items: [{ backupType: 'full', warnings: [/the server is on timeline 2, and no backup is$/] }],
      },
      JSON.stringify(next.failure),
    )
    const stored: Buffer[] = []
    for await (const file of one.repository.wal.listPlain(before))
      if (file.name === history) stored.push(await buffer(await one.repository.wal.read(file)))
    t.same(stored, [await readFile(join(dataDirectory, 'pg_wal', history))], 'and is stored with the backup')
    t.same(await findings(), [])
    t.match(await one.run('incremental'), { items: [{ backupType: 'incremental' }] })
    await stop()
    await one.core.close()
    const upgraded = await physicalCluster(t, { major: 17 })
    const { sidecar: other, systemIdentifier } = await upgraded.sidecar(t, { directory })
    t.match(await other.run('incremental'), {
      state: 'succeeded',
      items: [
        { backupType: 'full', warnings: [/system identifier was \d+ and is \d+, as after pg_upgrade or initdb$/] },
      ],
    })
    t.equal((await other.manifests()).at(-1)?.systemIdentifier, systemIdentifier)
  })
})

t.test('a server that sends no WAL', { timeout: 60_000 }, async (t) => {
  const none = { archive_mode: 'off', wal_level: 'minimal', max_wal_senders: '0' }
  const { sidecar } = await physicalCluster(t, { settings: none })
  const { sidecar: one } = await sidecar(t)
  t.match(await one.run('full'), {
    failure: { code: 'server-error', message: /wal_level is minimal/, hint: /restart/ },
  })
  t.same(await one.leftovers(), [])
})
