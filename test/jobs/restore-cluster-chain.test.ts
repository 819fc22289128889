import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join, relative } from 'node:path'
import t from 'tap'
import { runProgram } from '../../src/postgres/programs.ts'
import { makeTablespace, physicalCluster } from '../support/archiving-cluster.ts'
import { cannotHave } from '../support/postgres.ts'
import {
  askServer,
  groundOf,
  restoringInitdb,
  rowsOf,
  shipped,
  sourceOf,
  stopRestored,
  wishParams,
} from '../support/restoring.ts'
import { openDirectory, scratchDirectory } from '../support/scratch.ts'
import { startSidecar } from '../support/sidecar.ts'
import { until } from '../support/stall.ts'
import { copyRepository } from '../support/tamper.ts'

for (const major of [17, 18] as const)
  t.test(
    `a chain with a tablespace, on PostgreSQL ${major}`,
    { timeout: 200_000, skip: await cannotHave(major) },
    async (t) => {
      const settings = await openDirectory(t)
      await writeFile(join(settings, 'pg_ident.conf'), '# ident\n')
      const physical = await physicalCluster(t, {
        ...{ major, initdbArgs: restoringInitdb },
        settings: { ident_file: join(settings, 'pg_ident.conf') },
      })
      const { cluster } = physical
      const location = await makeTablespace(t, cluster, 'elsewhere')
      await cluster.createDatabase('app', "create table t tablespace elsewhere as select 'one' as word")
      const { sidecar } = await physical.sidecar(t)
      for (const [job, word] of [
        ['full', 'two'],
        ['incremental', 'three'],
        ['incremental', 'four'],
      ] as const) {
        t.match(await sidecar.run(job), { state: 'succeeded', items: [{ backupType: job }] })
        await cluster.sql(`insert into t values ('${word}')`, 'app')
      }
      await shipped(cluster, sidecar)
      const [space] = (await sidecar.manifests()).at(-1)?.physical?.tablespaces ?? []
      const before = await readdir(location, { recursive: true })
      const ground = groundOf({ ...physical, sidecar }, null)

      t.test('it needs a new place', async (t) => {
        t.match((await ground.restore(t, {})).run.failure, {
          code: 'usage-invalid',
          message: new RegExp(`need a new place: ${location}`),
          hint: `--tablespace-map ${location}=NEW-DIRECTORY`,
        })
        const taken = await openDirectory(t)
        await writeFile(join(taken, 'file'), '')
        for (const [place, code] of [
          [taken, 'conflict'],
          [location, 'usage-invalid'],
          [cluster.server.dataDirectory, 'usage-invalid'],
        ] as const)
          t.match((await ground.restore(t, { tablespaces: [[location, place]] })).run.failure, { code }, place)
        const twice: [string, string][] = [location, String(space?.oid)].map((old) => [old, join(taken, old)])
        t.match((await ground.restore(t, { tablespaces: twice })).run.failure, { message: /is mapped twice/ })
        t.match((await ground.restore(t, { tablespaces: [['/srv/none', '/srv/new']] })).run.failure, {
          code: 'usage-invalid',
          message: /has no tablespace in "\/srv\/none"/,
        })
      })

      t.test('and is put together there', async (t) => {
        for (const [old, target, rows] of [
          [location, { kind: 'latest' }, ['four', 'one', 'three', 'two']],
          [String(space?.oid), { kind: 'immediate' }, ['one', 'three', 'two']],
        ] as const) {
          const place = join(await openDirectory(t), 'mapped')
          const { run, to } = await ground.restore(t, { target, tablespaces: [[old, place]] })
          t.match(run, { state: 'succeeded', items: [{ backupType: 'incremental' }] })
          t.same(await rowsOf(sourceOf(run)), rows)
          t.same(
            await askServer(
              sourceOf(run),
              "select pg_tablespace_location(oid) as at from pg_tablespace where spcname = 'elsewhere'",
            ),
            [{ at: place }],
          )
          await askServer(sourceOf(run), 'drop table t; checkpoint', 'app')
          t.same(await readdir(location, { recursive: true }), before, 'that of the old server was left alone')
          const kept = join(to, 'lifeboat-restore', 'config', settings, 'pg_ident.conf')
          t.equal(await readFile(kept, 'utf8'), '# ident\n', 'configuration from elsewhere lies beside it')
          t.equal((await stat(join(to, 'pg_tblspc'))).mode & 0o777, 0o700, 'it can have new tablespaces')
        }
      })

      t.test('a tablespace that is younger than the backup is not made over the one of the server', async (t) => {
        const younger = await makeTablespace(t, cluster, 'younger')
        await cluster.sql('create table far tablespace younger as select generate_series(1, 1000) as i', 'app')
        await shipped(cluster, sidecar)
        await cluster.sql('update far set i = i + 1; checkpoint', 'app')
        const place = join(await openDirectory(t), 'mapped')
        const { run, to } = await ground.restore(t, { tablespaces: [[location, place]] })
        t.match(run.failure, { code: 'not-recoverable', message: new RegExp(younger), hint: /newer backup/ })
        t.equal((await stat(join(to, 'pg_tblspc'))).mode & 0o777, 0o700, 'it can be removed')
        await cluster.server.stop()
        await cluster.server.start() // what it had in memory hides what was written
        const [row] = await cluster.sql('select count(*)::int as rows, min(i), max(i) from far', 'app')
        t.same(row, { rows: 1000, min: 2, max: 1001 }, 'the rows of the server are as they were')
      })
    },
  )

t.test('holes, and other timelines', { timeout: 200_000 }, async (t) => {
  const physical = await physicalCluster(t, { major: 15, initdbArgs: restoringInitdb })
  const { cluster, archive } = physical
  await cluster.createDatabase('app', "create table t as select 'one' as word")
  const { sidecar, systemIdentifier } = await physical.sidecar(t)
  t.match(await sidecar.run('full'), { state: 'succeeded' })
  const ground = groundOf({ ...physical, sidecar }, null)
  const insert = async (word: string) => {
    await cluster.sql(`insert into t values ('${word}')`, 'app')
    return shipped(cluster, sidecar)
  }
  const [first, second] = [await insert('two'), await insert('three')]
  await insert('four')
  const { wal } = sidecar.repository
  const pathOf = async (name: string) => {
    const [object] = await wal.ofSegment(systemIdentifier, name)
    return join(sidecar.directory, 'repository', object?.info.key ?? '')
  }

  await t.test('the backup in one repository, a part of the WAL in another', async (t) => {
    const [a, b] = [await copyRepository(t, sidecar), await copyRepository(t, sidecar)]
    await rm(join(b, 'test', 'backups'), { recursive: true })
    await rm(join(a, relative(join(sidecar.directory, 'repository'), await pathOf(second))))
    const both = await startSidecar(t, cluster, { repositories: { b, a } })
    const folder = await openDirectory(t)
    const to = join(folder, 'restored')
    t.teardown(() => stopRestored(cluster, to))
    t.match(await both.run('restore', wishParams({ to: join(folder, 'alone'), repository: 'a' })), { state: 'failed' })
    const run = await both.run('restore', wishParams({ to }))
    t.match(run, { state: 'succeeded', items: [{ repository: 'b and a' }] }, JSON.stringify(run.failure))
    t.same(await rowsOf(sourceOf(run)), ['four', 'one', 'three', 'two'])
  })

  t.test('damaged WAL ends it, and it goes on when that is mended', async (t) => {
    const path = await pathOf(second)
    const bytes = await readFile(path)
    const broken = Buffer.from(bytes)
    broken[bytes.length - 20] = (broken[bytes.length - 20] ?? 0) ^ 0xff
    await writeFile(path, broken)
    const { run, to } = await ground.restore(t, {})
    t.match(run, {
      state: 'failed',
      failure: { code: 'not-recoverable', message: new RegExp(second), hint: /same command goes on/ },
    })
    t.notOk((await readdir(to)).includes('postmaster.pid'), 'it is stopped')
    t.ok((await readdir(to)).includes('lifeboat-restore-incomplete'), 'nothing that looks healthy')
    const other = await ground.restore(t, { to, target: { kind: 'immediate' } })
    t.match(
      other.run.failure,
      { code: 'conflict', message: /what a restore has left/ },
      'another command has no business there',
    )
    await writeFile(path, bytes)
    const again = await ground.restore(t, { to })
    t.match(again.run, { state: 'succeeded' })
    t.notOk('fetch' in (again.run.items[0]?.measured?.phases ?? {}), 'what was fetched was not fetched again')
    t.same(await rowsOf(sourceOf(again.run)), ['four', 'one', 'three', 'two'])
  })

  t.test('a hole', async (t) => {
    const path = await pathOf(second)
    const bytes = await readFile(path)
    await rm(path)
    t.teardown(() => writeFile(path, bytes))
    const plain = await ground.restore(t, {})
    t.match(plain.run.failure, { code: 'not-recoverable', hint: /--missing-is-end/ })
    const point = await ground.restore(t, { target: { kind: 'name', name: 'never' } })
    t.match(point.run, { state: 'failed', failure: { code: 'not-recoverable' } })
    const accepted = await ground.restore(t, { missingIsEnd: true })
    t.match(accepted.run, { state: 'succeeded' })
    t.same(await rowsOf(sourceOf(accepted.run)), ['one', 'two'])
    t.ok(first < second)
  })

  t.test('a promotion, and either way', async (t) => {
    const stale = join(await openDirectory(t), 'stale')
    await runProgram({ program: 'cp', args: ['-a', join(sidecar.directory, 'repository'), stale] })
    await cluster.server.stop()
    await writeFile(join(cluster.server.dataDirectory, 'recovery.signal'), '')
    await writeFile(join(cluster.server.dataDirectory, 'postgresql.auto.conf'), "restore_command = 'false'\n")
    await cluster.server.start()
    await until(cluster, 'select 1 where not pg_is_in_recovery()') // it lets readers in before
    const name = await insert('five')
    t.equal(name.slice(0, 8), '00000002')
    const rows = async (timeline: number | null) => {
      const { run } = await ground.restore(t, { timeline })
      t.match(run, { state: 'succeeded', items: [{ restored: { timeline: timeline ?? 2 } }] })
      return rowsOf(sourceOf(run))
    }
    t.same(await rows(2), ['five', 'four', 'one', 'three', 'two'])
    t.same(await rows(null), ['five', 'four', 'one', 'three', 'two'])
    t.same(await rows(1), ['four', 'one', 'three', 'two'])
    t.notOk(
      (await readdir(archive)).some((file) => file.startsWith('00000003')),
      'no restored one archives',
    )

    await t.test('a repository that was out of reach for a while comes first', async (t) => {
      const local = join(sidecar.directory, 'repository')
      const other = await physical.sidecar(t, { repositories: { stale, local }, ships: false })
      const grounds = groundOf({ ...physical, sidecar: other.sidecar }, null)
      const { run } = await grounds.restore(t, {})
      t.match(run, { state: 'succeeded', items: [{ repository: 'local', restored: { timeline: 2 } }] })
      t.same(await rowsOf(sourceOf(run)), ['five', 'four', 'one', 'three', 'two'])
    })

    await t.test('a newer backup while it was cut off', async (t) => {
      const path = await pathOf(name)
      const bytes = await readFile(path)
      await writeFile(path, bytes.subarray(0, -20))
      const { run, to } = await ground.restore(t, {})
      t.match(run, { state: 'failed', failure: { code: 'not-recoverable' } })
      t.match(await sidecar.run('full'), { state: 'succeeded' })
      await writeFile(path, bytes)
      const again = await ground.restore(t, { to })
      const [first] = await sidecar.manifests()
      t.match(again.run, { state: 'succeeded', items: [{ backupId: first?.backupId }] })
      t.notOk('fetch' in (again.run.items[0]?.measured?.phases ?? {}), 'it goes on with the one that it has')
      t.same(await rowsOf(sourceOf(again.run)), ['five', 'four', 'one', 'three', 'two'])
    })
  })

  t.test('where its user may not go', async (t) => {
    const closed = join(await scratchDirectory(t), 'closed')
    await mkdir(closed, { mode: 0o700 })
    const { run } = await ground.restore(t, { to: join(closed, 'restored') })
    if (process.getuid?.() === 0)
      t.match(run.failure, { code: 'usage-invalid', message: /cannot enter/, hint: /chmod/ })
    else t.match(run, { state: 'succeeded' })
  })
})
